"""The images of remote shards: what arrives is decoded, and what does not is counted."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from cnncli.data.bad import BAD_SHARE
from cnncli.data.decode import MAX_STREAM_BYTES, PAUSES, BadImage
from cnncli.data.form import Form
from cnncli.data.held import MOST_MEASURED, Boxes
from cnncli.data.shards.archive import Damaged
from cnncli.data.shards.remote import Arrived, RemoteShards, read_shard
from cnncli.data.source import Sample, Source
from cnncli.data.stream import MOST_CHECKED
from cnncli.data.threads import in_order, usual_threads
from cnncli.errors import CnnError, EnvironmentFault, InputError, printable

SHARDS_MEASURED = 8  # the first samples of so many shards stand for all, where a shard alone may hold one class
Items = list[tuple[int, Arrived | None]]  # (index, sample); None where it did not arrive


@dataclass(frozen=True, slots=True)
class _InHand(Sample):
    image: bytes = b""


class ShardStream:
    """The images of a split of remote shards. A sample's index counts through the shards, as sizes.json has them.

    bad: what was left out so far. Bad images and samples that did not arrive may be 1 % together; more are an error.
    """

    def __init__(self, source: RemoteShards, split: str, form: Form, *, skip_bad: bool = True, threads: int | None = None) -> None:
        self.source, self.form, self.skip_bad = source, form, skip_bad
        self.threads = threads or usual_threads()
        self.shards = source.shards(split)
        self.sizes = np.array([source.sizes[shard] for shard in self.shards], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.bad: list[BadImage] = []
        self._lost: set[int] = set()
        self._lock = threading.Lock()
        self._in_hand = Source(source.name, source.classes, {}, (), derived=False, locate=lambda sample: sample.image)  # type: ignore[attr-defined]
        if not len(self):
            raise InputError(f"split {split} of {printable(source.name)} has no images", "choose another split", path=source.name)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, number: int) -> Generator[tuple[int, Arrived], None, None]:
        """(index, sample) of a shard, in order. What breaks off is read again, twice; what is missing then is lost.

        More samples than sizes.json tells are left alone. CnnError, or EnvironmentFault where the shard cannot be had: too many are lost.
        """
        shard, size, start = self.shards[number], int(self.sizes[number]), int(self.starts[number])
        done = 0
        for pause in (*PAUSES, None):
            failure: Exception | None = None
            try:
                for place, arrived in enumerate(islice(read_shard(self.source, shard), size)):
                    if place >= done:
                        done = place + 1
                        yield start + place, arrived
                break
            except (EnvironmentFault, Damaged, OSError, http.client.HTTPException) as error:
                failure = error
                if pause is not None:
                    time.sleep(pause)
        if done < size:
            reason = (failure.message if isinstance(failure, EnvironmentFault) else str(failure)) if failure else "it holds no more"
            lost = BadImage(shard, f"{size - done:,} of {size:,} samples did not arrive: {reason}")
            self._lose(range(start + done, start + size), lost, failure)

    def put(self, items: Items, out: torch.Tensor, boxes: Boxes | None) -> list[int]:
        """Write the inputs of these samples to `out`, uint8 [B, C, H, W]: the places of those that are missing or bad."""
        failed = []
        for place, (index, arrived) in enumerate(items):
            try:
                if arrived is None:
                    failed.append(place)
                    continue
                sample = self._sample(arrived)
                if boxes is None:
                    out[place] = torch.from_numpy(self.form.decode(self._in_hand, sample)[0])
                else:
                    image, size = self.form.open(self._in_hand, sample)
                    out[place] = self.form.crop(image, boxes(np.array([index]), np.array([size]))[0])
            except BadImage as error:
                if not self.skip_bad:
                    raise
                self._lose(range(index, index + 1), error, None)
                failed.append(place)
        return failed

    def some(self) -> torch.Tensor:
        """Images as uint8 [N, C, h, w], for statistics: the first ones of some shards."""
        numbers = [number for number in range(len(self.shards)) if self.sizes[number]]
        numbers = numbers[:: -(-len(numbers) // SHARDS_MEASURED)]
        each = max(1, min(MOST_CHECKED, MOST_MEASURED // self.form.bytes) // len(numbers))

        def decode(number: int) -> list[torch.Tensor]:
            images = []
            for index, arrived in islice(self.read(number), each):
                try:
                    image, _ = self.form.decode(self._in_hand, self._sample(arrived))
                except BadImage as error:
                    if not self.skip_bad:
                        raise
                    self._lose(range(index, index + 1), error, None)
                    continue
                images.append(torch.from_numpy(image.transpose(2, 0, 1) if self.form.whole else image))
            return images

        images = [image for found in in_order(decode, numbers, self.threads) for image in found]
        if not images:
            raise InputError(f"{printable(self.source.name)}: no image could be read", "look at the shards", path=self.source.name)
        return torch.stack(images)

    def _sample(self, arrived: Arrived) -> Sample:
        if arrived.image is None:
            raise BadImage(arrived.name, f"more than {MAX_STREAM_BYTES:,} bytes")
        return _InHand(arrived.name, arrived.label, arrived.image)

    def _lose(self, indices: range, error: BadImage, cause: Exception | None) -> None:
        with self._lock:
            if self._lost.issuperset(indices):
                return
            self._lost.update(indices)
            self.bad.append(error)
            share = len(self._lost) / len(self)
        if share <= BAD_SHARE:
            return
        if isinstance(cause, EnvironmentFault):
            raise cause
        raise CnnError(
            f"{len(self._lost):,} of {len(self):,} samples ({share:.1%}) could not be read, more than {BAD_SHARE:.0%};"
            f" the last is {printable(error.name)}: {error.reason}",
            "check the network, the shards and sizes.json",
            path=error.name,
        ) from error
