"""The run folder: best, last and state .safetensors, metrics.jsonl, config.toml, result.json, curves.png; every file whole or absent."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w
from torch import Tensor

from cnncli import atomic
from cnncli.engine.events import EpochDone, Event, Finished, Paused, Started
from cnncli.engine.kept_epochs import drop_epochs, epoch_file
from cnncli.engine.state import BEFORE, STATE, State, drop_damaged, save_state
from cnncli.engine.training import Training
from cnncli.errors import EnvironmentFault, InputError, UsageError, printable
from cnncli.models import modelfile
from cnncli.models.modelfile import ModelInfo
from cnncli.models.resolve import BEST, LAST

METRICS, CONFIG, CURVES, RESULT = "metrics.jsonl", "config.toml", "curves.png", "result.json"
BAD_IMAGES, BAD_BATCH, LOCK = "bad_images.txt", "bad_batch.txt", ".lock"
# All that a run, or a report about it, writes, and all that --overwrite may replace.
FILES = (BEST, LAST, STATE, BEFORE, METRICS, CONFIG, CURVES, RESULT, BAD_IMAGES, BAD_BATCH, "report.html")
NO_METRICS = {"best", "seconds", "images_per_second", "skipped", "step", "lr"}  # of an epoch's row: they are not about the model

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
    if out.is_dir():
        refuse_in_use(out)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"run folder exists: {out}", "use --resume or --overwrite, or another --out", path=str(out))
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
    """Writes a run folder from the events of a training; in every process but the first it only takes part in gathering what is shared."""

    def __init__(self, folder: Path, info: ModelInfo, settings: dict[str, Any], data: dict[str, Any], *, writes: bool = True) -> None:
        """settings: tables of values by name, as they go into config.toml; of [keep] keep_every is heeded. data: what the images are, to be
        compared by a resume.
        """
        self.folder, self.info, self.settings, self.data, self.writes = folder, info, settings, data, writes
        self.keep_every: int | None = settings.get("keep", {}).get("keep_every")
        self.lock = Lock(folder)

    def __enter__(self) -> None:
        """Whatever ends the work within, others may write here afterwards."""

    def __exit__(self, *_: object) -> None:
        """See above."""
        self.end()

    def begin(self, history: Sequence[EpochDone] | None = None) -> None:
        """Make the folder, lock it, and write config.toml. A new run removes what an earlier one left there under our names; one that goes
        on, with the epochs of `history`, brings the log back to these.

        InputError when another process writes there; EnvironmentFault when it cannot be written.
        """
        if not self.writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.take()
            atomic.remove_stale(self.folder)
            (self.folder / RESULT).unlink(missing_ok=True)
            if history is None:
                for name in FILES:
                    (self.folder / name).unlink(missing_ok=True)
            drop_epochs(self.folder, -1 if history is None else len(history))
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write the run folder {self.folder}: {error.strerror}", "choose another --out", path=str(self.folder)
            ) from error
        atomic.write_text(self.folder / CONFIG, tomli_w.dumps(self.settings))
        if history is not None:
            drop_damaged(self.folder)
            atomic.write_text(self.folder / METRICS, "".join(map(_line, history)))

    def end(self) -> None:
        """Let others write here."""
        self.lock.release()

    def list_bad(self, lines: list[str]) -> None:
        """Write bad_images.txt, a line for each image that was left out; nothing for none."""
        if lines and self.writes:
            atomic.write_text(self.folder / BAD_IMAGES, "".join(f"{line}\n" for line in lines))

    def list_batch(self, paths: list[str]) -> Path:
        """Write bad_batch.txt: the images of the batch that could not be learned from."""
        atomic.write_text(self.folder / BAD_BATCH, "".join(f"{path}\n" for path in paths))
        return self.folder / BAD_BATCH

    def record(self, event: Event, training: Training) -> None:
        """At the start and at a pause: save the state. After an epoch: its row, last.safetensors, best.safetensors if it is the best, the
        model to be kept if it is one, and the state. At the end: result.json. All processes must call it with the same events.
        """
        if isinstance(event, Started) and self.keep_every and (event.epoch, event.step) == (1, 0):
            self._keep(0, training.weights(), self.info)
        if isinstance(event, EpochDone):
            self._record_epoch(event, training)
        if isinstance(event, Started | EpochDone | Paused):
            self.save_state(training)
        if isinstance(event, Finished) and self.writes:
            result = {"finished": True, "reason": event.reason, "seconds": event.seconds, "best": _row(event.best)}
            atomic.write_text(self.folder / RESULT, json.dumps(result, allow_nan=False, indent=2) + "\n")

    def save_state(self, training: Training) -> None:
        """Write state.safetensors, once more if the disk fails."""
        facts, tensors = training.state()
        if self.writes:
            state = State(self.settings, self.data, facts, tensors)
            _twice(lambda: save_state(self.folder, state))

    def _record_epoch(self, event: EpochDone, training: Training) -> None:
        weights = training.weights()
        if not self.writes:
            return
        row = _row(event)
        self._append(_line(event))
        info = replace(self.info, metrics={key: value for key, value in row.items() if key not in NO_METRICS})
        _twice(lambda: modelfile.save_weights(self.folder / LAST, weights, info))
        if event.best:
            _twice(lambda: modelfile.save_weights(self.folder / BEST, weights, info))
        if self.keep_every and event.epoch % self.keep_every == 0:
            self._keep(event.epoch, weights, info)

    def _keep(self, epoch: int, weights: dict[str, Tensor], info: ModelInfo) -> None:
        if self.writes:
            path = epoch_file(self.folder, epoch)
            atomic.make_folder(path.parent)
            _twice(lambda: modelfile.save_weights(path, weights, info))

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


def _twice(write: Callable[[], None]) -> None:
    """A network disk may fail for a moment; what was there stays until the writing has succeeded."""
    try:
        write()
    except EnvironmentFault as error:
        if "disk full" in error.message:
            raise
        write()


def _row(event: EpochDone) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value is not None}


def _line(event: EpochDone) -> str:
    return json.dumps(_row(event), allow_nan=False) + "\n"


class Lock:
    """One process at a time writes a run folder. The system releases the lock of a process that has died."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._descriptor: int | None = None

    def take(self) -> None:
        """InputError, naming the process, when another one has it."""
        descriptor: int | None = None
        try:
            while True:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                self._lock(descriptor)
                if _is_at(descriptor, self.path):
                    break
                os.close(descriptor)  # whoever had it removed it between the two lines: what is locked has no name any more
                descriptor = None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
            self._descriptor = descriptor
        finally:
            if self._descriptor is None:
                self._give_up(descriptor)

    def _give_up(self, descriptor: int | None) -> None:
        """Another process has it, or a signal came between: nothing of ours is left."""
        with suppress(OSError, ImportError):
            if descriptor is None:  # the file may have been made, and nobody told us its number
                descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, self.path):
                    self.path.unlink()
            finally:
                os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows has no such locks
        except BlockingIOError:
            holder = _holder(self.path)
            raise InputError(
                f"run is in use by {holder}: {self.path.parent}", "wait for its end, or choose another --out", path=str(self.path.parent)
            ) from None
        except OSError:
            pass  # a file system without locks

    def release(self) -> None:
        """Let others have it, and leave nothing behind."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def refuse_in_use(folder: Path) -> None:
    """InputError when a living process is writing the run folder."""
    if (folder / LOCK).exists():
        lock = Lock(folder)
        lock.take()
        lock.release()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"pid {int(found['pid'])} on host {printable(str(found['host']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


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
