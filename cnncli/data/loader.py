"""Batches out of pixels: in an order that (seed, epoch) alone decide, augmented, normalised, on the device, resumable at any batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from cnncli.data.augment import Augment, Drawn
from cnncli.data.augmenting.mixing import Mixed
from cnncli.data.form import crops_on_device
from cnncli.data.held import CHUNK, Boxes, Held, Indices
from cnncli.data.keyed import keyed_order
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.threads import usual_threads

GPU_SHARE = 0.5  # of the GPU's free memory that pixels may take; the model and its activations need the rest
AHEAD = 2  # batches that are made while the network works on another: one is done when it is needed, one in the making


@dataclass(frozen=True)
class Batch:
    """What a network sees in one step.

    images: float32 [B, C, H, W], normalised, on the loader's device.
    labels: int64 [B], on the same device.
    indices: int64 [B], on the CPU: which of the pixels' samples these are.
    mixed: what they were mixed with, where mixup or cutmix is on.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    mixed: Mixed | None = None

    def only(self, places: list[int]) -> Batch:
        """Those at these places."""
        chosen = torch.tensor(places, dtype=torch.int64)
        return Batch(self.images[chosen.to(self.images.device)], self.labels[chosen.to(self.labels.device)], self.indices[chosen])


class Batches(Protocol):
    """What gives batches, wherever its images come from."""

    @property
    def count(self) -> int:
        """The number of images in an epoch, of all ranks together."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` (0 is the first)."""


class Loader:
    """Batches of `pixels`, epoch by epoch.

    shuffle: training. A new order each epoch; a last batch of one sample, which batch norm cannot take, joins the one before it.
    Without it, samples come in their own order and the last batch may be of any size.
    rank, ranks: of several processes that train together, each takes its part of every batch: of the samples of a batch in their
    order, every `ranks`-th from `rank` on. All have the same number of batches: a last batch that has not enough for all (one each, in
    training two) joins the one before it. Whom mixing mixes is decided within the part.
    threads: that read, decode and crop, where that is to be done for each batch anew.

    Nothing is remembered between epochs, so `epoch(3, start=7)` gives what it would have given had the first seven batches been taken.
    The pixels live on the device when it is a GPU and they fit in half of its free memory; otherwise each batch is moved.
    Images that cannot be read any more, which happens only to streams, are missing in their batch.
    """

    def __init__(
        self,
        pixels: Held,
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
    ) -> None:
        check_sharing(batch_size, rank, ranks)
        if pixels.form.whole and augment is None:
            raise ValueError("whole images need an augmentation that crops them")
        self.pixels, self.preprocess = pixels, preprocess
        self.batch_size, self.seed, self.augment, self.shuffle = batch_size, seed, augment, shuffle
        self.rank, self.ranks = rank, ranks
        self.device = device or torch.device("cpu")
        self.threads = threads or usual_threads()
        self._resident: torch.Tensor | None = None  # all images, where a batch is no more than a choice of them
        if isinstance(pixels, Pixels):
            on_device = self.device.type != "cpu" and _fits(pixels.images, self.device)
            if on_device or not pixels.form.whole:
                self._resident = pixels.images.to(self.device) if on_device else pixels.images
        self._labels = pixels.labels.to(self.device)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._bounds()) - 1

    @property
    def count(self) -> int:
        """The number of images in an epoch, of all ranks together."""
        return len(self.pixels)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` (0 is the first)."""
        count = len(self.pixels)
        order = keyed_order(self.seed, number, count) if self.shuffle else np.arange(count)
        bounds = list(pairwise(self._bounds()))
        if self.ranks > 1:
            parts = [order[first + self.rank : last : self.ranks] for first, last in bounds]
            order, bounds = np.concatenate(parts), list(pairwise(np.cumsum([0, *map(len, parts)]).tolist()))
        indices = torch.from_numpy(order)
        # One transfer an epoch instead of two a batch: the GPU is never made to wait for a few numbers.
        labels = self._labels.index_select(0, indices.to(self.device))
        drawn = self.augment.draw(self.seed, number, order).to(self.device) if self.augment else None
        bounds = bounds[start:]
        made: Generator[tuple[torch.Tensor, list[int] | None], None, None]
        made = self._made(order, bounds, number) if self._resident is None else self._chosen(indices, bounds, number)
        with closing(made):  # its threads end with the epoch, also where that is left early
            yield from self._batches(zip(bounds, made, strict=True), indices, labels, drawn, number)

    def _batches(
        self,
        made: Iterable[tuple[tuple[int, int], tuple[torch.Tensor, list[int] | None]]],
        indices: torch.Tensor,
        labels: torch.Tensor,
        drawn: Drawn | None,
        number: int,
    ) -> Iterator[Batch]:
        """Batches out of images, each with its bounds in the order and the places of those that are there."""
        make = partial(finished, preprocess=self.preprocess, augment=self.augment, device=self.device, seed=self.seed, epoch=number)
        for (first, last), (images, kept) in made:
            batch = make(images, labels[first:last], indices[first:last], drawn[first:last] if drawn is not None else None, kept)
            if len(batch.labels):
                yield batch

    def _chosen(
        self, order: torch.Tensor, bounds: list[tuple[int, int]], number: int
    ) -> Generator[tuple[torch.Tensor, list[int] | None], None, None]:
        """Images out of those that are all at hand, cropped on the device where they are whole."""
        assert self._resident is not None
        taken = order.to(self._resident.device)
        boxes = self._boxes(number)
        for first, last in bounds:
            in_order = not self.shuffle and self.ranks == 1
            images = self._resident[first:last] if in_order else self._resident.index_select(0, taken[first:last])
            if boxes is not None and isinstance(self.pixels, Pixels):
                chosen = order[first:last].numpy()
                cut = torch.from_numpy(boxes(chosen, self.pixels.sizes[chosen])).to(images.device, non_blocking=True)
                images = crops_on_device(images, cut, (self.preprocess.height, self.preprocess.width))
            yield images, None

    def _made(
        self, order: Indices, bounds: list[tuple[int, int]], number: int
    ) -> Generator[tuple[torch.Tensor, list[int] | None], None, None]:
        """Images that threads read, decode and crop, AHEAD batches before they are wanted; and which are there, None for all."""
        p, boxes = self.preprocess, self._boxes(number)
        waiting: deque[tuple[torch.Tensor, list[Future[list[int]]]]] = deque()
        with ThreadPoolExecutor(max_workers=self.threads) as pool:

            def begin(first: int, last: int) -> None:
                with torch.inference_mode(mode=False):  # else threads could not write to it while a model is judged
                    out = torch.empty(last - first, p.channels, p.height, p.width, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
                begun = [
                    pool.submit(self.pixels.fill, order[first + a : min(first + a + CHUNK, last)], out[a : a + CHUNK], boxes)
                    for a in range(0, last - first, CHUNK)
                ]
                waiting.append((out, begun))

            try:
                for bound in bounds[:AHEAD]:
                    begin(*bound)
                for place in range(len(bounds)):
                    if place + AHEAD < len(bounds):
                        begin(*bounds[place + AHEAD])
                    out, begun = waiting.popleft()
                    failed = {CHUNK * chunk + at for chunk, done in enumerate(begun) for at in done.result()}
                    kept = [at for at in range(len(out)) if at not in failed] if failed else None
                    yield out, kept
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _boxes(self, number: int) -> Boxes | None:
        return partial(self.augment.boxes, self.seed, number) if self.augment and self.pixels.form.whole else None

    def _bounds(self) -> list[int]:
        return bounds_of(len(self.pixels), self.batch_size, shuffle=self.shuffle, ranks=self.ranks)


def finished(
    images: torch.Tensor,
    labels: torch.Tensor,
    indices: torch.Tensor,
    drawn: Drawn | None,
    kept: list[int] | None,
    *,
    preprocess: Preprocess,
    augment: Augment | None,
    device: torch.device,
    seed: int,
    epoch: int,
) -> Batch:
    """A batch out of images as they were read: moved, varied, normalised, without those that are not there, and mixed.

    labels, drawn: on the device. kept: the places of those that are there; None for all.
    """
    images = _moved(images, device)
    if augment and drawn is not None:
        images = augment.apply(images, drawn)
    batch = Batch(preprocess.normalise(images), labels, indices)
    if kept is not None:
        batch = batch.only(kept)
    if augment and augment.mixes and len(batch.labels):
        mixed_images, mixed = augment.mix(batch.images, batch.labels, seed, epoch, batch.indices.numpy())
        batch = replace(batch, images=mixed_images, mixed=mixed)
    return batch


def check_sharing(batch_size: int, rank: int, ranks: int) -> None:
    """ValueError for numbers that are none of a batch that ranks can share."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, not 1 or more")
    if not 0 <= rank < ranks <= batch_size:
        raise ValueError(f"rank {rank} of {ranks} cannot share batches of {batch_size}")


def bounds_of(count: int, batch_size: int, *, shuffle: bool, ranks: int = 1) -> list[int]:
    """Where batches begin and end in an order of `count` samples: [0, B, 2B, ..., N]."""
    bounds = [*range(0, count, batch_size), count]
    least = min(batch_size, (2 if shuffle else 1) * ranks)  # a sample each, and two for batch norm
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < least:
        del bounds[-2]
    return bounds


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() <= GPU_SHARE * free


def _moved(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; to a GPU by page-locked memory, so that the copy runs beside the computation."""
    if images.device == device:
        return images
    if device.type == "cuda":
        return (images if images.is_pinned() else images.pin_memory()).to(device, non_blocking=True)
    return images.to(device)
