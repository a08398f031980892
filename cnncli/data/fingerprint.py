"""A short mark of the data that a model was trained on: another one means that images were added, removed, renamed or edited."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from hashlib import blake2b
from itertools import repeat
from pathlib import Path

import numpy as np

from cnncli.data.decode import BadImage
from cnncli.data.disk import DiskPixels
from cnncli.data.held import Held
from cnncli.data.pixels import Pixels
from cnncli.data.shards.stream import ShardStream
from cnncli.data.source import Sample, Source
from cnncli.data.stream import StreamPixels
from cnncli.data.threads import in_order, usual_threads

DIGEST_BYTES = 16  # that two sets of data agree by chance is out of the question from 8 on
PIECE_BYTES = 2**24  # part of what is hashed: another number gives other digests


def fingerprint(held: Held | ShardStream) -> dict[str, int | str]:
    """{"images": N, "digest": 32 hexadecimal digits} of the images of a split.

    The digest is a blake2b over each sample's path within its source, its label and a fact about its content: pixels in memory count
    byte by byte, in the form in which the network gets them; of files that are decoded later, or lie in a cache, the size in bytes.
    Of remote shards it is over their names, how many samples each holds, and what their labels mean. Folders that were moved keep it.
    Digests are to be compared where images are kept the same way (`--store`) and, in memory, preprocessed the same way.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    if isinstance(held, ShardStream):
        _add(digest, held.shards, held.sizes.tolist(), repeat(""))
        _add(digest, held.source.listed, held.source.labels, repeat(""))
        return {"images": len(held), "digest": digest.hexdigest()}
    _add(digest, (sample.path for sample in held.samples), (sample.label for sample in held.samples), _sizes(held))
    if isinstance(held, Pixels):
        digest.update(repr(tuple(held.images.shape)).encode("ascii"))
        digest.update(_of_bytes(held.images.contiguous().view(-1).numpy().data))
    return {"images": len(held), "digest": digest.hexdigest()}


def _of_bytes(data: memoryview) -> bytes:
    """The digests of its pieces, taken by a few threads at once: hashing leaves the interpreter's lock."""

    def of_piece(start: int) -> bytes:
        return blake2b(data[start : start + PIECE_BYTES], digest_size=DIGEST_BYTES).digest()

    return b"".join(in_order(of_piece, range(0, len(data), PIECE_BYTES), usual_threads()))


def _add(digest: blake2b, names: Iterable[str], numbers: Iterable[int], facts: Iterable[object]) -> None:
    rows = [f"{name}\0{number}\0{fact}" for name, number, fact in zip(names, numbers, facts, strict=False)]
    digest.update(os.fsencode("\0\n".join([str(len(rows)), *rows])))  # its length first, so that one list cannot go on in the next


def _sizes(held: Held) -> Iterable[object]:
    if isinstance(held, StreamPixels):
        return (_size(held.source, sample) for sample in held.samples)
    return held.file_sizes.tolist() if isinstance(held, DiskPixels) else repeat("")


def _size(source: Source, sample: Sample) -> object:
    """Bytes of a sample's file; of an image that is at hand, a digest; "" where it cannot be told, as of what is gone."""
    if source.weigh is not None:
        return source.weigh(sample)
    try:
        located, _ = source.find(sample)
        if isinstance(located, Path):
            status = os.stat(located)  # noqa: PTH116 - a hundred thousand of them
            return status.st_size if stat.S_ISREG(status.st_mode) else ""
    except (OSError, BadImage):
        return ""
    if isinstance(located, bytes):
        return blake2b(located, digest_size=DIGEST_BYTES).hexdigest()
    try:
        return blake2b(np.asarray(located).tobytes(), digest_size=DIGEST_BYTES).hexdigest()
    except (TypeError, ValueError):
        return ""
