"""Tar shards on the disk as a source like any other: an image is the bytes at its place in its shard.

The shards are never unpacked. A shard is opened for each image that is read, which takes a hundredth of the time of decoding it, so that
no more files are open than threads read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from cnncli.data.classes import some
from cnncli.data.decode import LASTING, MAX_STREAM_BYTES, PAUSES, BadImage
from cnncli.data.shards.archive import read_at
from cnncli.data.shards.grouping import APART, told
from cnncli.data.shards.index import Index, all_left_out, index_of
from cnncli.data.shards.labels import CLASSES, MOST_BYTES, classes_in, classes_of, label_of, numbering
from cnncli.data.shards.naming import BETWEEN, by_split, expand, refuse_twice
from cnncli.data.source import Sample, Source
from cnncli.data.split import SPLITS, complete
from cnncli.errors import InputError, printable

SUFFIX = ".tar"
SIZES = "sizes.json"
BESIDE = frozenset({CLASSES, SIZES})  # what may lie in a folder of shards without making it another folder


def are_shards(spec: str) -> bool:
    """Whether `spec` names shards: patterns, a .tar file, or a folder that holds nothing else."""
    path = Path(spec)
    if path.is_dir():
        try:
            names = [entry.name for entry in os.scandir(path) if not entry.name.startswith(".") and entry.name not in BESIDE]
        except OSError:
            return False
        return bool(names) and all(name.lower().endswith(SUFFIX) and not (path / name).is_dir() for name in names)
    return spec.lower().endswith(SUFFIX) or (BETWEEN in spec and not os.path.lexists(path))


def open_shards(spec: str, *, val_fraction: float, test_fraction: float, allow_empty: bool = False) -> Source:
    """The shards that `spec` names as a source. Splits come from their names; without, they are derived by a hash of the key.

    UsageError: a pattern that cannot be read. InputError, in one line: a shard that is missing, cut off or none; labels that the
    classes lack; fewer than two classes; a class in val or test that train lacks; a class without a training image (but for `allow_empty`).
    """
    shards = _shards(spec)
    names = _names(shards)
    by_name = dict(zip(names, shards, strict=True))
    splits_of = by_split(names, spec)
    indices = {name: index_of(by_name[name]) for name in names}
    if not any(index.names for index in indices.values()):
        why = "; ".join(told(all_left_out(list(indices.values())))) or "no image with a .cls of the same key"
        raise InputError(f"{printable(spec)} holds no samples: {why}", APART, path=spec)
    classes, listed = _classes(shards, indices, spec)
    numbers = numbering(classes, listed=listed)
    given = {
        split: tuple(
            Sample(f"{shard}/{name}", label_of(text, numbers, classes, f"{shard}/{name}"))
            for shard in splits_of[split]
            for name, text in zip(indices[shard].names, indices[shard].labels, strict=True)
        )
        for split in splits_of
    }
    _check(spec, classes, given, allow_empty=allow_empty)
    splits, derived = _completed(given, val_fraction, test_fraction)
    notices = told(all_left_out(list(indices.values())))
    locate, weigh = _located(by_name, indices)
    return Source(_name(shards), classes, splits, notices, derived, locate, weigh=weigh)


def _shards(spec: str) -> list[Path]:
    """The files, in the order in which they are named. InputError when one is missing."""
    if Path(spec).is_dir():
        return sorted(path for path in Path(spec).iterdir() if path.suffix.lower() == SUFFIX and not path.name.startswith("."))
    patterns = [spec] if os.path.lexists(spec) else spec.split(BETWEEN)
    names = [name for pattern in patterns for name in ([pattern] if os.path.lexists(pattern) else expand(pattern))]
    missing = [name for name in names if not os.path.lexists(name)]
    if missing:
        count = f" ({len(missing):,} of {len(names):,} shards are missing)" if len(names) > 1 else ""
        raise InputError(f"no such shard: '{printable(missing[0])}'{count}", "give the numbers that are there", path=missing[0])
    refuse_twice([os.path.realpath(name) for name in names])
    return [Path(name) for name in names]


def _names(shards: list[Path]) -> list[str]:
    """What the shards are called: their paths below the folder that holds all of them."""
    folders = {os.path.abspath(shard.parent) for shard in shards}  # noqa: PTH100 - a link stays the link it is
    common = os.path.commonpath(folders)
    return [Path(os.path.relpath(shard, common)).as_posix() for shard in shards]


def _name(shards: list[Path]) -> str:
    return shards[0].resolve().parent.name or "shards"


def _classes(shards: list[Path], indices: dict[str, Index], spec: str) -> tuple[tuple[str, ...], bool]:
    """The class names, and whether a classes.txt lists them. InputError where two such files differ."""
    found: dict[str, tuple[str, ...]] = {}
    for place in dict.fromkeys(shard.parent / CLASSES for shard in shards):
        try:
            with place.open("rb") as file:
                found[str(place)] = classes_in(file.read(MOST_BYTES), str(place))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"cannot read {printable(place)}: {error.strerror}", "check its permissions", path=str(place)) from error
    if len(set(found.values())) > 1:
        raise InputError(f"{some(found)} name different classes", "make them the same", path=next(iter(found)))
    if found:
        return next(iter(found.values())), True
    return classes_of((label for index in indices.values() for label in index.labels), spec), False


def _check(spec: str, classes: tuple[str, ...], given: dict[str, tuple[Sample, ...]], *, allow_empty: bool) -> None:
    where = printable(spec)
    used = {split: {sample.label for sample in samples} for split, samples in given.items()}
    if len(set.union(*used.values())) < 2:
        raise InputError(f"{where} holds samples of one class only", "shards need samples of two or more classes", path=spec)
    if "train" not in used:
        return
    for split in SPLITS[1:]:
        extra = sorted(used.get(split, set()) - used["train"])
        if extra:
            names = some(classes[label] for label in extra)
            raise InputError(f"{where}: {split} has classes that train lacks: {names}", "rename or remove them", path=spec)
    empty = [name for label, name in enumerate(classes) if label not in used["train"]]
    if empty and not allow_empty:
        raise InputError(
            f"{where}: {CLASSES} has classes without training images: {some(empty)}", "remove them or use --allow-empty", path=spec
        )


def _completed(
    given: dict[str, tuple[Sample, ...]], val_fraction: float, test_fraction: float
) -> tuple[dict[str, tuple[Sample, ...]], bool]:
    """The splits that are missing, by the samples' names alone: so they stay when the same samples are put into other shards."""
    bare = {split: tuple(Sample(_bare(sample.path), sample.label) for sample in samples) for split, samples in given.items()}
    splits, derived = complete(bare, val_fraction=val_fraction, test_fraction=test_fraction)
    if not derived:
        return {split: given[split] for split in SPLITS if split in given}, False
    chosen = {sample: split for split in splits if split not in given for sample in splits[split]}
    made: dict[str, list[Sample]] = {split: [] for split in splits if split not in given or split == "train"}
    for sample, key in zip(given["train"], bare["train"], strict=True):
        made[chosen.get(key, "train")].append(sample)
    return {split: tuple(made[split]) if split in made else given[split] for split in splits}, True


def _bare(path: str) -> str:
    """A sample's name without its shard's."""
    return path.partition(f"{SUFFIX}/")[2] or path


def _located(shards: dict[str, Path], indices: dict[str, Index]) -> tuple[Callable[[Sample], bytes], Callable[[Sample], int]]:
    """What gives the bytes of a sample's image, and what tells how many they are."""
    places = {f"{shard}/{name}": (shard, place) for shard, index in indices.items() for place, name in enumerate(index.names)}

    def locate(sample: Sample) -> bytes:
        shard, place = places[sample.path]
        index = indices[shard]
        size = index.sizes[place]
        if size > MAX_STREAM_BYTES:
            raise BadImage(sample.path, f"more than {MAX_STREAM_BYTES:,} bytes")
        return _bytes_at(shards[shard], index, index.offsets[place], size, sample.path)

    def weigh(sample: Sample) -> int:
        shard, place = places[sample.path]
        return indices[shard].sizes[place]

    return locate, weigh


def _bytes_at(shard: Path, index: Index, offset: int, size: int, name: str) -> bytes:
    """The bytes of a member; asked for twice more where the disk or the network fails. BadImage when the shard is another by now."""
    for pause in (*PAUSES, None):
        try:
            descriptor = os.open(shard, os.O_RDONLY)
            try:
                status = os.fstat(descriptor)
                if (status.st_size, status.st_mtime_ns) != (index.size, index.time):
                    raise BadImage(name, "the shard has changed since it was opened")
                return read_at(descriptor, offset, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            if pause is None or error.errno in LASTING:
                raise
            time.sleep(pause)
    raise AssertionError("the last pause is None")
