"""ImageNet (ILSVRC 2012), which everybody has to fetch by themselves: folders train/WNID and val/WNID, or the original archives."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from cnncli.atomic import temporary_folder
from cnncli.data.named import NAMED
from cnncli.data.source import Sample
from cnncli.data.walk import Walk
from cnncli.errors import EnvironmentFault, InputError, printable

SPLITS = ("train", "val")
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
COUNT = 1000

_WNID = re.compile(r"n[0-9]{8}")  # how WordNet numbers a noun: n01440764 is the tench


def read_imagenet(root: Path, tell: Callable[[str], None]) -> tuple[Path, tuple[str, ...], dict[str, tuple[Sample, ...]]]:
    """The folder that holds train/ or val/, the names of the 1,000 classes, and the samples of the splits that are there.

    root: the data root; ImageNet lies in `imagenet` below it, or in the root itself. Names are those that torchvision's weights
    have, so that models match by name; they are in the order of the WNIDs. Archives are unpacked first.

    EnvironmentFault: nothing is there. InputError: a split has another number of classes.
    """
    place = root if not (root / "imagenet").is_dir() and any((root / split).is_dir() for split in SPLITS) else root / "imagenet"
    for split in SPLITS:
        if not (place / split).is_dir() and (place / ARCHIVES[split]).is_file():
            _unpack(place, split, tell)
    there = [split for split in SPLITS if (place / split).is_dir()]
    if not there:
        known = NAMED["imagenet"]
        raise EnvironmentFault(f"imagenet is not in {printable(root)}", known.by_hand.format(root=printable(root)), path=str(place))
    return place, _names(), {split: _samples(place, split) for split in there}


def _samples(place: Path, split: str) -> tuple[Sample, ...]:
    walk = Walk(place)
    folders = [folder for folder in walk.folders_and_images(split)[0] if _WNID.fullmatch(folder.rpartition("/")[2])]
    if len(folders) != COUNT:
        raise InputError(
            f"{printable(place / split)} has {len(folders)} class folders n01234567, not ImageNet's {COUNT:,}",
            f"complete it, or use it as a folder: --data {printable(place)}",
            path=str(place / split),
        )
    return tuple(Sample(path, label) for label, folder in enumerate(folders) for path in walk.images(folder))


def _names() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _unpack(place: Path, split: str, tell: Callable[[str], None]) -> None:
    """Unpack the archive of a split beside it, with torchvision's check of its md5 sum; whole or not at all."""
    from torchvision.datasets import imagenet

    tell(f"unpacking {place / ARCHIVES[split]}, which takes a while")
    try:
        with temporary_folder(place) as part:
            for name in (ARCHIVES[split], DEVKIT):
                (part / name).symlink_to(place / name)
            if split == "train":
                imagenet.parse_train_archive(str(part))
            else:  # the devkit says of which class each image is
                imagenet.parse_devkit_archive(str(part))
                imagenet.parse_val_archive(str(part))
            shutil.move(part / split, place / split)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot unpack {printable(place / ARCHIVES[split])}: {printable(' '.join(str(error).split()))}",
            f"copy the archives, and {DEVKIT}, again",
            path=str(place / ARCHIVES[split]),
        ) from error
