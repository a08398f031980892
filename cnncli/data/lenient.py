"""A folder or a list that a training refuses, opened all the same, so that an audit can say what is wrong with it."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from cnncli.data.classes import some
from cnncli.data.folder import SPLIT_NAMES
from cnncli.data.listed import COLUMNS, SEPARATORS
from cnncli.data.source import FOLDER_TEST_FRACTION, FOLDER_VAL_FRACTION, Sample, Source
from cnncli.data.split import SPLITS, complete
from cnncli.data.walk import Walk
from cnncli.errors import InputError


def open_anyway(
    spec: str,
    opened: Callable[[], Source],
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    include_hidden: bool = False,
) -> tuple[Source, str]:
    """(the source that `opened` gives, "") or, where that refuses a folder or a list with images, (what lies there, why it was refused).

    InputError as `opened` raises it where there is nothing to look at.
    """
    try:
        return opened(), ""
    except InputError as error:
        root = Path(spec)
        if not spec or not root.exists():
            raise
        val = FOLDER_VAL_FRACTION if val_fraction is None else val_fraction
        test = FOLDER_TEST_FRACTION if test_fraction is None else test_fraction
        found = _as_it_lies(root, val, test, include_hidden=include_hidden) if root.is_dir() else _as_it_reads(root, val, test)
        if found is None or not any(found.splits.values()):
            raise
        return found, str(error)


def _as_it_lies(root: Path, val_fraction: float, test_fraction: float, *, include_hidden: bool) -> Source:
    """Every class folder of every split is a class, whatever its name and whichever splits have it; nothing is refused."""
    walk = Walk(root, include_hidden)
    given, beside, others = _layout(walk)
    found: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in SPLITS if split in given}
    for split, folders in given.items():
        for folder in folders:
            found[split][PurePosixPath(folder).name] += walk.images(folder)
    classes = tuple(sorted({name for names in found.values() for name in names}))
    label = {name: index for index, name in enumerate(classes)}
    splits = {split: tuple(Sample(path, label[name]) for name in sorted(names) for path in names[name]) for split, names in found.items()}
    splits, derived = complete(splits, val_fraction=val_fraction, test_fraction=test_fraction)
    notices = walk.notices()
    if beside:
        notices += (f"ignored {len(beside)} images that are in no class folder: {some(beside)}",)
    if others:
        notices += (f"ignored folders beside the splits: {some(others)}",)
    name = root.resolve().name or "root"
    return Source(name, classes, splits, notices, derived, lambda sample: root / sample.path)


def _as_it_reads(path: Path, val_fraction: float, test_fraction: float) -> Source | None:
    """Every line of a list that names a path and a label, whether or not the file is there; None where it is no such list."""
    rows: list[tuple[str, str, str]] = []
    lost: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            first = stream.readline()
            separator = max(SEPARATORS, key=first.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
            names = [COLUMNS.get(cell.strip().casefold(), "") for cell in next(reader, [])]
            if not {"path", "label"} <= set(names):
                return None
            for cells in reader:
                row = dict(zip(names, cells, strict=False))
                split = SPLIT_NAMES.get(row.get("split", "train").strip().casefold(), "")
                if split and row.get("path", "").strip() and row.get("label", "").strip() and "\0" not in row["path"]:
                    rows.append((row["path"], row["label"].strip(), split))
                elif any(cell.strip() for cell in cells):
                    lost.append(f"line {reader.line_num}")
    except (OSError, csv.Error):
        return None
    classes = tuple(sorted({label for _, label, _ in rows}))
    index = {name: number for number, name in enumerate(classes)}
    given = {split: tuple(Sample(file, index[label]) for file, label, own in rows if own == split) for split in SPLITS}
    filled = {split: samples for split, samples in given.items() if samples}
    splits, derived = complete(filled, val_fraction=val_fraction, test_fraction=test_fraction)
    notices = (f"ignored {len(lost)} lines without a path, a label or a known split: {some(lost)}",) if lost else ()
    return Source(path.stem, classes, splits, notices, derived, lambda sample: path.parent / sample.path)


def _layout(walk: Walk) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """({split: its class folders}, images in no class folder, folders beside the splits)."""
    folders, beside = walk.folders_and_images("")
    inside = {folder: walk.folders_and_images(folder) for folder in folders if folder.casefold() in SPLIT_NAMES}
    splits = [folder for folder, (below, images) in inside.items() if len(inside) == len(folders) or (below and not images)]
    if not splits:
        return {"train": folders}, beside, []
    given: defaultdict[str, list[str]] = defaultdict(list)  # `val` and `valid` side by side are read as one
    for folder in splits:
        below, images = inside[folder]
        given[SPLIT_NAMES[folder.casefold()]] += below
        beside += images
    return dict(given), beside, [folder for folder in folders if folder not in splits]
