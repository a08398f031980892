"""The split that is made when none is given.

The samples of each class are ordered by a hash of their path within the source. The first share is validation, the next test, the rest
train. So the shares are exact in every class, no random state is involved, the same folder gives the same split on every machine,
and when files are added only those near a boundary move.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b

from cnncli.data.source import Sample

SPLITS = ("train", "val", "test")


def hash_order(path: str) -> tuple[bytes, str]:
    """What samples are ordered by: a 64-bit hash of the path, then the path.

    macOS and Linux may spell the same accented name with different code points; composing them first keeps the split the same.
    """
    return blake2b(os.fsencode(unicodedata.normalize("NFC", path)), digest_size=8).digest(), path


def share(count: int, val_fraction: float, test_fraction: float) -> tuple[int, int]:
    """How many of a class's `count` samples are validation and test: rounded half up, but

    at least one validation sample where there are two and one test sample where there are three (if asked for at all),
    and always at least one left to train on.
    """
    val = max(math.floor(count * val_fraction + 0.5), 1) if val_fraction > 0 and count >= 2 else 0
    val = min(val, count - 1)
    test = max(math.floor(count * test_fraction + 0.5), 1) if test_fraction > 0 and count >= 2 + (val > 0) else 0
    return max(val, 0), max(min(test, count - 1 - val), 0)


def derive(samples: Iterable[Sample], *, val_fraction: float, test_fraction: float) -> dict[str, tuple[Sample, ...]]:
    """`samples` in "train", "val" and "test"; a split whose fraction is 0 is left out. The order within a split is that of `samples`."""
    samples = tuple(samples)
    by_class: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample)
    split_of: dict[Sample, str] = {}
    for members in by_class.values():
        members.sort(key=lambda sample: hash_order(sample.path))
        val, test = share(len(members), val_fraction, test_fraction)
        split_of.update(dict.fromkeys(members[:val], "val"))
        split_of.update(dict.fromkeys(members[val : val + test], "test"))
    fractions = {"train": 1.0, "val": val_fraction, "test": test_fraction}
    return {
        split: tuple(sample for sample in samples if split_of.get(sample, "train") == split)
        for split, part in fractions.items()
        if part > 0
    }


def complete(
    given: dict[str, tuple[Sample, ...]], *, val_fraction: float, test_fraction: float
) -> tuple[dict[str, tuple[Sample, ...]], bool]:
    """`given` with the splits that it lacks, which are derived from train; and whether any was.

    A given split stays as it is. Without train nothing is derived. Splits come in the order train, val, test.
    """
    made: dict[str, tuple[Sample, ...]] = {}
    if "train" in given:
        fractions = {"val_fraction": 0.0 if "val" in given else val_fraction, "test_fraction": 0.0 if "test" in given else test_fraction}
        made = derive(given["train"], **fractions)
    merged = {**given, **made}
    return {split: merged[split] for split in SPLITS if split in merged}, len(made) > 1  # more than what is left to train on


def keep_some(samples: Iterable[Sample], *, share: float | None, most: int | None) -> tuple[Sample, ...]:
    """A part of `samples`: of each class the given share, rounded half up, and at most `most`, but at least one.

    What is kept are the first in the order of the hash, so a smaller part lies within a larger one. The order is that of `samples`.
    """
    samples = tuple(samples)
    by_class: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample)
    kept: set[Sample] = set()
    for members in by_class.values():
        count = len(members) if share is None else max(math.floor(len(members) * share + 0.5), 1)
        count = count if most is None else min(count, max(most, 1))
        kept.update(sorted(members, key=lambda sample: hash_order(sample.path))[:count])
    return tuple(sample for sample in samples if sample in kept)
