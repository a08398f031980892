"""ImageNet's 1,000 classes by their numbers in WordNet (WNIDs), as folders are called, and by their names, as models call them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

# A line a class, in the order of every published model's outputs, which is that of the WNIDs: `n01440764 tench`. The WNIDs are the synset
# list of the ILSVRC 2012 challenge (meta.mat of its development kit); the names are those of torchvision's published weights.
TABLE = Path(__file__).with_name("imagenet_classes.txt")

WNID = re.compile(r"n[0-9]{8}", re.ASCII)  # the offset of a noun in WordNet 3.0


@cache
def imagenet_names() -> dict[str, str]:
    """The name of each class by its WNID, in the order of the outputs."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return {wnid: name for wnid, _, name in (line.partition(" ") for line in lines)}


@cache
def imagenet_wnids() -> dict[str, str]:
    """The WNID of each class by its name."""
    return {name: wnid for wnid, name in imagenet_names().items()}


def other_word(name: str) -> str | None:
    """The name of the class that has this WNID, or the WNID of the class that has this name; None for what ImageNet does not have."""
    return imagenet_names().get(name) if WNID.fullmatch(name) else imagenet_wnids().get(name)
