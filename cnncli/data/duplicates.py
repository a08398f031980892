"""Images that a source holds twice: the same pixels, nearly the same, or the same files in train and in another split."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from cnncli.data.decode import BadImage
from cnncli.data.examine import DIGEST_BYTES, Examined, Looks, pixels_key
from cnncli.data.facts import Duplicates, Near, Spot
from cnncli.data.perceptual import NEAR_BITS, NEAR_CORRELATION, bits_apart, correlation, near_pairs
from cnncli.data.source import Sample, Source
from cnncli.data.twins import meant

TAIL_BYTES = 4096
SMALLEST_SIDE = 16
MOST_NEAR = 10_000  # that are kept: in sets of one pose, such as drawings of clothes, every image is near hundreds of others
MOST_NEAR_FOUND = 200_000  # where the search ends

Key = tuple[object, ...]


def spot_of(source: Source, item: tuple[Sample, str]) -> Spot:
    """An image of a source by name, for a person."""
    sample, split = item
    return Spot(sample.path, split, source.classes[sample.label])


def duplicates(source: Source, looks: Looks) -> tuple[Duplicates, ...]:
    """All groups of images whose decoded pixels are the same: first those with conflicting labels, then leaks, then the others."""
    found = []
    for group in duplicate_groups(looks):
        spots = tuple(spot_of(source, looks.items[index]) for index in group)
        files = {seen.bytes_key for index in group if isinstance(seen := looks.seen[index], Examined)}
        found.append(Duplicates(spots, len(files) == 1 and files != {b""}, *_across(spots)))
    return tuple(sorted(found, key=lambda d: (not d.conflict, not d.leak, not d.shared)))


def duplicate_groups(looks: Looks) -> list[list[int]]:
    """The same as indices into `looks`, in the source's order."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, seen in enumerate(looks.seen):
        if isinstance(seen, Examined):
            groups[seen.pixels_key].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _across(spots: Sequence[Spot]) -> tuple[bool, bool, bool]:
    """(conflict, leak, shared); see `Duplicates`. Class names that are twins do not conflict: the names are the finding."""
    splits = {spot.split for spot in spots}
    conflict = len({meant(spot.name) for spot in spots}) > 1
    return conflict, "train" in splits and len(splits) > 1, {"val", "test"} <= splits


def near_duplicates(source: Source, looks: Looks) -> tuple[tuple[Near, ...], bool]:
    """Pairs in different splits or classes that nearly look the same, the nearest first; and whether these are all.

    Left out: the same pixels, which `duplicates` tells, images of one colour, whose hash means nothing, and
    those with a side below 16 pixels, in which different things look alike (454 pairs in the 8 x 8 digits).
    """
    chosen = [
        (index, seen)
        for index, seen in enumerate(looks.seen)
        if isinstance(seen, Examined) and not seen.constant and min(seen.width, seen.height) >= SMALLEST_SIDE
    ]
    if len(chosen) < 2:
        return (), True
    indices = np.array([index for index, _ in chosen])
    hashes = np.array([seen.hash for _, seen in chosen], dtype=np.uint64)
    thumbnails = np.frombuffer(b"".join(seen.thumbnail for _, seen in chosen), dtype=np.uint8).reshape(len(chosen), -1)
    number: dict[str, int] = {}
    classes = np.array([number.setdefault(meant(name), len(number)) for name in source.classes])
    labels = classes[[looks.items[index][0].label for index in indices]]
    order = {split: place for place, split in enumerate(source.splits)}
    splits = np.array([order[looks.items[index][1]] for index in indices])
    found: list[tuple[int, float, int, int]] = []
    complete = True
    for left, right in near_pairs(hashes, NEAR_BITS):
        across = (labels[left] != labels[right]) | (splits[left] != splits[right])
        i, j = left[across], right[across]
        alike = correlation(thumbnails[i], thumbnails[j])
        apart = bits_apart(hashes[i], hashes[j])
        found += [
            (int(bits), float(value), a, b)
            for bits, value, a, b in zip(apart, alike, indices[i].tolist(), indices[j].tolist(), strict=True)
            if value >= NEAR_CORRELATION and _pixels(looks, a) != _pixels(looks, b)
        ]
        if len(found) > MOST_NEAR_FOUND:
            complete = False
            break
    found.sort(key=lambda pair: (pair[0], -pair[1], pair[2], pair[3]))
    pairs = []
    for bits, value, a, b in found[:MOST_NEAR]:
        spots = spot_of(source, looks.items[a]), spot_of(source, looks.items[b])
        conflict, leak, _ = _across(spots)
        pairs.append(Near(spots, bits, value, conflict, leak))
    return tuple(pairs), complete and len(found) <= MOST_NEAR


def _pixels(looks: Looks, index: int) -> bytes:
    seen = looks.seen[index]
    assert isinstance(seen, Examined)
    return seen.pixels_key


def leaks(source: Source) -> list[tuple[Sample, str, Sample]]:
    """(train sample, other split, its sample) for every image outside train whose file is, to the byte, also one in train.

    Nothing is decoded, and few files are read: only those of equal size, first their last 4,096 bytes, then the whole of those that
    still agree. Pixels that no file holds are compared as they are. An image that cannot be read is no leak.
    """
    pool = [(sample, split) for split in sorted(source.splits, key=lambda split: split != "train") for sample in source.splits[split]]
    keyed: list[tuple[Key, Sample, str]] = []
    for key in (_size_key, _tail_key, _whole_key):
        keyed = _still_together(source, pool, key)
        pool = [(sample, split) for _, sample, split in keyed]
    first: dict[Key, Sample] = {}
    for own, sample, split in keyed:
        if split == "train":
            first.setdefault(own, sample)
    return [(first[own], split, sample) for own, sample, split in keyed if split != "train"]


def _still_together(
    source: Source, pool: Iterable[tuple[Sample, str]], key: Callable[[Source, Sample], Key | None]
) -> list[tuple[Key, Sample, str]]:
    """Those whose key is found in train and in another split, with it, in their order."""
    keyed = [(key(source, sample), sample, split) for sample, split in pool]
    sides: defaultdict[Key, set[bool]] = defaultdict(set)
    for own, _, split in keyed:
        if own is not None:
            sides[own].add(split == "train")
    return [(own, sample, split) for own, sample, split in keyed if own is not None and len(sides[own]) == 2]


def _size_key(source: Source, sample: Sample) -> Key | None:
    if source.weigh is not None:
        return (source.weigh(sample),)
    try:
        located, _ = source.find(sample)
        if isinstance(located, Path):
            status = located.stat()
            return (status.st_size,) if stat.S_ISREG(status.st_mode) else None  # opening a FIFO would wait for ever
    except (OSError, BadImage):
        return None
    if isinstance(located, bytes):
        return (len(located),)
    return (located.mode, located.size) if isinstance(located, Image.Image) else None


def _tail_key(source: Source, sample: Sample) -> Key | None:
    try:
        located, _ = source.find(sample)
        if isinstance(located, Path):
            with located.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                return size, file.read(TAIL_BYTES)
    except (OSError, BadImage):
        return None
    return _whole_key(source, sample)


def _whole_key(source: Source, sample: Sample) -> Key | None:
    try:
        located, _ = source.find(sample)
        if isinstance(located, Path):
            with located.open("rb") as file:
                digest = blake2b(digest_size=DIGEST_BYTES)
                while block := file.read(2**20):
                    digest.update(block)
                return (digest.digest(),)
    except (OSError, BadImage):
        return None
    if isinstance(located, bytes):
        return (blake2b(located, digest_size=DIGEST_BYTES).digest(),)
    return (pixels_key(located),) if isinstance(located, Image.Image) else None
