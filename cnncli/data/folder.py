"""A folder of images as a source.

Two layouts: FOLDER/CLASS/*.jpg, or FOLDER/train/CLASS/*.jpg with val (also valid, validation) and test beside train. A folder that
holds only split names is split by them. Folders inside a class folder belong to the class. Classes are in the order of their names,
and those of the splits are matched by name.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cnncli.data.classes import refuse_twins, some
from cnncli.data.source import Sample, Source
from cnncli.data.split import SPLITS, complete
from cnncli.data.walk import Walk
from cnncli.errors import InputError, printable
from cnncli.sniff import sniff, what_is_wrong

LAYOUT = "a folder FOLDER/CLASS/*.jpg with two or more classes, or FOLDER/train/CLASS/*.jpg with val/ and test/ beside train/"

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

# {split: {class: its images}}
Found = dict[str, dict[str, list[str]]]


def open_folder(
    root: Path,
    *,
    val_fraction: float,
    test_fraction: float,
    include_hidden: bool = False,
    allow_empty: bool = False,
) -> Source:
    """The folder `root` as a source. No image is decoded.

    A given split stays as it is; missing ones are derived from train, if their fraction is above 0 (see cnncli.data.split).
    A class without a folder or an image in val or test keeps its index and has 0 samples there.
    InputError, in one line: no folder, no images, fewer than two classes or images, an empty class in train (unless `allow_empty`),
    a class in val or test that train lacks, names that differ only in case or Unicode form, train beside folders that are no splits.
    """
    if not root.is_dir():
        kind = sniff(root)
        reason = "it is a file" if kind not in {"missing", "permission denied", "unreadable"} else what_is_wrong(kind)
        raise InputError(f"{printable(root)} is not a folder of images: {reason}", f"expected {LAYOUT}", path=str(root))
    walk = Walk(root, include_hidden)
    given, beside = _layout(root, walk)
    found: Found = {split: {PurePosixPath(folder).name: walk.images(folder) for folder in folders} for split, folders in given.items()}
    _check_images(root, found, beside)
    classes = _classes(root, found, allow_empty=allow_empty)
    label = {name: index for index, name in enumerate(classes)}
    splits = {
        split: tuple(Sample(path, label[name]) for name in sorted(found[split]) for path in found[split][name])
        for split in SPLITS
        if split in found
    }
    splits, derived = complete(splits, val_fraction=val_fraction, test_fraction=test_fraction)
    notices = walk.notices()
    if beside:
        notices += (f"ignored {len(beside)} images that are in no class folder: {some(beside)}",)
    return Source(
        name=root.resolve().name or "root",
        classes=classes,
        splits=splits,
        notices=notices,
        derived=derived,
        locate=lambda sample: root / sample.path,
    )


def _layout(root: Path, walk: Walk) -> tuple[dict[str, list[str]], list[str]]:
    """The class folders of each split ("train" alone when there are no split folders), and images beside class folders."""
    folders, beside = walk.folders_and_images("")
    split_folders = [folder for folder in folders if folder.casefold() in SPLIT_NAMES]
    if not split_folders:
        return {"train": folders}, beside
    inside = {folder: walk.folders_and_images(folder) for folder in split_folders}
    if len(split_folders) < len(folders):
        # `train` may be a class beside `bus` and `car`, if it holds images as they do. Holding folders alone, it is a split.
        splits = [folder for folder, (below, images) in inside.items() if below and not images]
        if splits:
            others = [folder for folder in folders if folder not in split_folders]
            raise InputError(
                f"{printable(root)} holds split folders ({some(splits)}) beside others ({some(others)})",
                f"move the others away; expected {LAYOUT}",
                path=str(root),
            )
        return {"train": folders}, beside
    given: dict[str, list[str]] = {}
    for folder, (below, images) in inside.items():
        split = SPLIT_NAMES[folder.casefold()]
        if split in given:
            twins = [name for name in split_folders if SPLIT_NAMES[name.casefold()] == split]
            raise InputError(f"{printable(root)} has the split {split} twice: {some(twins)}", "keep one of them", path=str(root))
        given[split] = below
        beside += images
    if not any(given.values()):
        raise InputError(
            f"{printable(root)}: the split folders {some(split_folders)} hold no class folders ({len(beside)} images without a class)",
            f"expected {LAYOUT}",
            path=str(root),
        )
    return given, beside


def _check_images(root: Path, found: Found, beside: list[str]) -> None:
    """Enough classes and images to tell anything apart."""
    names = {name for classes in found.values() for name in classes}
    count = sum(len(images) for classes in found.values() for images in classes.values())
    where, hint = printable(root), f"expected {LAYOUT}"
    if not names and beside:
        raise InputError(f"{where} has {len(beside)} images but no class folders", hint, path=str(root))
    if count == 0:
        raise InputError(f"{where} has 0 images in {len(names)} class folders", hint, path=str(root))
    if len(names) == 1:
        raise InputError(f"{where} has one class only: {some(names)} ({count} images)", hint, path=str(root))
    if count == 1:
        raise InputError(f"{where} has one image only, in {len(names)} class folders", hint, path=str(root))


def _classes(root: Path, found: Found, *, allow_empty: bool) -> tuple[str, ...]:
    """The class names in order: those of train, or of all splits together when there is no train."""
    where = printable(root)
    refuse_twins(sorted({name for classes in found.values() for name in classes}), str(root))
    train = found.get("train")
    if train is None:
        return tuple(sorted({name for classes in found.values() for name in classes}))
    for split, classes in found.items():
        extra = sorted(set(classes) - set(train))
        if extra:
            raise InputError(f"{where}/{split} has classes that train lacks: {some(extra)}", "rename, move or remove them", path=str(root))
    empty = sorted(name for name, images in train.items() if not images)
    if empty and not allow_empty:
        raise InputError(f"{where} has class folders without images: {some(empty)}", "remove them or use --allow-empty", path=str(root))
    return tuple(sorted(train))
