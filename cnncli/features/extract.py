"""Features of many images: each batch is read once, and every space takes its numbers from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnncli.data.loader import Batch
from cnncli.data.preprocess import Preprocess
from cnncli.features.feature_set import Array, Space

BLOCK = 1024  # images, about, that are computed between two looks at what is done, and whose numbers are in memory at a time
Rows = npt.NDArray[np.int64]


class Embedder(Protocol):
    """What gives the numbers of some spaces for a batch."""

    @property
    def spaces(self) -> tuple[Space, ...]:
        """Whose numbers it gives, in this order."""

    def __call__(self, images: Tensor) -> Tensor:
        """[N, C, H, W], normalised, on the device -> float [N, D] on any device, D the sum of the spaces' sizes."""


@dataclass(frozen=True)
class OfPixels:
    """A space computed from the pixels that the model sees, whole numbers in 0..255, and from no model."""

    space: Space
    preprocess: Preprocess
    compute: Callable[[Tensor], Tensor]

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The one."""
        return (self.space,)

    def __call__(self, images: Tensor) -> Tensor:
        """What `compute` makes of uint8 [N, C, H, W]."""
        return self.compute(denormalised(self.preprocess, images))


@dataclass(frozen=True)
class OfModel:
    """Spaces of one model: `forward` gives their numbers one after the other (see `Tapped`)."""

    spaces: tuple[Space, ...]
    forward: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """As `forward`."""
        return self.forward(images)


@dataclass(frozen=True)
class Block:
    """Some images. rows: int64 [n], which of the source's images they are, rising. arrays: by the space's name, [n, *shape]."""

    rows: Rows
    arrays: dict[str, Array]


class Batches(Protocol):
    """What gives batches in the source's order."""

    batch_size: int

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches from `start` on."""


def batches_a_block(batch_size: int) -> int:
    """How many batches make a block."""
    return max(1, round(BLOCK / batch_size))


def blocks_of(batches: Batches) -> int:
    """How many blocks the images of `batches` are."""
    return -(-len(batches) // batches_a_block(batches.batch_size))


def extract(
    embedders: Sequence[Embedder],
    batches: Batches,
    *,
    dtype: str = "float32",
    wanted: Sequence[int] | None = None,
    on_batch: Callable[[int], None] = lambda _images: None,
) -> Iterator[tuple[int, Block]]:
    """(number, block) of the wanted blocks, all by default, in rising order; of images that can be read.

    dtype: float32 or float16. on_batch: called with the number of images of each batch that is done. CnnError where a model's numbers are
    not finite, or where they are too large for float16.
    """
    size = batches_a_block(batches.batch_size)
    numbers = sorted(range(blocks_of(batches)) if wanted is None else wanted)
    for first, last in _runs(numbers):
        stream = batches.epoch(0, start=first * size)
        for number in range(first, last + 1):
            parts: list[tuple[Rows, list[Tensor]]] = []
            end = min(size * (number + 1), len(batches))
            for _ in range(size * number, end):
                batch = next(stream, None)
                if batch is None:
                    break
                parts.append((batch.indices.numpy(), [embedder(batch.images).cpu() for embedder in embedders]))
                on_batch(len(batch.indices))
            if parts:
                yield number, _joined(embedders, parts, dtype)


def _joined(embedders: Sequence[Embedder], parts: list[tuple[Rows, list[Tensor]]], dtype: str) -> Block:
    """The batches of a block, their columns told apart by space."""
    rows = np.concatenate([own for own, _ in parts])
    arrays: dict[str, Array] = {}
    for place, embedder in enumerate(embedders):
        numbers = torch.cat([tensors[place] for _, tensors in parts])
        ends = np.cumsum([0, *(space.size for space in embedder.spaces)]).tolist()
        for space, (first, last) in zip(embedder.spaces, pairwise(ends), strict=True):
            own = numbers[:, first:last].reshape(len(rows), *space.shape).numpy().astype(dtype)
            arrays[space.name] = own
    return Block(rows, arrays)


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each stretch without a gap."""
    first = previous = None
    for number in numbers:
        if first is None:
            first = number
        elif number != previous + 1:  # type: ignore[operator] # set together with first
            yield first, previous  # type: ignore[misc]
            first = number
        previous = number
    if first is not None and previous is not None:
        yield first, previous


def denormalised(preprocess: Preprocess, images: Tensor) -> Tensor:
    """The uint8 pixels [N, C, H, W] that `Preprocess.normalise` made these images of, exactly, on the CPU."""
    mean = torch.tensor(preprocess.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocess.std, device=images.device).view(1, -1, 1, 1)
    return ((images * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8).cpu()
