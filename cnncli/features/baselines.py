"""What an image is without any network, as honest baselines: its pixels, and histograms of oriented gradients."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cnncli.errors import EnvironmentFault

if TYPE_CHECKING:
    from cnncli.data.preprocess import Preprocess

PIXEL_SIDE = 32  # CIFAR's: enough to know the object by, and 3,072 numbers in colour
HOG_SIDE = 128  # of larger images HOG takes several times as long; a 128 x 64 window is what it was made for
ORIENTATIONS = 9  # of 0..180 degrees; these and the blocks are those of Dalal and Triggs 2005
BLOCK = 2  # cells of a block's side
CELLS = 8  # along an image's side, about
LEAST_CELL = 2  # pixels: one pixel has a single gradient, of which there is no histogram
GREY = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601), as Pillow makes images grey


def pixel_space(preprocess: Preprocess) -> tuple[int, int, int]:
    """(channels, height, width) of what `pixels` takes of an image that a network with this preprocessing sees."""
    return (preprocess.channels, *_within(preprocess.height, preprocess.width, PIXEL_SIDE))


def pixels(images: Tensor) -> Tensor:
    """float32 [N, D] in 0..1 on the CPU: the pixels of uint8 [N, C, H, W], a channel after the other, D as in `pixel_space`.

    Images with a side above 32 are made smaller, the longer side to 32; each pixel is then the mean of those it stands for.
    """
    return _smaller(images, PIXEL_SIDE).flatten(1)


def hog_size(channels: int, height: int, width: int) -> int:
    """Numbers of `hog` for images of this size; HOG looks at brightness, so the number of channels does not matter."""
    assert channels
    size = _within(height, width, HOG_SIDE)
    cell = _cell(*size)
    cells = [max(1, side // cell) for side in size]
    blocks = [min(BLOCK, count) for count in cells]
    places = [count - block + 1 for count, block in zip(cells, blocks, strict=True)]
    return places[0] * places[1] * blocks[0] * blocks[1] * ORIENTATIONS


def hog(images: Tensor) -> Tensor:
    """float32 [N, D] in 0..1 on the CPU: histograms of oriented gradients of uint8 [N, C, H, W], D as in `hog_size`.

    Dalal and Triggs 2005 (CVPR, "Histograms of oriented gradients for human detection"), by scikit-image: brightness in 0..1, gradients
    [-1, 0, 1], in each cell a histogram of 9 unsigned orientations weighted by the gradients' lengths, each block of 2 x 2 cells divided by
    its length, cut at 0.2 and divided again (L2-Hys). Not as there: the side of a cell follows the image, so that there are about 8 x 8 of
    them whatever its size; of colours their brightness is taken; and a pixel votes for one orientation in one cell, without interpolation.
    Images with a side above 128 are made smaller first. Two cores are no faster than one: Python itself takes most of the time.

    EnvironmentFault without scikit-image.
    """
    try:
        from skimage.feature import hog as histograms
    except ImportError as error:
        raise EnvironmentFault("HOG features need the package scikit-image", "pip install scikit-image", path="--baselines") from error
    channels, height, width = images.shape[1:]
    found = np.empty((len(images), hog_size(channels, height, width)), dtype=np.float32)
    size = _within(height, width, HOG_SIDE)
    cell = _cell(*size)
    cells = [min(side, cell) for side in size]
    blocks = [min(BLOCK, max(1, side // cell)) for side in size]
    for row, image in enumerate(_brightness(_smaller(images, HOG_SIDE)).numpy()):
        found[row] = histograms(
            image, orientations=ORIENTATIONS, pixels_per_cell=cells, cells_per_block=blocks, block_norm="L2-Hys", feature_vector=True
        )
    return torch.from_numpy(found)


def _brightness(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W]."""
    if images.shape[1] == len(GREY):
        # Number by number: a matrix product would round as its size, the number of images, has it.
        return images[:, 0] * GREY[0] + images[:, 1] * GREY[1] + images[:, 2] * GREY[2]
    return images.mean(1)


def _cell(height: int, width: int) -> int:
    """The side of a cell in pixels: square, about CELLS x CELLS of an image in all."""
    return max(LEAST_CELL, round(sqrt(height * width) / CELLS))


def _within(height: int, width: int, most: int) -> tuple[int, int]:
    """The size of an image whose longer side is at most `most`, in its proportions."""
    longest = max(height, width)
    if longest <= most:
        return height, width
    return max(1, round(height * most / longest)), max(1, round(width * most / longest))


def _smaller(images: Tensor, most: int) -> Tensor:
    """uint8 [N, C, H, W] -> float32 in 0..1 on the CPU, no side above `most`."""
    found = images.cpu().to(torch.float32) / 255
    size = _within(images.shape[2], images.shape[3], most)
    if size == tuple(images.shape[2:]):
        return found
    # An average of floats in 0..1 may come out a rounding above 1.
    return interpolate(found, size=size, mode="area").clamp_(0, 1)
