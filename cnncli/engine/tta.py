"""Test-time augmentation: the scores of an image are those of several views of it, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 1  # pixels


def averaged(scores: Callable[[Tensor], Tensor], images: Tensor, views: str) -> Tensor:
    """Log-probabilities (N, classes) of images (N, C, H, W): the logarithm of the weighted mean of the views' probabilities.

    views: "none" gives the plain scores; "flips" averages with the mirror image; "shifts" also with both moved by a pixel up left and down
    right, mirrored at the border, each with half the weight (Jordan 2024, arXiv 2404.00498, section 3.5, where scores are averaged).
    """
    if views == "none":
        return scores(images)
    parts = [scores(view).log_softmax(1) + math.log(weight) for weight, view in _views(images, views)]
    return torch.stack(parts).logsumexp(0)


def _views(images: Tensor, views: str) -> Iterator[tuple[float, Tensor]]:
    if views == "flips":
        yield 0.5, images
        yield 0.5, images.flip(3)
        return
    height, width = images.shape[2:]
    padded = functional.pad(images, (SHIFT,) * 4, mode="reflect")
    for weight, (top, left) in ((0.25, (SHIFT, SHIFT)), (0.125, (0, 0)), (0.125, (2 * SHIFT, 2 * SHIFT))):
        moved = padded[:, :, top : top + height, left : left + width]
        yield weight, moved
        yield weight, moved.flip(3)
