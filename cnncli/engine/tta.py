"""Test-time augmentation: the scores of an image are those of several views of it, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from cnncli.data.preprocess import Preprocess
from cnncli.errors import UsageError

SHIFT = 1  # pixels
TEN_CROP = "ten-crop"


def averaged(scores: Callable[[Tensor], Tensor], images: Tensor, views: str, size: tuple[int, int] | None = None) -> Tensor:
    """Log-probabilities (N, classes) of images (N, C, H, W): the logarithm of the weighted mean of the views' probabilities.

    views: "none" gives the plain scores; "flips" averages with the mirror image; "shifts" also with both moved by a pixel up left and down
    right, mirrored at the border, each with half the weight (Jordan 2024, arXiv 2404.00498, section 3.5, where scores are averaged);
    "ten-crop" averages over the four corners and the centre of larger images (see `larger`), each of `size` (height, width), and their
    mirror images (Krizhevsky et al. 2012, section 4.1, where probabilities are averaged, as here).
    """
    if views == "none":
        return scores(images)
    parts = [scores(view).log_softmax(1) + math.log(weight) for weight, view in _views(images, views, size)]
    return torch.stack(parts).logsumexp(0)


def larger(preprocess: Preprocess, views: str) -> Preprocess:
    """How images are decoded for `views`: with the margin around the central crop for "ten-crop", for others as always.

    An image is resized as for the central crop, and the centre of height / crop_fraction x width / crop_fraction pixels is kept: 256 x 256
    for "resize 256, crop 224". UsageError where the preprocessing leaves no margin.
    """
    if views != TEN_CROP:
        return preprocess
    height, width = round(preprocess.height / preprocess.crop_fraction), round(preprocess.width / preprocess.crop_fraction)
    if preprocess.resize == "stretch" or (height == preprocess.height and width == preprocess.width):
        raise UsageError(
            "--tta ten-crop needs a margin around the crop, and this model's preprocessing keeps the whole image",
            "--tta flips averages with the mirror image, --tta shifts also with images moved by a pixel",
            path="--tta",
        )
    return replace(preprocess, height=height, width=width, crop_fraction=1.0)


def _views(images: Tensor, views: str, size: tuple[int, int] | None) -> Iterator[tuple[float, Tensor]]:
    if views == "flips":
        yield 0.5, images
        yield 0.5, images.flip(3)
    elif views == TEN_CROP:
        assert size is not None, "ten crops are of a size"
        for crop in _five_crops(images, *size):
            yield 0.1, crop
            yield 0.1, crop.flip(3)
    else:
        yield from _shifted(images)


def _five_crops(images: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Four corners and the centre, which is rounded as the central crop of `Preprocess` is."""
    down, right = images.shape[2] - height, images.shape[3] - width
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))):
        yield images[:, :, top : top + height, left : left + width]


def _shifted(images: Tensor) -> Iterator[tuple[float, Tensor]]:
    height, width = images.shape[2:]
    padded = functional.pad(images, (SHIFT,) * 4, mode="reflect")
    for weight, (top, left) in ((0.25, (SHIFT, SHIFT)), (0.125, (0, 0)), (0.125, (2 * SHIFT, 2 * SHIFT))):
        moved = padded[:, :, top : top + height, left : left + width]
        yield weight, moved
        yield weight, moved.flip(3)
