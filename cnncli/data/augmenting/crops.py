"""Random resized crops: which part of each image is seen, as in Inception (Szegedy et al. 2014, section 6) and torchvision."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cnncli.data.keyed import CROP, keyed_uniform

RATIO = (3 / 4, 4 / 3)  # width / height in pixels: Szegedy et al. 2014, section 6
TRIES = 10  # torchvision's
_PER_TRY = 4  # purposes of one try: area, ratio, top, left


def random_boxes(
    seed: int, epoch: int, indices: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], least: float
) -> npt.NDArray[np.float32]:
    """The box of each sample: (top, left, height, width) as shares of the image's height and width, float32 [N, 4].

    indices: int64 [N]. sizes: int [N, 2] of (height, width) in pixels. least: the smallest share of the area, in (0, 1].

    torchvision's RandomResizedCrop: area = U(least, 1) H W, ratio = exp U(log 3/4, log 4/3), width = round(sqrt(area * ratio)) and
    height = round(sqrt(area / ratio)) pixels, at a place of whole pixels. What does not fit is drawn again, ten times in all; then the
    box is the largest one in the middle whose ratio lies within 3/4..4/3.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    boxes = _middle(sizes)
    left = np.arange(len(indices))  # samples that have no box yet
    for number in range(TRIES):
        purpose = CROP + _PER_TRY * number
        area, ratio, down, right = (keyed_uniform(seed, epoch, indices[left], purpose + kind) for kind in range(_PER_TRY))
        full = sizes[left]
        area = (least + (1 - least) * area) * full[:, 0] * full[:, 1]
        ratio = np.exp(math.log(RATIO[0]) + ratio * (math.log(RATIO[1]) - math.log(RATIO[0])))
        size = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=1))).astype(np.int64)
        corner = (np.stack([down, right], axis=1) * (full - size + 1)).astype(np.int64)
        fits = ((size > 0) & (size <= full)).all(axis=1)
        boxes[left[fits]] = np.concatenate([corner, size], axis=1)[fits]
        left = left[~fits]
        if not len(left):
            break
    return (boxes / np.tile(sizes, 2)).astype(np.float32)


def _middle(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The largest boxes in the middle whose ratio lies within RATIO: int64 [N, 4] of (top, left, height, width) in pixels."""
    height, width = sizes.T
    ratio = width / height
    size = np.stack(
        [
            np.where(ratio < RATIO[0], np.rint(width / RATIO[0]), height),
            np.where(ratio > RATIO[1], np.rint(height * RATIO[1]), width),
        ],
        axis=1,
    ).astype(np.int64)
    return np.concatenate([(sizes - size) // 2, size], axis=1)
