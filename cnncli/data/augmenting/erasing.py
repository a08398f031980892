"""Random erasing (Zhong et al. 2017): a rectangle of each chosen image is replaced by noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augmenting.selecting import select
from cnncli.data.keyed import ERASE, ERASED, NOISE, keyed_bits, keyed_integers, keyed_uniform

# Zhong et al. 2017, section 5.1: s_l, s_h, r_1 and r_2.
AREA = (0.02, 0.4)
RATIO = (0.3, 1 / 0.3)
# The paper tries until a rectangle fits, which a third of them do: after so many tries, one sample in 10**10 stays whole.
TRIES = 64
_PER_TRY = 4  # purposes of one try: area, ratio, top, left
BANK = 2**20  # noise pictures are windows of this many random bytes, at one of as many places


def random_rectangles(seed: int, epoch: int, indices: npt.NDArray[np.int64], probability: float) -> npt.NDArray[np.float32]:
    """(top, left, height, width) as shares of the image's height and width, float32 [N, 4]; zeros where nothing is erased.

    Algorithm 1 on an image of 1 x 1: S_e = U(s_l, s_h), r_e = U(r_1, r_2), H_e = sqrt(S_e r_e), W_e = sqrt(S_e / r_e), and a corner of
    U(0, 1) twice, until the rectangle lies inside. So r_e is a ratio of shares, the paper's where images are square.
    """
    rectangles = np.zeros((len(indices), 4))
    left = np.flatnonzero(keyed_uniform(seed, epoch, indices, ERASED) < probability)
    for number in range(TRIES):
        if not len(left):
            break
        purpose = ERASE + _PER_TRY * number
        area, ratio, top, start = (keyed_uniform(seed, epoch, indices[left], purpose + kind) for kind in range(_PER_TRY))
        area = AREA[0] + area * (AREA[1] - AREA[0])
        ratio = RATIO[0] + ratio * (RATIO[1] - RATIO[0])
        height, width = np.sqrt(area * ratio), np.sqrt(area / ratio)
        inside = (top + height <= 1) & (start + width <= 1)
        rectangles[left[inside]] = np.stack([top, start, height, width], axis=1)[inside]
        left = left[~inside]
    return rectangles.astype(np.float32)


def noise_places(seed: int, epoch: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where in the bank each sample's noise begins: int64 [N] in 0..BANK-1."""
    return keyed_integers(seed, epoch, indices, NOISE, BANK)


def erase(batch: torch.Tensor, rectangles: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Replace the rectangles by noise: uint8 [B, C, H, W], float32 [B, 4], int64 [B], all on one device -> uint8 of the batch's shape.

    Each value of the noise is uniform over 0..255 (the paper's RE-R, its best in table 4). A rectangle is at least one pixel high and wide.
    """
    count, channels, height, width = batch.shape
    rows, columns = (_covered(rectangles[:, axis], rectangles[:, axis + 2], size) for axis, size in ((0, height), (1, width)))
    pixels = channels * height * width
    bank = _bank(pixels, batch.device)
    noise = bank.as_strided((BANK, pixels), (1, 1)).index_select(0, places).view(batch.shape)
    return select((rows[:, :, None] & columns[:, None, :]).view(count, 1, height, width), noise, batch)


def _covered(start: torch.Tensor, length: torch.Tensor, size: int) -> torch.Tensor:
    """Which of `size` rows (or columns) a stretch covers, in shares of the size: bool [B, size]. None where its length is 0."""
    pixels = (length * size).round_().clamp_(min=1)
    first = torch.minimum((start * size).round_(), size - pixels)
    at = torch.arange(size, device=start.device)
    return (at >= first[:, None]) & (at < torch.where(length > 0, first + pixels, first)[:, None])


@lru_cache(maxsize=4)
def _bank(pixels: int, device: torch.device) -> torch.Tensor:
    """BANK + pixels random bytes, the same ones in every run."""
    words = keyed_bits(0, 0, np.arange((BANK + pixels) // 8 + 1), NOISE)
    return torch.from_numpy(words.astype("<u8").view(np.uint8).copy()).to(device)
