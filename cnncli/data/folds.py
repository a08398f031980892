"""Test splits out of a source that has none: stratified K-fold cross-validation over all of its images, or one share held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from cnncli.data.source import Sample, Source
from cnncli.data.split import SPLITS, derive, hash_order
from cnncli.errors import UsageError, printable


def folds(source: Source, count: int, *, val_fraction: float) -> tuple[Source, ...]:
    """`source` in `count` sources: the test split of each is another part of all samples, and the others are its train and val.

    The samples of each class, in the order of the hash (see cnncli.data.split), are cut into `count` runs whose lengths differ by at most
    one; a test split is a run of every class. Which runs are the longer ones goes round from class to class, so that the sizes of the test
    splits differ by at most one too. Of the others, the first share of each class is val, as in every split that we make. Nothing depends
    on the order of the samples, and samples that come or go move only those near a boundary.

    val_fraction: that share, from 0 (no val) to below 1. A val split that the source had is dissolved.
    UsageError: a source with a test split, fewer than two folds, a class with fewer images than folds.
    """
    samples = _all(source, val_fraction)
    _check_count(source, samples, count)
    fold_of = _dealt(samples, count)
    made = []
    for number in range(count):
        rest = derive((s for s in samples if fold_of[s] != number), val_fraction=val_fraction, test_fraction=0.0)
        test = tuple(s for s in samples if fold_of[s] == number)
        told = f"fold {number + 1} of {count}: tested on {len(test):,} of {len(samples):,} images"
        made.append(replace(source, splits=rest | {"test": test}, notices=(*source.notices, told), derived=True))
    return tuple(made)


def holdout(source: Source, fraction: float, *, val_fraction: float) -> Source:
    """`source` with a test split of this share of each class, for a source without one: as if it had been opened with it.

    A val split that was made by hash is made anew, with val_fraction; one that the source came with stays, and test is taken from train.
    UsageError: a source with a test split, shares out of range.
    """
    samples = _all(source, val_fraction)
    if not (0 < fraction < 1 and val_fraction + fraction < 1):
        told = f"validation share {val_fraction:g} and test share {fraction:g} leave nothing to train on"
        raise UsageError(told, "test above 0, both together below 1")
    given: dict[str, tuple[Sample, ...]] = {} if source.derived or "val" not in source.splits else {"val": source.splits["val"]}
    own = {sample for part in given.values() for sample in part}
    made = derive((s for s in samples if s not in own), val_fraction=0.0 if given else val_fraction, test_fraction=fraction)
    merged = made | given
    splits = {split: merged[split] for split in SPLITS if split in merged}
    told = f"{len(made['test']):,} of {len(samples):,} images held out for the test"
    return replace(source, splits=splits, notices=(*source.notices, told), derived=True)


def _all(source: Source, val_fraction: float) -> tuple[Sample, ...]:
    """All samples in the order of their paths. UsageError where there is a test split, or val_fraction is no share."""
    if "test" in source.splits:
        raise UsageError(f"{printable(source.name)} has a test split already", "test on it, or open the data with a test share of 0")
    if not 0 <= val_fraction < 1:
        raise UsageError(f"validation share {val_fraction:g} leaves nothing to train on", "from 0 to below 1")
    return tuple(sorted(source.samples("all"), key=lambda sample: sample.path))


def _check_count(source: Source, samples: tuple[Sample, ...], count: int) -> None:
    if count < 2:
        raise UsageError(f"{count} folds leave nothing to train on or to test on", "two folds or more")
    sizes = [0] * len(source.classes)
    for sample in samples:
        sizes[sample.label] += 1
    least, label = min(((size, label) for label, size in enumerate(sizes) if size), default=(0, 0))
    if least < count:
        images = f"{least} image{'' if least == 1 else 's'}"
        hint = f"at most {least} folds" if least >= 2 else "add images to it, or leave it out: no number of folds works"
        raise UsageError(f"class {source.classes[label]!a} has {images}, too few for {count} folds", hint)


def _dealt(samples: tuple[Sample, ...], count: int) -> dict[Sample, int]:
    """The number of the fold that tests each sample."""
    by_class: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample)
    fold_of: dict[Sample, int] = {}
    first_longer = 0
    for label in sorted(by_class):
        members = sorted(by_class[label], key=lambda sample: hash_order(sample.path))
        length, more = divmod(len(members), count)
        start = 0
        for number in range(count):
            end = start + length + ((number - first_longer) % count < more)
            fold_of.update(dict.fromkeys(members[start:end], number))
            start = end
        first_longer = (first_longer + more) % count
    return fold_of
