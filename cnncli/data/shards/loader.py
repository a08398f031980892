"""Batches out of remote shards, with the same face as a loader of images that are at hand.

An epoch's order is known before anything is read, since sizes.json tells how many samples a shard holds: the shards in an order that
(seed, epoch) decide, and of their samples the one with the least `place + BUFFER * u` next, u in [0, 1) drawn for each. That is a
shuffle buffer: no sample moves by more than BUFFER places, so no more than that wait in memory. An epoch that is resumed leaves out
what was seen, and does not ask for shards of which nothing is left.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import islice, pairwise, zip_longest

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augment import Augment
from cnncli.data.held import CHUNK, Boxes, Indices
from cnncli.data.keyed import SHARDS, keyed_order, keyed_uniform
from cnncli.data.loader import AHEAD, Batch, bounds_of, check_sharing, finished
from cnncli.data.preprocess import Preprocess
from cnncli.data.shards.remote import Arrived
from cnncli.data.shards.stream import Items, ShardStream
from cnncli.data.threads import PIECE, Stalled, usual_threads
from cnncli.errors import UsageError

BUFFER = 2000  # samples: 220 MB of ImageNet's, and more than the shuffle buffers of most recipes


class ShardLoader:
    """Batches of remote shards, epoch by epoch; what is said of `cnncli.data.loader.Loader` holds here too.

    rank, ranks: each rank reads every `ranks`-th shard of the epoch's order, and makes batches of its part of `batch_size`. In training
    all have the same number of batches, which the rank with the fewest samples can always fill: the rest is not seen in that epoch. Without
    shuffling each sees all of its own samples.
    stall: seconds that the next sample may be waited for; Stalled is raised after that. None waits for ever.
    """

    def __init__(
        self,
        pixels: ShardStream,
        preprocess: Preprocess,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        shuffle: bool = False,
        device: torch.device | None = None,
        threads: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        stall: float | None = None,
    ) -> None:
        check_sharing(batch_size, rank, ranks)
        if pixels.form.whole and augment is None:
            raise ValueError("whole images need an augmentation that crops them")
        if ranks > len(pixels.shards):
            told = f"{len(pixels.shards):,} shards are too few for {ranks} processes"
            raise UsageError(told, "write more, smaller shards", path=pixels.source.name)
        self.pixels, self.preprocess, self.seed, self.augment, self.shuffle = pixels, preprocess, seed, augment, shuffle
        self.batch_size, self.rank, self.ranks, self.stall = batch_size, rank, ranks, stall
        self.device = device or torch.device("cpu")
        self.threads = threads or usual_threads()

    @property
    def count(self) -> int:
        """The number of images in an epoch, of all ranks together."""
        return len(self.pixels)

    def __len__(self) -> int:
        """The number of batches in an epoch, the same in all epochs and on all ranks."""
        if self.ranks == 1:
            return len(bounds_of(self.count, self.batch_size, shuffle=self.shuffle)) - 1
        largest = -(-self.batch_size // self.ranks)
        if self.shuffle:
            sizes = np.sort(self.pixels.sizes)
            return max(1, int(sizes[: len(sizes) // self.ranks].sum()) // largest)
        return max(-(-int(self.pixels.sizes[rank :: self.ranks].sum()) // self._part(rank)) for rank in range(self.ranks))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` (0 is the first)."""
        shards, order = self._order(number)
        bounds = list(pairwise(self._bounds(len(order), self.rank)))[start:]
        if not bounds:
            return
        boxes = partial(self.augment.boxes, self.seed, number) if self.augment and self.pixels.form.whole else None
        wanted, totals = order[bounds[0][0] : bounds[-1][1]], self._totals(number)[start:]
        arrivals = _arrivals(self.pixels, shards, wanted, max(64, AHEAD * self.batch_size), self.stall)
        with closing(arrivals), closing(self._made(arrivals, [last - first for first, last in bounds], boxes)) as made:
            for (items, out, kept), total in zip(made, totals, strict=False):  # other ranks may have more batches to judge
                indices = np.array([index for index, _ in items], dtype=np.int64)
                labels = torch.tensor([0 if arrived is None else arrived.label for _, arrived in items])
                batch = finished(
                    out,
                    labels.to(self.device),
                    torch.from_numpy(indices),
                    self.augment.draw(self.seed, number, indices).to(self.device) if self.augment else None,
                    kept,
                    preprocess=self.preprocess,
                    augment=self.augment,
                    device=self.device,
                    seed=self.seed,
                    epoch=number,
                    total=total,
                )
                if len(batch.labels):
                    yield batch

    def _order(self, number: int) -> tuple[list[int], Indices]:
        """This rank's shards in the order in which they are read, and its samples in the order in which they are seen."""
        pixels, shards = self.pixels, self._shards(number)[self.rank :: self.ranks]
        order = np.concatenate([np.arange(pixels.starts[shard], pixels.starts[shard + 1]) for shard in shards])
        if self.shuffle:
            drawn = keyed_uniform(self.seed, number, order, SHARDS)
            places = drawn if len(order) <= BUFFER else drawn * BUFFER + np.arange(len(order))
            order = order[np.argsort(places, kind="stable")]
        return shards.tolist(), order

    def _shards(self, number: int) -> Indices:
        """The shards of all ranks in the order of an epoch; the first goes to the first rank, and so on around."""
        count = len(self.pixels.shards)
        return keyed_order(self.seed, number, count) if self.shuffle else np.arange(count)

    def _totals(self, number: int) -> list[int]:
        """How many images each batch of an epoch has over all ranks."""
        shards = self._shards(number)
        counts = [int(self.pixels.sizes[shards[rank :: self.ranks]].sum()) for rank in range(self.ranks)]
        sizes = [[last - first for first, last in pairwise(self._bounds(count, rank))] for rank, count in enumerate(counts)]
        return [sum(parts) for parts in zip_longest(*sizes, fillvalue=0)]

    def _bounds(self, count: int, rank: int) -> list[int]:
        if self.ranks == 1:
            return bounds_of(count, self.batch_size, shuffle=self.shuffle)
        bounds = bounds_of(count, self._part(rank), shuffle=False)
        return bounds[: len(self) + 1] if self.shuffle else bounds

    def _part(self, rank: int) -> int:
        return len(range(rank, self.batch_size, self.ranks))

    def _made(
        self, arrivals: Iterator[tuple[int, Arrived | None]], sizes: list[int], boxes: Boxes | None
    ) -> Generator[tuple[Items, torch.Tensor, list[int] | None], None, None]:
        """(samples, images, places of those that are there) of batches of these sizes, decoded AHEAD of their time."""
        p = self.preprocess
        waiting: deque[tuple[Items, torch.Tensor, list[Future[list[int]]]]] = deque()
        with ThreadPoolExecutor(max_workers=self.threads) as pool:

            def begin(size: int) -> None:
                with torch.inference_mode(mode=False):  # else threads could not write to it while a model is judged
                    out = torch.empty(size, p.channels, p.height, p.width, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
                items: Items = []
                begun = []
                for first in range(0, size, CHUNK):
                    part = list(islice(arrivals, min(CHUNK, size - first)))
                    items += part
                    begun.append(pool.submit(self.pixels.put, part, out[first : first + CHUNK], boxes))
                waiting.append((items, out, begun))

            try:
                for size in sizes[:AHEAD]:
                    begin(size)
                for place in range(len(sizes)):
                    if place + AHEAD < len(sizes):
                        begin(sizes[place + AHEAD])
                    items, out, begun = waiting.popleft()
                    failed = {CHUNK * chunk + at for chunk, done in enumerate(begun) for at in done.result()}
                    yield items, out, [at for at in range(len(out)) if at not in failed] if failed else None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class _Reader:
    """A thread that reads shards and hands over the samples that are wanted; `take` waits for them.

    ahead: samples that may lie there before they are taken. stall: seconds that one may be waited for, None for ever.
    """

    def __init__(self, pixels: ShardStream, shards: list[int], wanted: npt.NDArray[np.bool_], ahead: int, stall: float | None) -> None:
        self.pixels, self.shards, self.wanted, self.stall = pixels, shards, wanted, stall
        self._reading = ""
        self._arrived: queue.Queue[tuple[int, Arrived | Exception | None]] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="cnn-shards").start()

    def take(self) -> tuple[int, Arrived | None]:
        """(index, sample), or (shard, None) when a shard is over. Raises what went wrong, and Stalled."""
        number, what = self._next()
        if isinstance(what, Exception):
            raise what
        return number, what

    def _next(self) -> tuple[int, Arrived | Exception | None]:
        ends = None if self.stall is None else time.monotonic() + self.stall
        while True:
            left = PIECE if ends is None else min(PIECE, ends - time.monotonic())
            if left <= 0 and self.stall is not None:
                raise Stalled(self._reading, self.stall)
            with suppress(queue.Empty):
                return self._arrived.get(timeout=left)

    def close(self) -> None:
        """The thread ends as soon as it notices."""
        self._stop.set()

    def _run(self) -> None:
        try:
            for shard in self.shards:
                if self.wanted[self.pixels.starts[shard] : self.pixels.starts[shard + 1]].any():
                    self._read(shard)
        except Exception as error:  # noqa: BLE001 - raised where the samples are taken
            self._put(-1, error)

    def _read(self, shard: int) -> None:
        self._reading = self.pixels.shards[shard]
        with closing(self.pixels.read(shard)) as samples:
            for index, sample in samples:
                if self.wanted[index]:
                    self._put(index, sample)
                if self._stop.is_set():
                    return
        self._put(shard, None)

    def _put(self, number: int, what: Arrived | Exception | None) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._arrived.put((number, what), timeout=0.2)
                return


def _arrivals(
    pixels: ShardStream, shards: list[int], order: Indices, ahead: int, stall: float | None
) -> Generator[tuple[int, Arrived | None], None, None]:
    """The samples `order` names, in that order, while a thread reads the shards; None for one that does not arrive."""
    wanted = np.zeros(len(pixels), dtype=bool)
    wanted[order] = True
    shard_of = np.searchsorted(pixels.starts, order, side="right") - 1
    held: dict[int, Arrived] = {}
    over: set[int] = set()
    with closing(_Reader(pixels, shards, wanted, ahead, stall)) as reader:
        for index, shard in zip(order.tolist(), shard_of.tolist(), strict=True):
            while index not in held and shard not in over:
                number, what = reader.take()
                if what is None:
                    over.add(number)
                else:
                    held[number] = what
            yield index, held.pop(index, None)
