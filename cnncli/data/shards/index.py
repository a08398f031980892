"""What lies where in a local shard: read once from its headers, then kept in the cache folder until the shard changes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cnncli import atomic
from cnncli.cache_folder import cache_folder
from cnncli.data.shards.archive import Damaged, FileCursor, Member, read_at
from cnncli.data.shards.grouping import LABEL, MOST_LABEL_BYTES, Sorting, label_in
from cnncli.data.shards.naming import groups
from cnncli.errors import EnvironmentFault, InputError, printable
from cnncli.sniff import HEAD_BYTES, sniff, sniff_bytes, what_is_wrong

FORMAT = 1  # of the kept index; whoever changes it, or what belongs to a sample, makes it one more


@dataclass(frozen=True)
class Index:
    """The samples of a shard, one place each in four lists: name of the image, where its bytes begin, how many, and the label's text.

    size, time: bytes and time of change (ns) of the shard when it was read. left_out: what makes no sample, by kind.
    """

    size: int
    time: int
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[str]
    left_out: dict[str, int]


def index_of(shard: Path) -> Index:
    """The index of a shard, from the cache folder where it is there and still right. InputError when the shard is damaged or none."""
    place = _place(shard)
    try:
        kind = sniff(shard)
        if kind not in {"tar", "unknown", "text"}:
            raise InputError(f"shard {printable(shard)} is no tar archive: {what_is_wrong(kind)}", _hint(kind), path=str(shard))
        descriptor = os.open(shard, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            kept = _kept(place, status)
            if kept is not None:
                return kept
            made = _read(shard, descriptor, status)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(
            f"cannot read shard {printable(shard)}: {error.strerror}", "check the disk or the share", path=str(shard)
        ) from error
    if place is not None:
        with suppress(OSError, EnvironmentFault):  # a cache that cannot be written only costs time
            place.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(place, json.dumps({"format": FORMAT} | vars(made)))
    return made


def _hint(kind: str) -> str:
    return "unpack it to a .tar: shards are read at their offsets" if kind == "gzip" else "expected an uncompressed .tar"


def _read(shard: Path, descriptor: int, status: os.stat_result) -> Index:
    cursor, sorting = FileCursor(descriptor), Sorting()
    index = Index(status.st_size, status.st_mtime_ns, [], [], [], [], {})

    def files() -> Iterator[tuple[str, str, object]]:
        for key, extension, member in sorting.files(cursor):
            wanted = extension == LABEL and member.size <= MOST_LABEL_BYTES
            yield key, extension, read_at(descriptor, member.offset, member.size) if wanted else member

    try:
        for key, found in groups(files()):
            text = found.get(LABEL)
            pair = sorting.pair(key, found, label_in(text) if isinstance(text, bytes) else None)
            if pair is not None and isinstance(pair.image, Member):
                index.names.append(pair.name)
                index.offsets.append(pair.image.offset)
                index.sizes.append(pair.image.size)
                index.labels.append(pair.label)
    except Damaged as error:
        kind = sniff_bytes(read_at(descriptor, 0, HEAD_BYTES))
        reason = "empty file" if not status.st_size else str(error)
        hint = _hint(kind) if cursor.position == 0 else "download or write it again"
        raise InputError(f"shard {printable(shard)} is damaged: {reason}", hint, path=str(shard)) from error
    index.left_out.update({kind: count for kind, count in sorting.left_out.items() if count})
    return index


def _place(shard: Path) -> Path | None:
    root = cache_folder()
    name = blake2b(os.fsencode(shard.absolute()), digest_size=10).hexdigest()
    return None if root is None else root / "shards" / f"{name}.json"


def _kept(place: Path | None, status: os.stat_result) -> Index | None:
    if place is None:
        return None
    try:
        found: dict[str, Any] = json.loads(place.read_bytes())
        if found.pop("format") != FORMAT:
            return None
        index = Index(**found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    fits = (index.size, index.time) == (status.st_size, status.st_mtime_ns)
    same_length = len({len(index.names), len(index.offsets), len(index.sizes), len(index.labels)}) == 1
    return index if fits and same_length else None


def all_left_out(indices: list[Index]) -> Counter[str]:
    """What was left out of all shards, by kind."""
    total: Counter[str] = Counter()
    for index in indices:
        total.update(index.left_out)
    return total
