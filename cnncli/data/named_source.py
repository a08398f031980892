"""A data set of torchvision as a source: opened where it lies, downloaded where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnncli.cache_folder import cache_folder
from cnncli.data.decode import Located
from cnncli.data.named import NAMED, NamedSet
from cnncli.data.readers import Arrays, Listed, class_names, options, read
from cnncli.data.retrieve import obtain, replaced
from cnncli.data.source import Sample, Source
from cnncli.data.split import complete
from cnncli.errors import EnvironmentFault, InputError, printable

Tell = Callable[[str], None]


def open_named(name: str, *, val_fraction: float, test_fraction: float, data_root: str | None, tell: Tell) -> Source:
    """The data set `name` of NAMED as a source; `tell` hears about a download.

    A split of its own stays as it is; a missing one is derived from train if its fraction is above 0. Samples that are files are
    named by their path below the data root, others `cifar10/train/00042.png`, with five digits or more.

    EnvironmentFault: it is not there and cannot be downloaded. InputError: what is there is incomplete or damaged.
    """
    known, root = NAMED[name], data_folder(data_root)
    torchvision_datasets()
    if known.loader == "ImageNet":
        from cnncli.data.imagenet import read_imagenet

        place, classes, given = read_imagenet(root, tell)
        locate: Callable[[Sample], Located] = lambda sample: place / sample.path  # noqa: E731
    else:
        if not known.is_here(root):
            obtain(name, known, root, lambda split, folder: open_class(known, split, folder, download=True), tell)
        classes, found = _read_all(name, known, root)
        given, locate = _samples(name, root, found)
    splits, derived = complete(given, val_fraction=val_fraction, test_fraction=test_fraction)
    return Source(name, classes, splits, notices=(), derived=derived, locate=locate)


def data_folder(data_root: str | None) -> Path:
    """Where named data sets lie: `data_root`, else `data` in the cache folder. EnvironmentFault where there is no cache folder."""
    kept = cache_folder()
    if data_root is None and kept is None:
        raise EnvironmentFault("there is no home folder to keep data sets in", "set CNN_CACHE, or use --data-root DIR")
    chosen = Path(data_root) if data_root is not None else Path(kept or "") / "data"
    return Path(os.path.abspath(chosen.expanduser()))  # noqa: PTH100 - resolve() would follow links that the user chose


def open_class(known: NamedSet, split: str, root: Path, *, download: bool = False) -> Any:
    """The class of torchvision for a split, reading below `root`. Raises what torchvision raises."""
    arguments = options(known.reader) | known.arguments | known.splits[split] | ({"download": True} if download else {})
    if known.loader == "SEMEION":
        arguments["download"] = download  # the only one that would download unasked
    return getattr(torchvision_datasets(), known.loader)(root=str(root), **arguments)


def torchvision_datasets() -> Any:
    """The module torchvision.datasets. EnvironmentFault when it does not fit the torch that is installed."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, AttributeError) as error:  # "operator torchvision::nms does not exist"
        told = " ".join(str(error).split())[:200]
        raise EnvironmentFault(
            f"torchvision cannot be imported with the torch that is here: {told}", "pip install --upgrade torch torchvision"
        ) from error
    return datasets


def _read_all(name: str, known: NamedSet, root: Path) -> tuple[tuple[str, ...], dict[str, Listed]]:
    """The classes, and what each split holds with labels that are indices into them."""
    from torchvision.datasets import utils

    classes: tuple[str, ...] = ()
    found: dict[str, Listed] = {}
    with replaced(utils, calculate_md5=cache(utils.calculate_md5)):  # each split checks the files of all
        for split in known.splits:
            try:
                dataset = open_class(known, split, root)
                listed, names = read(known.reader, dataset), known.classes or class_names(dataset)
                classes = classes or names
                label = {number + known.first_label: classes.index(each) for number, each in enumerate(names)}
                found[split] = Listed(listed.images, [label[number] for number in listed.labels])
                _check(found[split])
            except Exception as error:  # damaged files make torchvision and scipy raise anything
                told = " ".join(str(error).split())[:200] or type(error).__name__
                place = root / known.places[0]
                raise InputError(
                    f"{name} in {printable(root)} is incomplete or damaged: {printable(told)}",
                    f"remove {printable(place)}, then run this again" + ("" if known.by_hand else " to download it"),
                    path=str(place),
                ) from error
    return classes, found


def _check(listed: Listed) -> None:
    """ValueError when there are as many labels as images no longer, or when files that are listed are absent."""
    if len(listed.images) != len(listed.labels) or not len(listed.labels):
        raise ValueError(f"{len(listed.images)} images and {len(listed.labels)} labels")
    if isinstance(listed.images, np.ndarray):
        return
    absent = [path for path in listed.images if not os.path.exists(path)]  # noqa: PTH110 - a hundred thousand of them
    if absent:
        raise ValueError(f"{len(absent)} of {len(listed.images)} files are absent, first {absent[0]}")


def _samples(name: str, root: Path, found: dict[str, Listed]) -> tuple[dict[str, tuple[Sample, ...]], Callable[[Sample], Located]]:
    """The samples of each split, and where their images are."""
    arrays: dict[str, Arrays] = {}
    given: dict[str, tuple[Sample, ...]] = {}
    below = len(os.path.join(root, ""))  # noqa: PTH118 - with its last slash
    for split, (images, labels) in found.items():
        if isinstance(images, np.ndarray):
            arrays[split] = images
            names: Iterable[str] = (f"{name}/{split}/{index:05d}.png" for index in range(len(images)))
        else:
            names = (path[below:].replace(os.sep, "/") for path in images)
        given[split] = tuple(Sample(path, label) for path, label in zip(names, labels, strict=True))
    if not arrays:
        return given, lambda sample: root / sample.path

    def pixels(sample: Sample) -> Image.Image:
        _, split, file = sample.path.split("/")
        return Image.fromarray(np.ascontiguousarray(arrays[split][int(file.removesuffix(".png"))]))

    return given, pixels
