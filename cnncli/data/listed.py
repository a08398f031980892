"""A list of images as a source: a CSV or TSV file with a line `path,label[,split]` for each.

The first line names the columns, in any order: `path` (or file, filename, image), `label` (or class) and, where the list gives
splits, `split` (or set). Without such a line, two or three columns are taken for path, label and split if the first path exists.
Values are parted by commas, tabs or semicolons, and may stand in double quotes. Further columns are kept in `Source.columns`.
Paths are relative to the list's folder, or absolute. Splits are train, val (valid, validation) and test, in any case.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cnncli.data.classes import refuse_twins, some
from cnncli.data.folder import SPLIT_NAMES
from cnncli.data.source import Sample, Source
from cnncli.data.split import SPLITS, complete
from cnncli.errors import InputError, printable
from cnncli.sniff import sniff, what_is_wrong

SUFFIXES = (".csv", ".tsv")
FORM = "a list with the columns path,label or path,label,split, parted by commas, tabs or semicolons"

COLUMNS = {
    **dict.fromkeys(("path", "file", "filename", "image"), "path"),
    **dict.fromkeys(("label", "class"), "label"),
    **dict.fromkeys(("split", "set"), "split"),
}
SEPARATORS = ",\t;"


@dataclass
class _Rows:
    """What has been read so far. lines: the line on which each path stands; first: the line of the first sample of each split and class."""

    samples: list[tuple[str, str, str]] = field(default_factory=list)  # (path, label, split)
    lines: dict[str, int] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    first: dict[tuple[str, str], int] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)


def open_list(path: Path, *, val_fraction: float, test_fraction: float) -> Source:
    """The list `path` as a source. Every file in it has to exist; no image is decoded.

    Splits that the list gives stay as they are; missing ones are derived from train, if their fraction is above 0.
    InputError, with file and line: no such image, a split that is none, an empty path or label, an image that is listed twice,
    a line with too few or too many values; and fewer than two classes, or a class in val or test that train lacks.
    """
    kind = sniff(path)
    if kind not in ("text", "unknown"):
        raise InputError(f"{printable(path)} is not a list of images: {what_is_wrong(kind)}", f"expected {FORM}", path=str(path))
    rows = _read(path)
    refuse_twins(sorted(set(rows.labels.values())), str(path), what="labels")
    used = {split: {label for _, label, own in rows.samples if own == split} for split in SPLITS}
    _check(path, rows, used)
    classes = tuple(sorted(used["train"] or set.union(*used.values())))
    index = {name: number for number, name in enumerate(classes)}
    given = {split: tuple(Sample(file, index[label]) for file, label, own in rows.samples if own == split) for split in SPLITS}
    splits, derived = complete({s: found for s, found in given.items() if found}, val_fraction=val_fraction, test_fraction=test_fraction)
    folder = path.parent
    return Source(path.stem, classes, splits, notices=(), derived=derived, locate=lambda sample: folder / sample.path, columns=rows.columns)


def _check(path: Path, rows: _Rows, used: dict[str, set[str]]) -> None:
    """Enough classes to tell anything apart, and none in val or test that was not trained on."""
    names = set.union(*used.values())
    if len(names) < 2:
        told = f"{len(rows.samples)} images" + (f", all of class {some(names)}" if names else "")
        raise InputError(f"{printable(path)} lists {told}", "a list needs images of two or more classes", path=str(path))
    for split in ("val", "test"):
        extra = sorted(used[split] - used["train"]) if used["train"] else []
        if extra:
            raise _wrong(path, rows.first[split, extra[0]], f"class {some(extra)} is in {split}, but not in train", "rename or remove it")


def _read(path: Path) -> _Rows:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            start = stream.readline()
            if start.startswith(("\udcff\udcfe", "\udcfe\udcff")):
                raise _wrong(path, 1, "it is UTF-16", "save the list as UTF-8")
            stream.seek(0)
            separator = _separator(path, start)
            return _rows(path, _lines(path, csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=True)))
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror}", "check its permissions", path=str(path)) from error


def _separator(path: Path, start: str) -> str:
    """The separator under which the first line names columns, else the most frequent one, else the one that the file's name says."""
    for separator in SEPARATORS:
        if any(cell.strip(' "\r\n').casefold() in COLUMNS for cell in start.split(separator)) and separator in start:
            return separator
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    return max(SEPARATORS, key=lambda separator: (start.count(separator), separator == usual))


def _lines(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, values) of each row; empty lines are left out."""
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _wrong(path, line, f"it cannot be taken apart ({error})", "look at its quotes") from error
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1  # type: ignore[attr-defined]


def _rows(path: Path, lines: Iterator[tuple[int, list[str]]]) -> _Rows:
    rows = _Rows()
    first = next(lines, None)
    if first is None:
        raise InputError(f"{printable(path)} lists no images", f"expected {FORM}", path=str(path))
    line, cells = first[0], [cell.strip() for cell in first[1]]
    places = _columns(path, line, cells)
    width = len(cells)
    if places is None:
        places = {name: number for number, name in enumerate(("path", "label", "split")[:width])}
        _take(path, line, cells, places, rows)
        more: dict[str, int] = {}
    else:
        more = {name: number for number, name in enumerate(cells) if number not in places.values()}
    rows.columns = {name: {} for name in more}
    for line, cells in lines:
        if len(cells) != width:
            raise _wrong(path, line, f"{len(cells)} values, but the first line has {width}", "put values with separators in double quotes")
        sample = _take(path, line, cells, places, rows)
        for name, number in more.items():
            rows.columns[name][sample] = cells[number].strip()
    return rows


def _columns(path: Path, line: int, cells: list[str]) -> dict[str, int] | None:
    """Which value is the path, the label, the split; None where the first line is an image already."""
    places: dict[str, int] = {}
    for number, cell in enumerate(cells):
        name = COLUMNS.get(cell.casefold())
        if name in places:
            raise _wrong(path, line, f"two columns for the {name}: {printable(cells[places[name]])}, {printable(cell)}", "rename one")
        if name:
            places[name] = number
    if "path" in places and "label" in places:
        if len(set(cells)) < len(cells):
            twice = next(cell for cell in cells if cells.count(cell) > 1)
            raise _wrong(path, line, f"two columns are named {printable(twice)!r}", "rename one")
        return places
    if 2 <= len(cells) <= 3 and not places and not _missing(path.parent, cells[0]):
        return None
    told = ", ".join(printable(cell) for cell in cells[:5])
    raise _wrong(path, line, f"it should name the columns path and label, and has {told[:100]}", f"expected {FORM}")


def _take(path: Path, line: int, cells: list[str], places: dict[str, int], rows: _Rows) -> str:
    """Add a row; its path within the source."""
    written, label = cells[places["path"]], cells[places["label"]].strip()
    if not written.strip() or not label:
        raise _wrong(path, line, f"empty {'label' if not label else 'path'}", "fill it in, or remove the line")
    word = cells[places["split"]].strip() if "split" in places else "train"
    split = SPLIT_NAMES.get(word.casefold())
    if split is None:
        raise _wrong(path, line, f"split {printable(word)!r}", "choose from train, val (valid, validation), test")
    reason = _missing(path.parent, written)
    if reason and written != written.strip():  # a space at an end is part of a file's name, or it slipped into the list
        written = written.strip()
        reason = _missing(path.parent, written)
    if reason:
        raise _wrong(path, line, f"{printable(written)}: {reason}", f"paths are relative to {printable(path.parent)}, or absolute")
    sample = PurePosixPath(os.path.normpath(written)).as_posix()
    if sample in rows.lines:
        if rows.labels[sample] != label:
            labels = f"{printable(rows.labels[sample])} in line {rows.lines[sample]} and {printable(label)} here"
            raise _wrong(path, line, f"{printable(written)} has two labels, {labels}", "keep one of them")
        raise _wrong(path, line, f"{printable(written)} is listed twice, in line {rows.lines[sample]} too", "remove one of them")
    rows.lines[sample], rows.labels[sample] = line, label
    rows.first.setdefault((split, label), line)
    rows.samples.append((sample, label, split))
    return sample


def _missing(folder: Path, written: str) -> str:
    """Why the path in a list is not that of a file; empty when it is."""
    place = os.path.join(folder, written)  # noqa: PTH118 - a hundred thousand of them
    if "\0" not in written and os.path.isfile(place):  # noqa: PTH113
        return ""
    kind = sniff(place)
    return what_is_wrong("missing" if kind in ("unreadable", "unknown") else kind)


def _wrong(path: Path, line: int, what: str, hint: str) -> InputError:
    return InputError(f"{printable(path)} line {line}: {what}", hint, path=str(path))
