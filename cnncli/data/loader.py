"""Batches out of pixels: in an order that (seed, epoch) alone decide, augmented, normalised, on the device, resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch

from cnncli.data.augment import Augment
from cnncli.data.keyed import keyed_order
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess

GPU_SHARE = 0.5  # of the GPU's free memory that pixels may take; the model and its activations need the rest


@dataclass(frozen=True)
class Batch:
    """What a network sees in one step.

    images: float32 [B, C, H, W], normalised, on the loader's device.
    labels: int64 [B], on the same device.
    indices: int64 [B], on the CPU: which of the pixels' samples these are.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class Loader:
    """Batches of `pixels`, epoch by epoch.

    shuffle: training. A new order each epoch; a last batch of one sample, which batch norm cannot take, joins the one before it.
    Without it, samples come in their own order and the last batch may be of any size.

    Nothing is remembered between epochs, so `epoch(3, start=7)` gives what it would have given had the first seven batches been taken.
    The pixels live on the device when it is a GPU and they fit in half of its free memory; otherwise each batch is moved.
    """

    def __init__(
        self,
        pixels: Pixels,
        preprocess: Preprocess,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        shuffle: bool = False,
        device: torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, not 1 or more")
        self.pixels, self.preprocess = pixels, preprocess
        self.batch_size, self.seed, self.augment, self.shuffle = batch_size, seed, augment, shuffle
        self.device = device or torch.device("cpu")
        self._images = pixels.images.to(self.device) if _fits(pixels.images, self.device) else pixels.images
        self._labels = pixels.labels.to(self.device)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._bounds()) - 1

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` (0 is the first)."""
        count = len(self.pixels)
        order = keyed_order(self.seed, number, count) if self.shuffle else np.arange(count)
        indices = torch.from_numpy(order)
        # One transfer an epoch instead of two a batch: the GPU is never made to wait for a few numbers.
        taken = indices.to(self._images.device)
        labels = self._labels.index_select(0, indices.to(self.device))
        drawn = self.augment.draw(self.seed, number, order).to(self.device) if self.augment else None
        bounds = self._bounds()
        for first, last in islice(pairwise(bounds), start, None):
            images = self._images.index_select(0, taken[first:last]) if self.shuffle else self._images[first:last]
            if images.device != self.device:
                images = _moved(images, self.device)
            if self.augment and drawn is not None:
                images = self.augment.apply(images, drawn[first:last])
            yield Batch(self.preprocess.normalise(images), labels[first:last], indices[first:last])

    def _bounds(self) -> list[int]:
        """Where batches begin and end in the order: [0, B, 2B, ..., N]."""
        count = len(self.pixels)
        bounds = [*range(0, count, self.batch_size), count]
        if self.shuffle and len(bounds) > 2 and bounds[-1] - bounds[-2] == 1 < self.batch_size:
            del bounds[-2]
        return bounds


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() <= GPU_SHARE * free


def _moved(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; to a GPU by page-locked memory, so that the copy runs beside the computation."""
    if device.type == "cuda":
        return images.pin_memory().to(device, non_blocking=True)
    return images.to(device)
