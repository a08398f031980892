"""Tar shards on a server: their classes and sizes are read when they are opened, the shards themselves as a stream, each epoch anew.

What the files of a stream belong to is decided by the package webdataset, whose convention this is: `group_by_keys` of its tariterators
is given names and bytes, and gives samples. Nothing else of it is used. It would open addresses by itself, but takes `pipe:` for a shell
command, starts curl for https, and lets environment variables rewrite addresses; its decoders unpickle what is named .pyd or .pth.
So addresses are opened by cnncli.data.shards.web, headers are read by cnncli.data.shards.archive, with bounds that tarfile lacks,
no file but images and .cls is read at all, and images go through the same decoding as everywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from cnncli.data.classes import some
from cnncli.data.decode import MAX_STREAM_BYTES
from cnncli.data.shards import web
from cnncli.data.shards.addresses import remote_shards
from cnncli.data.shards.archive import StreamCursor
from cnncli.data.shards.grouping import LABEL, MOST_LABEL_BYTES, Pair, Sorting, label_in
from cnncli.data.shards.labels import CLASSES, MOST_BYTES, classes_in, label_of, numbering
from cnncli.data.shards.naming import by_split
from cnncli.data.split import hash_order
from cnncli.errors import EnvironmentFault, InputError, UsageError, printable

SIZES = "sizes.json"
PACKAGE = "webdataset"
VAL_FRACTION = 0.2  # of the shards, as of a folder's images


@dataclass(frozen=True)
class RemoteShards:
    """Labelled images on a server.

    folder: its address, with a slash at the end. splits: the shards of each. sizes: how many samples each shard holds.
    listed: the names in classes.txt. classes, labels: what they mean here: the classes to tell apart, and the label of each listed name.
    """

    name: str
    folder: str
    splits: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    listed: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    notices: tuple[str, ...] = ()

    def shards(self, split: str) -> tuple[str, ...]:
        """The shards of a split, or of all of them for "all". UsageError names the splits there are."""
        if split == "all":
            return tuple(shard for shards in self.splits.values() for shard in shards)
        if split not in self.splits:
            raise UsageError(f"{printable(self.name)} has no split {split!r}", f"choose from {', '.join((*self.splits, 'all'))}")
        return self.splits[split]

    def relabelled(self, classes: tuple[str, ...], labels: list[int]) -> RemoteShards:
        """With the classes of a model; labels: for each of the present classes its index there."""
        return replace(self, classes=classes, labels=tuple(labels[label] for label in self.labels))


def open_remote(
    spec: str, *, val_fraction: float | None = None, test_fraction: float | None = None, tell: Callable[[str], None] = lambda _: None
) -> RemoteShards:
    """The shards at the addresses that `spec` names. Two small files beside them are read: classes.txt and sizes.json.

    val_fraction, test_fraction: the share of the shards for a split that the names do not give; those shards are told.
    UsageError: an address that is not allowed. EnvironmentFault: no package webdataset, no network, a server's refusal.
    InputError: classes.txt or sizes.json is missing or wrong.
    """
    shards = remote_shards(spec)
    if find_spec(PACKAGE) is None:
        raise EnvironmentFault(f"remote shards need the package {PACKAGE}", "pip install 'cnncli[webdataset]'", path="--data")
    given = by_split(shards.names, spec)
    listed = classes_in(_beside(shards.folder, CLASSES, "the class names, one a line, by their numbers"), shards.folder + CLASSES)
    example = json.dumps(dict.fromkeys(shards.names[:2], 1000))
    sizes = _sizes(_beside(shards.folder, SIZES, f"how many samples each shard holds: {example}"), shards.folder + SIZES, shards.names)
    splits, notices = _complete(given, _share(val_fraction, VAL_FRACTION), _share(test_fraction, 0.0))
    tell(
        f"{sum(sizes[name] for name in shards.names):,} samples in {len(shards.names):,} shards, streamed: nothing is kept on this machine"
    )
    host, *folders = shards.folder.strip("/").split("/")[2:]
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in (folders or [host])[-1]).strip(".") or "shards"
    return RemoteShards(name, shards.folder, splits, sizes, listed, listed, tuple(range(len(listed))), notices)


def _share(asked: float | None, usual: float) -> float:
    return usual if asked is None else asked


def _beside(folder: str, name: str, what: str) -> bytes:
    try:
        return web.whole(folder + name, MOST_BYTES)
    except web.Missing as error:
        raise InputError(f"{printable(folder + name)} is missing", f"put there {what}", path=folder + name) from error


def _sizes(data: bytes, address: str, names: list[str]) -> dict[str, int]:
    """{shard: how many samples}. InputError for anything else, and when a shard is not there."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(address)} is no JSON", "it should hold {shard: number of samples}", path=address) from error
    fine = isinstance(found, dict) and all(type(count) is int and 0 <= count < 2**40 for count in found.values())
    lacking = [name for name in names if name not in found] if fine else []
    if not fine or lacking:
        what = f"lacks {some(lacking)}" if lacking else "is no object of whole numbers"
        raise InputError(f"{printable(address)} {what}", "it should hold {shard: number of samples}", path=address)
    if not any(found[name] for name in names):
        raise InputError(f"{printable(address)} says that all shards are empty", "count the samples again", path=address)
    return {name: found[name] for name in names}


def _complete(given: dict[str, list[str]], val: float, test: float) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Splits that are missing, out of train's shards: whole shards, the first in the order of a hash of their names."""
    splits = {split: tuple(names) for split, names in given.items()}
    notices = []
    left = sorted(splits.get("train", ()), key=hash_order)
    for split, share in (("val", val), ("test", test)):
        if split in given or "train" not in given or share <= 0:
            continue
        count = min(max(math.floor(len(given["train"]) * share + 0.5), 1), len(left) - 1)
        if count < 1:
            notices.append(f"no {split} split: there is one shard only")
            continue
        chosen, left = set(left[:count]), left[count:]
        splits[split] = tuple(name for name in given["train"] if name in chosen)
        notices.append(f"{split} is made of {count:,} of the {len(given['train']):,} shards: {some(splits[split])}")
    if "train" in splits:
        splits["train"] = tuple(name for name in given["train"] if name in set(left))
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}, tuple(notices)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A sample out of a stream: what it is called, its label, and its image; None in place of one of too many bytes."""

    name: str
    label: int
    image: bytes | None


def read_shard(source: RemoteShards, shard: str) -> Iterator[Arrived]:
    """The samples of a shard as they arrive. EnvironmentFault, OSError or Damaged when it cannot be had or breaks off.

    InputError: a label that classes.txt lacks.
    """
    from webdataset.tariterators import group_by_keys

    address, sorting = source.folder + shard, Sorting()
    numbers = numbering(source.listed, listed=True)
    with web.arriving(address) as stream:
        cursor = StreamCursor(stream)

        def files() -> Iterator[dict[str, Any]]:
            for key, extension, member in sorting.files(cursor):
                most = MOST_LABEL_BYTES if extension == LABEL else MAX_STREAM_BYTES
                data = cursor.read(member.size) if member.size <= most else None
                yield {"fname": f"{key}.{extension}", "data": data, "__url__": address}

        for found in group_by_keys(files()):
            key, text = found["__key__"], found.get(LABEL)
            pair: Pair[bytes | None] | None = sorting.pair(key, found, None if text is None else label_in(text))
            if pair is not None:
                name = f"{shard}/{pair.name}"
                yield Arrived(name, source.labels[label_of(pair.label, numbers, source.listed, name)], pair.image)
