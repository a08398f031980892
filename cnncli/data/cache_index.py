"""The index of a cache of decoded images: which record belongs to which file, and what the file was when it was decoded."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnncli import atomic
from cnncli.data.form import Form

FORMAT = 1  # of the folder; whoever changes it, or what decoding gives, makes it one more
PIXELS, INDEX, FORM = "pixels.bin", "index.npz", "form.json"

# One row a file. record: -1 where there is none. bytes, time (ns): of the file. height, width: of the upright image.
ROW = np.dtype([("record", "<i8"), ("bytes", "<i8"), ("time", "<i8"), ("height", "<i4"), ("width", "<i4")])
Rows = npt.NDArray[Any]


class Index(NamedTuple):
    """place: of each file's row. rows: an array of ROW."""

    place: dict[str, int]
    rows: Rows

    @property
    def records(self) -> int:
        """How many records are taken."""
        return int(self.rows["record"].max()) + 1 if len(self.rows) else 0

    def with_rows(self, files: Sequence[str], rows: Rows) -> Index:
        """With the rows of these files, which replace older ones."""
        place = dict(self.place)
        new: list[int] = []
        kept = self.rows.copy()
        for number, file in enumerate(files):
            if file in place:
                kept[place[file]] = rows[number]
            else:
                place[file] = len(kept) + len(new)
                new.append(number)
        return Index(place, np.concatenate([kept, rows[new]]))


EMPTY = Index({}, np.zeros(0, dtype=ROW))


def match(files: Sequence[str], index: Index) -> tuple[Rows, list[int]]:
    """The row of each file; and the files that are not in the index with their present size and time, by number."""
    rows = np.zeros(len(files), dtype=ROW)
    taken = index.rows[["bytes", "time"]].tolist()
    found: list[tuple[int, int]] = []
    missing: list[int] = []
    for number, file in enumerate(files):
        try:
            status = os.stat(file)  # noqa: PTH116 - a hundred thousand of them: a Path each would take longer than the rest
            now = (status.st_size, status.st_mtime_ns)
        except OSError:  # decoding will tell why
            now = (-1, -1)
        place = index.place.get(file)
        if place is not None and taken[place] == now:
            found.append((number, place))
        else:
            rows[number] = (-1, *now, 0, 0)
            missing.append(number)
    rows[[number for number, _ in found]] = index.rows[[place for _, place in found]]
    return rows, missing


def load(folder: Path, form: Form) -> Index:
    """The index of a cache; empty where there is none that can be read, or it is of another form."""
    try:
        if json.loads((folder / FORM).read_text("utf-8")) != _about(form):
            return EMPTY
        with (folder / INDEX).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows, names = stored["rows"], stored["names"].tobytes()
        files = [os.fsdecode(name) for name in names.split(b"\0")] if names else []
        held = (folder / PIXELS).stat().st_size // form.bytes
    except Exception:  # noqa: BLE001 - a damaged index is none: numpy raises what its parsers meet
        return EMPTY
    if rows.dtype != ROW or len(rows) != len(files) or (len(rows) and not 0 <= rows["record"].min() <= rows["record"].max() < held):
        return EMPTY
    return Index({file: place for place, file in enumerate(files)}, rows)


def save(folder: Path, form: Form, index: Index) -> None:
    """Write the index whole or not at all. EnvironmentFault when the disk does not allow it."""
    names = np.frombuffer(b"\0".join(map(os.fsencode, index.place)), dtype=np.uint8)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, rows=index.rows, names=names)

    atomic.write_text(folder / FORM, json.dumps(_about(form)))
    atomic.write_with(folder / INDEX, write)


def _about(form: Form) -> dict[str, Any]:
    return {"format": FORMAT, "form": form.key}
