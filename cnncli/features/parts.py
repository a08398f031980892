"""An extraction that can be killed: blocks on the disk, each whole or absent, and which extraction they are of.

Several processes may write to one folder, each its own blocks; the first one puts them together when all are there.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnncli import atomic
from cnncli.errors import CnnError, UsageError, printable
from cnncli.features.extract import Block
from cnncli.features.feature_set import Array

SUFFIX = ".parts"
PLAN = "plan.json"
PAUSE = 0.2  # seconds between two looks for the blocks of other processes
ROWS = "rows"


def folder_for(out: Path) -> Path:
    """Where the blocks of the feature file `out` are kept until it is written."""
    return out.with_name(out.name + SUFFIX)


@dataclass(frozen=True)
class Parts:
    """The blocks of one extraction. count: how many there will be."""

    folder: Path
    count: int

    def path(self, number: int) -> Path:
        """The file of a block."""
        return self.folder / f"block-{number:06d}.npz"

    def missing(self) -> list[int]:
        """The blocks that are not there yet."""
        return [number for number in range(self.count) if not self.path(number).is_file()]

    def write(self, number: int, block: Block) -> None:
        """Keep a block, whole or not at all. EnvironmentFault when the disk does not allow it."""
        arrays = {f"space{place}": array for place, array in enumerate(block.arrays.values())}

        def fill(temporary: Path) -> None:
            with temporary.open("wb") as file:  # savez would add a suffix to a path
                np.savez(file, allow_pickle=False, **{ROWS: block.rows, **arrays})

        atomic.write_with(self.path(number), fill)

    def rows(self) -> Array:
        """int64 [N], which of the source's images have been read, of all blocks."""
        found = [self._array(number, ROWS) for number in range(self.count)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def chunks(self, space: int) -> Iterator[Array]:
        """The arrays of a space, by its place, block by block."""
        for number in range(self.count):
            yield self._array(number, f"space{space}")

    def wait(self, seconds: float, on_wait: Callable[[int], None] = lambda _left: None) -> None:
        """Until the blocks of all processes are there. CnnError when for so many seconds none was added."""
        left, since = len(self.missing()), time.monotonic()
        while left:
            time.sleep(PAUSE)
            now = len(self.missing())
            if now < left:
                left, since = now, time.monotonic()
                on_wait(left)
            if time.monotonic() - since > seconds:
                raise CnnError(
                    f"{left} of {self.count} blocks of other processes did not come", "the same command goes on", path=str(self.folder)
                )

    def remove(self) -> None:
        """All that this extraction wrote, and nothing else."""
        for number in range(self.count):
            self.path(number).unlink(missing_ok=True)
        (self.folder / PLAN).unlink(missing_ok=True)
        atomic.remove_stale(self.folder)
        with suppress(OSError):  # somebody keeps a file there
            self.folder.rmdir()

    def _array(self, number: int, name: str) -> Array:
        path = self.path(number)
        try:
            with np.load(path, allow_pickle=False) as file:
                found: Array = file[name]
                return found
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CnnError(f"{path} is damaged", "delete it, and the same command computes it again", path=str(path)) from error


def open_parts(out: Path, plan: dict[str, Any], count: int, *, anew: bool) -> tuple[Parts, int]:
    """The blocks for the feature file `out`, and how many of them are there already.

    plan: what decides the numbers; blocks of another plan are refused with a UsageError, or with `anew` removed.
    """
    folder = folder_for(out)
    atomic.make_folder(folder)
    parts, text = Parts(folder, count), json.dumps(plan, indent=1, sort_keys=True)
    there = folder / PLAN
    if there.is_file():
        known = there.read_text(encoding="utf-8", errors="replace")
        if known != text:
            if not anew:
                raise _another_plan(folder, known, plan)
            for stale in (there, *folder.glob("block-??????.npz")):
                stale.unlink(missing_ok=True)
    elif any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty, and no extraction's", "choose another -o, or move it away", path=str(folder))
    if not there.is_file():
        atomic.write_text(there, text)
    return parts, count - len(parts.missing())


def _another_plan(folder: Path, known: str, plan: dict[str, Any]) -> UsageError:
    """Which of its settings differs."""
    try:
        other = json.loads(known)
        names = [name for name in plan if not isinstance(other, dict) or other.get(name) != plan[name]]
    except ValueError:
        names = []
    what = f"with another {printable(names[0])}" if names else "of another kind"
    hint = "--overwrite begins anew; the command it was begun with goes on"
    return UsageError(f"{folder} holds an extraction {what}", hint, path=str(folder))
