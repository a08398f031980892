"""The run folder: best.safetensors, last.safetensors, metrics.jsonl, config.toml, curves.png; every file whole or absent."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w
from torch import nn

from cnncli import atomic
from cnncli.engine.events import EpochDone, Event
from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.models import modelfile
from cnncli.models.modelfile import ModelInfo
from cnncli.models.resolve import BEST, LAST

METRICS, CONFIG, CURVES, BAD_IMAGES = "metrics.jsonl", "config.toml", "curves.png", "bad_images.txt"
FILES = (BEST, LAST, METRICS, CONFIG, CURVES, BAD_IMAGES)  # all that a run writes, and all that --overwrite may replace

LONGEST_NAME = 40  # characters of a run folder that names itself, without its number


def choose_folder(out: Path | None, name: str, *, overwrite: bool) -> Path:
    """The folder of a new run: `out`, or the first free runs/NAME-1, runs/NAME-2, ...; nothing is written yet.

    A name that is no plain word, such as a net's notation, is made one. UsageError when `out` already holds something and
    `overwrite` is not given.
    """
    if out is None:
        name = plain_name(name)
        numbers = range(1, 1_000_000)
        return next(folder for number in numbers if not (folder := Path("runs") / f"{name}-{number}").exists())
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", "give a folder", path=str(out))
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"run folder exists: {out}", "use --overwrite, or another --out", path=str(out))
    return out


def plain_name(name: str) -> str:
    """`name` as a folder's: letters, digits, dots and single dashes, at most 40, with its last word (the data's) kept whole."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "run"
    if len(plain) <= LONGEST_NAME or "-" not in plain:
        return plain[:LONGEST_NAME]
    start, _, last = plain.rpartition("-")
    last = last[: LONGEST_NAME // 2]
    return start[: LONGEST_NAME - len(last) - 1].rstrip("-.") + "-" + last


class Run:
    """Writes a run folder from the events of a training."""

    def __init__(self, folder: Path, info: ModelInfo, settings: dict[str, Any]) -> None:
        """Make the folder, remove what an earlier run left there under our names, and write config.toml.

        settings: tables of values by name, as they go into config.toml.
        """
        self.folder = folder
        self.info = info
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic.remove_stale(folder)
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write the run folder {folder}: {error.strerror}", "choose another --out", path=str(folder)
            ) from error
        atomic.write_text(folder / CONFIG, tomli_w.dumps(settings))

    def list_bad(self, lines: list[str]) -> None:
        """Write bad_images.txt, a line for each image that was left out; nothing for none."""
        if lines:
            atomic.write_text(self.folder / BAD_IMAGES, "".join(f"{line}\n" for line in lines))

    def record(self, event: Event, model: nn.Module) -> None:
        """After an epoch: append its row to metrics.jsonl, write last.safetensors, and best.safetensors if it is the best."""
        if not isinstance(event, EpochDone):
            return
        row = {key: value for key, value in asdict(event).items() if value is not None}
        self._append(json.dumps(row, allow_nan=False) + "\n")
        info = replace(self.info, metrics={key: value for key, value in row.items() if key not in ("best", "seconds", "images_per_second")})
        modelfile.save(self.folder / LAST, model, info)
        if event.best:
            modelfile.save(self.folder / BEST, model, info)

    def _append(self, line: str) -> None:
        path = self.folder / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write {path}: {error.strerror}", "free space, or choose another --out", path=str(path)
            ) from error


def check_writable(folder: Path) -> None:
    """EnvironmentFault now rather than after the first epoch, when the run folder cannot be made where it should be."""
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "" if parent.is_dir() else ": it is a file"
        raise EnvironmentFault(f"cannot write in {parent.resolve()}{reason}", "choose another --out", path=str(parent))


def source_of(run: Path) -> str:
    """The --data that a run folder was trained on, from its config.toml. InputError when that cannot be read."""
    import tomllib

    try:
        return str(tomllib.loads((run / CONFIG).read_text(encoding="utf-8"))["data"]["source"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / CONFIG} does not say which data was used", "add --data SOURCE", path=str(run / CONFIG)) from error
