"""What a frozen prefix makes of images, computed once and kept; and batches of it, so that training costs only what comes behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnncli import atomic
from cnncli.data.balanced import balanced_order
from cnncli.data.keyed import VIEW, keyed_integers, keyed_order
from cnncli.data.loader import Batch, bounds_of, check_sharing
from cnncli.data.pixels import available_memory
from cnncli.engine.config import ComputeConfig, InferConfig
from cnncli.engine.distributed import World
from cnncli.engine.infer import Forward, prepare
from cnncli.engine.precision import candidates

MEMORY_SHARE = 0.4  # of the memory that is free
TRIED_IMAGES = 16
WORTH_TRYING = 20.0  # seconds of computing in float32 below which the clock decides nothing
FASTER = 1.5  # how many times numbers of 16 bits must be, to be worth their rounding


class Images(Protocol):
    """Batches of images in their own order; `epoch(n)` is their n-th variation."""

    @property
    def count(self) -> int:
        """The number of images."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of variation `number`."""


@dataclass(frozen=True)
class Kept:
    """features: [N, V, ...], of V views of each image. labels: int64 [N]. seconds: that it took to compute them.

    samples: int64 [N], which of the source's images these are; None where they are all.
    """

    features: Tensor
    labels: Tensor
    seconds: float = 0.0
    samples: Tensor | None = None

    @property
    def views(self) -> int:
        """Views of each image."""
        return self.features.shape[1]


def prefix_forward(prefix: nn.Module, images: Tensor, precision: str, device: torch.device, *, count: int) -> Forward:
    """The fastest way to compute a frozen prefix on preprocessed images [N, C, H, W], of which `count` are to come.

    precision: auto takes numbers of 16 bits where these are much faster and there is much to compute; what is kept is then rounded as in a
    training in these numbers.
    """
    ways = candidates(ComputeConfig(precision=precision, memory_format="contiguous"), device)
    few = images[:TRIED_IMAGES]

    def ready(numbers: str) -> Forward:
        return prepare(prefix, lambda: few, InferConfig(precision=numbers), device=device)

    exact = ready(ways[0].precision)
    if len(ways) == 1:
        return exact
    seconds = _seconds(exact, few)
    if seconds * count / len(few) < WORTH_TRYING:
        return exact
    try:
        faster = ready(ways[1].precision)
        return faster if seconds > FASTER * _seconds(faster, few) else exact
    except RuntimeError:  # an operation that lacks these numbers
        return exact


def _seconds(forward: Forward, images: Tensor) -> float:
    """The shorter of two runs after one that warms up."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        forward(images).sum().item()  # which waits for the device
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def bytes_needed(sample: Tensor, images: int, views: int) -> int:
    """Of the features of so many images, of which `sample` [1, ...] is one."""
    return sample.numel() * sample.element_size() * images * views


def room_for(size: int, folder: Path | None) -> str:
    """Where that many bytes fit: "memory", "disk" (below `folder`), or "" for nowhere."""
    import shutil

    free = available_memory()
    if free is None or size < MEMORY_SHARE * free:
        return "memory"
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), None) if folder is not None else None
    if there is not None and os.access(there, os.W_OK) and size < MEMORY_SHARE * shutil.disk_usage(there).free:
        return "disk"
    return ""


@torch.no_grad()
def compute(
    forward: Callable[[Tensor], Tensor],
    plain: Images,
    varied: Images | None,
    *,
    views: int,
    mirror: bool,
    world: World,
    folder: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Kept:
    """The features of `views` views of each image and, with `mirror`, of their mirror images.

    The first view is the image as validation sees it (`plain`), the others variations 1, 2, ... of `varied`. Each process computes those
    of its part of the images, by their numbers, and gets all. folder: where to keep them on disk; None keeps them in memory.
    Images that could not be read, in whichever view, are left out.
    """
    began, count, times = time.perf_counter(), plain.count, 2 if mirror else 1
    kept: Tensor | None = None
    labels, seen = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    for view in range(views):
        source = plain if view == 0 else varied
        assert source is not None
        done = 0
        for batch in source.epoch(view):
            places = batch.indices
            for turned in range(times):
                images = batch.images.flip(3) if turned else batch.images
                found = forward(images).cpu()
                if kept is None:
                    kept = _empty((count, views * times, *found.shape[1:]), found.dtype, folder)
                kept[places, view * times + turned] = found
            labels[places] = batch.labels.cpu()
            seen[places] += 1
            done += len(places) * world.ranks
            on_progress(min(done, count) + view * count, count * views)
    assert kept is not None
    # Each process has filled in its part and left zeros elsewhere.
    kept, labels, there = world.summed(kept), world.summed(labels), world.summed(seen) == views
    if there.all():
        return Kept(kept, labels, time.perf_counter() - began)
    samples = there.nonzero().flatten()
    return Kept(kept[samples], labels[samples], time.perf_counter() - began, samples)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
    """Zeros; with `folder` in a file there that has no name, so that nothing is left of it when this process ends."""
    if folder is None:
        return torch.zeros(shape, dtype=dtype)
    size = int(np.prod(shape)) * torch.empty((), dtype=dtype).element_size()
    with atomic.temporary_folder(folder) as inside, (inside / "features").open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, and not the end of the process on writing to the map
        else:
            file.truncate(size)
        mapped = torch.from_file(file.name, shared=True, size=int(np.prod(shape)), dtype=dtype)
    return mapped.view(shape)  # the map keeps the bytes of the file that has no name any more


class KeptLoader:
    """Batches of kept features in the order in which `Loader` gives images; Batch.images is [B, ...] of the features.

    shuffle: training; in epoch e an image is seen in view (o + e) mod V, where o is drawn once for it, so that it is seen in all V views
    in V epochs. Without it, in its own order and its first view.
    """

    def __init__(
        self,
        kept: Kept,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        balanced: bool = False,
        device: torch.device | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        check_sharing(batch_size, rank, ranks)
        self.kept, self.batch_size, self.seed = kept, batch_size, seed
        self.shuffle, self.balanced, self.rank, self.ranks = shuffle, balanced, rank, ranks
        self.device = device or torch.device("cpu")

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._bounds()) - 1

    @property
    def count(self) -> int:
        """The number of images in an epoch, of all ranks together."""
        return len(self.kept.labels)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` (0 is the first)."""
        order, views = self.order(number), self.views(number)
        for first, last in list(pairwise(self._bounds()))[start:]:
            own = torch.from_numpy(order[first + self.rank : last : self.ranks].copy())
            if not len(own):
                continue
            features = self.kept.features[own, views[own]].to(self.device).float()
            samples = own if self.kept.samples is None else self.kept.samples[own]
            yield Batch(features, self.kept.labels[own].to(self.device), samples, total=last - first)

    def order(self, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Images in the order of an epoch, of all ranks together: that of `Loader`."""
        if self.balanced:
            return balanced_order(self.kept.labels.numpy(), self.seed, number)
        return keyed_order(self.seed, number, self.count) if self.shuffle else np.arange(self.count)

    def views(self, number: int) -> Tensor:
        """Which view of each image an epoch sees: int64 [N]."""
        if not self.shuffle:
            return torch.zeros(self.count, dtype=torch.int64)
        offsets = keyed_integers(self.seed, 0, np.arange(self.count), VIEW, self.kept.views)
        return torch.from_numpy((offsets + number) % self.kept.views)

    def _bounds(self) -> list[int]:
        return bounds_of(self.count, self.batch_size, shuffle=self.shuffle, ranks=self.ranks)
