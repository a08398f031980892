"""A source with a few training images of each class: how much does a net need?"""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b

from cnncli.data.source import Sample, Source
from cnncli.errors import UsageError, printable

LEAST_WITH_VAL = 5  # training images a class; with fewer, what goes along as val is an image or none a class, which decides nothing


def few(source: Source, per_class: int, *, seed: int = 0) -> Source:
    """`source` with at most `per_class` training images of each class.

    Which ones, the seed decides: the first in the order of a hash of seed and path, so of two numbers the smaller part lies within the
    larger one, and neither the order of the samples nor files that are added elsewhere change what is kept. Val shrinks by the same share
    in each class, to one image at least; below five images a class there is no val split. Test stays as it is.

    UsageError: per_class below 1, or a source without training images.
    """
    if per_class < 1:
        raise UsageError(f"{per_class} training images of each class are none", "1 or more")
    train = source.splits.get("train", ())
    if not train:
        raise UsageError(f"{printable(source.name)} has no training images", "a folder with class folders, or with train/")
    had = Counter(sample.label for sample in train)
    kept = {label: min(size, per_class) for label, size in had.items()}
    splits = source.splits | {"train": _first(train, kept, seed)}
    if per_class < LEAST_WITH_VAL:
        splits.pop("val", None)
    elif "val" in splits:
        sizes = Counter(sample.label for sample in splits["val"])
        share = {label: kept[label] / had[label] if label in had else 1.0 for label in sizes}
        quota = {label: max(math.floor(size * share[label] + 0.5), 1) for label, size in sizes.items()}
        splits["val"] = _first(splits["val"], quota, seed)
    told = f"training on {len(splits['train']):,} of {len(train):,} images, at most {per_class:,} of each class, drawn with seed {seed}"
    return replace(source, splits=splits, notices=(*source.notices, told))


def _first(samples: Iterable[Sample], quota: dict[int, int], seed: int) -> tuple[Sample, ...]:
    """The first quota[label] of each class by the seeded hash, in the order of `samples`."""
    samples = tuple(samples)
    by_class: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample)
    kept: set[Sample] = set()
    for label, members in by_class.items():
        kept.update(sorted(members, key=lambda sample: _order(sample.path, seed))[: quota[label]])
    return tuple(sample for sample in samples if sample in kept)


def _order(path: str, seed: int) -> tuple[bytes, str]:
    """A hash that has nothing to do with that of cnncli.data.split: the first by that one are already in val."""
    name = os.fsencode(unicodedata.normalize("NFC", path))
    return blake2b(str(seed).encode() + b"\0" + name, digest_size=8, person=b"few").digest(), path
