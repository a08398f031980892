"""Images without classes as a source: all below a folder, or those that are named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cnncli.data.source import Sample, Source
from cnncli.data.walk import Walk
from cnncli.errors import InputError, printable
from cnncli.sniff import sniff, what_is_wrong

NAMELESS = ("",)  # the one class, which is none
SPLIT = "all"


def open_unlabelled(spec: str, *, include_hidden: bool = False) -> Source:
    """All images below the folder `spec`, whatever its folders are called, in the order of their paths; or the image `spec`.

    InputError where there are none.
    """
    root = Path(spec)
    if root.is_file():
        return open_files([spec])
    if not root.is_dir():
        raise InputError(f"{printable(spec)} is not a folder of images: {what_is_wrong(sniff(root))}", "give a folder", path=spec)
    walk = Walk(root, include_hidden)
    samples = tuple(Sample(path, 0) for path in walk.images(""))
    if not samples:
        raise InputError(f"no images below {printable(spec)}", "give a folder with images", path=spec)
    name = root.resolve().name or "root"
    return Source(name, NAMELESS, {SPLIT: samples}, walk.notices(), derived=False, locate=lambda sample: root / sample.path)


def open_files(paths: Sequence[str]) -> Source:
    """Image files by their paths, in this order. InputError for one that is not there."""
    for path in paths:
        if not os.path.lexists(path) or Path(path).is_dir():
            reason = "it is a folder" if Path(path).is_dir() else "no such file"
            raise InputError(f"{printable(path)}: {reason}", "give image files", path=path)
    samples = tuple(Sample(path, 0) for path in paths)
    return Source("images", NAMELESS, {SPLIT: samples}, (), derived=False, locate=lambda sample: Path(sample.path))
