"""Run folders as they lie on the disk: what was trained on what, how far it came, what was reached.

Everything is read with care: a run may be old, half written, damaged, or no run at all.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncli.engine.events import EpochDone
from cnncli.errors import InputError

CONFIG, METRICS, RESULT, LOCK = "config.toml", "metrics.jsonl", "result.json", ".lock"
FINISHED, RUNNING, STOPPED = "finished", "running", "stopped"
UNKNOWN = "-"
HINT = "give a run folder that `cnn train` made"


@dataclass(frozen=True)
class RunRecord:
    """One run folder, read.

    net, data: `-` where the settings do not say. state: finished, running or stopped; reason: why it ended early, if it did.
    settings: config.toml, whatever it holds. epochs: the rows of metrics.jsonl; what is not recorded is NaN or 0.
    best: the best epoch; None before the first. seconds: of the whole training where it has ended, else of the training steps alone.
    changed: when an epoch (or else the settings) was last written, in seconds since 1970. complaints: what could not be read.
    """

    folder: Path
    net: str
    data: str
    state: str
    reason: str
    settings: dict[str, Any]
    epochs: tuple[EpochDone, ...]
    best: EpochDone | None
    seconds: float
    changed: float
    complaints: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder, also where it was given as `.`."""
        return self.folder.name or self.folder.resolve().name

    @property
    def planned(self) -> int | None:
        """The epochs that were asked for; None where steps or minutes end the training, or it is not recorded."""
        train, finetune = self.settings.get("train"), self.settings.get("finetune")
        epochs = train.get("epochs") if isinstance(train, dict) else None
        if isinstance(finetune, dict):  # its stages together
            epochs = finetune.get("planned")
        return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) else None

    @property
    def monitor(self) -> str:
        """The figure that chose the best epoch; before it could be chosen, it was the validation accuracy."""
        train = self.settings.get("train")
        found = train.get("monitor") if isinstance(train, dict) else None
        return found if isinstance(found, str) else "val_accuracy"


def is_run(folder: Path) -> bool:
    """Whether the folder holds what a run folder holds from its beginning."""
    return (folder / CONFIG).is_file() or (folder / METRICS).is_file()


def read_run(folder: Path) -> RunRecord:
    """Read one run folder. InputError when it is none, or its settings cannot be read."""
    settings = _settings(folder)
    epochs, complaints = _epochs(folder / METRICS)
    result, complaint = _result(folder / RESULT)
    best = next((row for row in reversed(epochs) if row.best), None) or _row(result.get("best")) or (epochs[-1] if epochs else None)
    seconds = _number(result.get("seconds"), sum(row.seconds for row in epochs))
    data = settings.get("data")
    source = data.get("source") if isinstance(data, dict) else data
    running = _is_locked(folder / LOCK)
    return RunRecord(
        folder,
        net=_word(settings.get("net")),
        data=_word(source),
        state=RUNNING if running else FINISHED if result.get("finished") is True else STOPPED,
        reason="" if running or not isinstance(result.get("reason"), str) else result["reason"],
        settings=settings,
        epochs=epochs,
        best=best,
        seconds=seconds,
        changed=_changed(folder),
        complaints=complaints + complaint,
    )


def find_runs(places: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """The runs that are, or lie directly in, the given folders, each once; and a line for all that could not be read."""
    found: dict[Path, RunRecord] = {}
    complaints: list[str] = []
    for place in places:
        try:
            folders = _candidates(place)
        except OSError as error:
            complaints.append(f"{place} cannot be read: {error.strerror or error}")
            continue
        for folder in folders:
            if (real := folder.resolve()) in found:
                continue
            try:
                found[real] = read_run(folder)
                complaints += found[real].complaints
            except InputError as error:
                complaints.append(error.message)
    return list(found.values()), complaints


def differing(runs: Sequence[RunRecord]) -> dict[str, tuple[Any, ...]]:
    """The settings whose values differ, a value a run, None where a run has none; the order is that of the files.

    Every setting is a flag of its own, so its name does without its table's where only one table has it. A table that a run lacks as a
    whole was not recorded then, and its settings are not compared with that run; only [set], a net's own settings, may be empty.
    """
    flat = [_flat(run.settings) for run in runs]
    leaves = [Counter(path[-1] for path in settings) for settings in flat]
    names = {path: ".".join(path[-1:] if all(leaf[path[-1]] <= 1 for leaf in leaves) else path) for s in flat for path in s}
    tables = [{path[:-1] for path in settings} | {("set",)} for settings in flat]
    values = [{names[path]: value for path, value in settings.items()} for settings in flat]
    places: dict[str, set[tuple[str, ...]]] = {}
    for path, name in names.items():
        places.setdefault(name, set()).add(path[:-1])
    differences = {}
    for name, homes in places.items():
        compared = [own.get(name) for own, has in zip(values, tables, strict=True) if name in own or homes & has]
        if any(value != compared[0] or isinstance(value, bool) is not isinstance(compared[0], bool) for value in compared):
            differences[name] = tuple(own.get(name) for own in values)
    return differences


def _candidates(place: Path) -> list[Path]:
    """The place itself where it is a run, else the folders in it, in natural order; a hidden folder is nobody's run."""
    if is_run(place):
        return [place]
    inside = [entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(inside, key=lambda entry: natural(entry.name))


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that puts lenet5-2 before lenet5-10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", name))


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} is no run folder: it has no {CONFIG}", HINT, path=str(folder)) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}", HINT, path=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", HINT, path=str(path)) from error
    if not isinstance(settings.get("train"), dict) and not isinstance(settings.get("net"), str):
        raise InputError(f"{folder} is no run folder: its {CONFIG} has neither net nor [train]", HINT, path=str(folder))
    return settings


def _epochs(path: Path) -> tuple[tuple[EpochDone, ...], tuple[str, ...]]:
    """The rows by epoch, the last of each, and what could not be read. A last line that breaks off is being written, or never was."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    except OSError as error:
        return (), (f"{path} cannot be read: {error.strerror or error}",)
    rows: dict[int, EpochDone] = {}
    broken = []
    for number, line in enumerate(lines, 1):
        row = _row(_json(line))
        if row is not None:
            rows.pop(row.epoch, None)  # a resumed run may go through an epoch again
            rows[row.epoch] = row
        elif line.strip() and number < len(lines):
            broken.append(number)
    complaints = (f"{path}: line {broken[0]} is no epoch ({len(broken)} such line{'s' if len(broken) > 1 else ''})",) if broken else ()
    return tuple(rows[epoch] for epoch in sorted(rows)), complaints


def _result(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        found = _json(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
    except OSError as error:
        return {}, (f"{path} cannot be read: {error.strerror or error}",)
    return (found, ()) if isinstance(found, dict) else ({}, (f"{path} is damaged",))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _row(value: Any) -> EpochDone | None:
    """A line of metrics.jsonl. Fields that it does not have, or that are no numbers, are unknown; without its number it is no epoch."""
    if not isinstance(value, dict) or not isinstance(epoch := value.get("epoch"), int) or isinstance(epoch, bool) or epoch < 1:
        return None

    def optional(name: str) -> float | None:
        found = _number(value.get(name), math.nan)
        return None if math.isnan(found) and value.get(name) is None else found

    return EpochDone(
        epoch=epoch,
        step=int(_number(value.get("step"), 0, finite=True)),
        train_loss=_number(value.get("train_loss"), math.nan),
        train_accuracy=_number(value.get("train_accuracy"), math.nan),
        val_loss=optional("val_loss"),
        val_accuracy=optional("val_accuracy"),
        val_top5=optional("val_top5"),
        val_macro_f1=optional("val_macro_f1"),
        val_balanced_accuracy=optional("val_balanced_accuracy"),
        lr=_number(value.get("lr"), math.nan),
        seconds=_number(value.get("seconds"), 0, finite=True),
        images_per_second=_number(value.get("images_per_second"), math.nan),
        best=value.get("best") is True,
        skipped=int(_number(value.get("skipped"), 0, finite=True)),
    )


def _number(value: Any, otherwise: float, *, finite: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    try:
        number = float(value)
    except OverflowError:
        return otherwise
    return otherwise if finite and not math.isfinite(number) else number


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else UNKNOWN


def _changed(folder: Path) -> float:
    for path in (folder / METRICS, folder / CONFIG):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _is_locked(path: Path) -> bool:
    """Whether a living process holds the run's lock. The shared lock taken to find out is given back at once."""
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ImportError):  # no lock file; or a system without such locks
        return False
    return False


def _flat(settings: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Settings by their path: ("train", "seed"). A word of --set, which is the net's own, goes by ("set", NAME)."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, (*above, key))
        else:
            flat[*above, key] = value
    return flat
