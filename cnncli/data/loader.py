"""Batches out of pixels: in an order that (seed, epoch) alone decide, augmented, normalised, on the device, resumable at any batch."""

from __future__ import annotations

import time
from collections import defaultdict, deque
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
from cnncli.data.balanced import balanced_order, repeats
from cnncli.data.form import crops_on_device
from cnncli.data.held import CHUNK, Boxes, Held, Indices
from cnncli.data.keyed import keyed_order
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.threads import LEAVING, Stalled, finish_by, leave, usual_threads
from cnncli.errors import UsageError

GPU_SHARE = 0.5  # of the GPU's free memory that pixels may take; the model and its activations need the rest
AHEAD = 2  # batches that are made while the network works on another: one is done when it is needed, one in the making


_Bounds = tuple[int, int, int]  # of a rank's part of a batch, in its order; and how many images the whole batch has
_Made = tuple[torch.Tensor, list[int] | None]  # images as they were read, and the places of those that are there; None for all


@dataclass(frozen=True)
class Batch:
    """What a network sees in one step.

    images: float32 [B, C, H, W], normalised, on the loader's device.
    labels: int64 [B], on the same device.
    indices: int64 [B], on the CPU: which of the pixels' samples these are.
    mixed: what they were mixed with, where mixup or cutmix is on.
    total: images of the whole batch, of which this is one rank's part, less those that are missing here; by default B. A mean over
        the whole batch is the sum over the ranks of (sum over the part) / total.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    mixed: Mixed | None = None
    total: int = 0

    def __post_init__(self) -> None:
        if not self.total:
            object.__setattr__(self, "total", len(self.labels))

    def only(self, places: list[int]) -> Batch:
        """Those at these places; before images are mixed."""
        chosen = torch.tensor(places, dtype=torch.int64)
        left = self.total - len(self.labels) + len(places)
        images, labels = self.images[chosen.to(self.images.device)], self.labels[chosen.to(self.labels.device)]
        return Batch(images, labels, self.indices[chosen], total=left)


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
    balanced: when shuffling, as many images an epoch, drawn so that each class comes up equally often (see `balanced_order`); an image
    that comes up twice is varied in two ways.
    rank, ranks: of several processes that train together, each takes its part of every batch: of the samples of a batch in their
    order, every `ranks`-th from `rank` on. All have the same number of batches: a last batch that has not enough for all (one each, in
    training two) joins the one before it. Whom mixing mixes is decided within the part. Without shuffling every image is in one part,
    and a rank may have no batch where images are fewer than ranks.
    threads: that read, decode and crop, where that is to be done for each batch anew. stall: seconds that a batch may be waited for
    then; Stalled is raised after that. None waits for ever.

    Nothing is remembered between epochs, so `epoch(3, start=7)` gives what it would have given had the first seven batches been taken.
    The pixels live on the device when it is a GPU and they fit in half of its free memory; otherwise each batch is moved.
    Images that cannot be read any more, which happens only to streams, are missing in their batch.

    UsageError: too few images to train on with so many ranks, two each being the least that batch norm can take.
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
        balanced: bool = False,
        stall: float | None = None,
    ) -> None:
        check_sharing(batch_size, rank, ranks)
        if balanced and not shuffle:
            raise ValueError("only what is shuffled can be balanced")
        if pixels.form.whole and augment is None:
            raise ValueError("whole images need an augmentation that crops them")
        self.pixels, self.preprocess = pixels, preprocess
        self.batch_size, self.seed, self.augment, self.shuffle = batch_size, seed, augment, shuffle
        self.rank, self.ranks, self.balanced, self.stall = rank, ranks, balanced, stall
        if shuffle and ranks > 1 and len(self) == 1 and len(pixels) < 2 * ranks:
            raise UsageError(f"{len(pixels)} images cannot be shared by {ranks} processes", "use fewer, or more images", path="--gpus")
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
        order, keys, bounds = self._order(number)
        indices = torch.from_numpy(order)
        # One transfer an epoch instead of two a batch: the GPU is never made to wait for a few numbers.
        labels = self._labels.index_select(0, indices.to(self.device))
        drawn = self.augment.draw(self.seed, number, keys).to(self.device) if self.augment else None
        bounds = bounds[start:]
        made: Generator[_Made, None, None]
        made = self._made(order, keys, bounds, number) if self._resident is None else self._chosen(indices, keys, bounds, number)
        with closing(made):  # its threads end with the epoch, also where that is left early
            yield from self._batches(zip(bounds, made, strict=True), indices, labels, drawn, number)

    def _order(self, number: int) -> tuple[Indices, Indices, list[_Bounds]]:
        """This rank's samples in the order in which they are seen, their keys, and its part of each batch.

        What is random about a sample is drawn by its key: its index, or one beyond all indices where it comes up again.
        """
        count = len(self.pixels)
        if self.balanced:
            order = balanced_order(self.pixels.labels.numpy(), self.seed, number)
            keys = order + count * repeats(order)
        else:
            order = keys = keyed_order(self.seed, number, count) if self.shuffle else np.arange(count)
        whole = list(pairwise(self._bounds()))
        if self.ranks == 1:
            return order, keys, [(first, last, last - first) for first, last in whole]
        parts = [np.arange(first + self.rank, last, self.ranks) for first, last in whole]
        places, ends = np.concatenate(parts), np.cumsum([0, *map(len, parts)]).tolist()
        bounds = [(*part, last - first) for part, (first, last) in zip(pairwise(ends), whole, strict=True)]
        return order[places], keys[places], bounds

    def _batches(
        self, made: Iterable[tuple[_Bounds, _Made]], indices: torch.Tensor, labels: torch.Tensor, drawn: Drawn | None, number: int
    ) -> Iterator[Batch]:
        """Batches out of images, each with its bounds in the order and the places of those that are there."""
        make = partial(finished, preprocess=self.preprocess, augment=self.augment, device=self.device, seed=self.seed, epoch=number)
        for (first, last, total), (images, kept) in made:
            own = drawn[first:last] if drawn is not None else None
            batch = make(images, labels[first:last], indices[first:last], own, kept, total=total)
            if len(batch.labels):
                yield batch

    def _chosen(self, order: torch.Tensor, keys: Indices, bounds: list[_Bounds], number: int) -> Generator[_Made, None, None]:
        """Images out of those that are all at hand, cropped on the device where they are whole."""
        assert self._resident is not None
        taken = order.to(self._resident.device)
        boxes = self._boxes(number)
        for first, last, _ in bounds:
            in_order = not self.shuffle and self.ranks == 1
            images = self._resident[first:last] if in_order else self._resident.index_select(0, taken[first:last])
            if boxes is not None and isinstance(self.pixels, Pixels):
                sizes = self.pixels.sizes[order[first:last].numpy()]
                cut = torch.from_numpy(boxes(keys[first:last], sizes)).to(images.device, non_blocking=True)
                images = crops_on_device(images, cut, (self.preprocess.height, self.preprocess.width))
            yield images, None

    def _made(self, order: Indices, keys: Indices, bounds: list[_Bounds], number: int) -> Generator[_Made, None, None]:
        """Images that threads read, decode and crop, AHEAD batches before they are wanted; and which are there, None for all."""
        p, boxes, patience = self.preprocess, self._boxes(number), LEAVING
        waiting: deque[tuple[torch.Tensor, list[Future[list[int]]]]] = deque()
        pool = ThreadPoolExecutor(max_workers=self.threads)

        def begin(first: int, last: int) -> None:
            with torch.inference_mode(mode=False):  # else threads could not write to it while a model is judged
                out = torch.empty(last - first, p.channels, p.height, p.width, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
            begun = []
            for a in range(first, last, CHUNK):
                chunk = slice(a, min(a + CHUNK, last))
                own = _by_keys(boxes, order[chunk], keys[chunk]) if boxes and self.balanced else boxes
                begun.append(pool.submit(self.pixels.fill, order[chunk], out[a - first : a - first + CHUNK], own))
            waiting.append((out, begun))

        try:
            for first, last, _ in bounds[:AHEAD]:
                begin(first, last)
            for place, (first, _, _) in enumerate(bounds):
                if place + AHEAD < len(bounds):
                    begin(*bounds[place + AHEAD][:2])
                out, begun = waiting[0]
                failed = self._failed(begun, order[first:])
                waiting.popleft()
                yield out, [at for at in range(len(out)) if at not in failed] if failed else None
        except Stalled:
            patience = 0.0  # whatever hangs goes on hanging
            raise
        finally:
            leave(pool, [task for _, begun in waiting for task in begun], patience)

    def _failed(self, begun: list[Future[list[int]]], order: Indices) -> set[int]:
        """The places of a batch's images that could not be read, once its tasks are done; order: of samples, from its first on."""
        ends = None if self.stall is None else time.monotonic() + self.stall
        failed: set[int] = set()
        for chunk, task in enumerate(begun):
            try:
                failed.update(CHUNK * chunk + at for at in finish_by(task, ends))
            except TimeoutError as error:
                if self.stall is None or task.done():  # then it is the task's own
                    raise
                raise Stalled(self.pixels.samples[order[CHUNK * chunk]].path, self.stall) from error
        return failed

    def _boxes(self, number: int) -> Boxes | None:
        return partial(self.augment.boxes, self.seed, number) if self.augment and self.pixels.form.whole else None

    def _bounds(self) -> list[int]:
        return bounds_of(len(self.pixels), self.batch_size, shuffle=self.shuffle, ranks=self.ranks)


def _by_keys(boxes: Boxes, indices: Indices, keys: Indices) -> Boxes:
    """Boxes of a chunk in which a sample may come up twice, each by its own key. Whoever reads asks in order, and leaves bad ones out."""
    waiting: defaultdict[int, deque[int]] = defaultdict(deque)
    for index, key in zip(indices.tolist(), keys.tolist(), strict=True):
        waiting[index].append(key)
    return lambda asked, sizes: boxes(np.array([waiting[index].popleft() for index in asked.tolist()]), sizes)


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
    total: int,
) -> Batch:
    """A batch out of images as they were read: moved, varied, normalised, without those that are not there, and mixed.

    labels, drawn: on the device. kept: the places of those that are there; None for all. total: see `Batch`.
    """
    images = _moved(images, device)
    if augment and drawn is not None:
        images = augment.apply(images, drawn)
    batch = Batch(preprocess.normalise(images), labels, indices, total=total)
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
