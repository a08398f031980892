"""Augmentation of whole batches: horizontal flips and small shifts, in one gather, on the CPU or the GPU alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.keyed import FLIP, SHIFT_X, SHIFT_Y, keyed_integers
from cnncli.errors import UsageError


@dataclass(frozen=True)
class Augment:
    """What is varied about a training image.

    flip: mirror left-right with probability 1/2.
    shift: move by up to this many pixels, each of -shift..shift equally likely, down and to the right independently.

    What a shift uncovers is filled by reflection (the border pixel itself is not repeated), which is right for any background, where
    zeros are not; pad-and-crop with reflection is common practice on CIFAR. The flip comes after the shift.
    """

    flip: bool = True
    shift: int = 0

    def draw(self, seed: int, epoch: int, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """What happens to each sample, keyed by (seed, epoch, its index): int64 [N, 3] of (shift down, shift right, flipped)."""
        drawn = np.zeros((len(indices), 3), dtype=np.int64)
        if self.shift:
            drawn[:, 0] = keyed_integers(seed, epoch, indices, SHIFT_Y, 2 * self.shift + 1) - self.shift
            drawn[:, 1] = keyed_integers(seed, epoch, indices, SHIFT_X, 2 * self.shift + 1) - self.shift
        if self.flip:
            drawn[:, 2] = keyed_integers(seed, epoch, indices, FLIP, 2)
        return torch.from_numpy(drawn)

    def apply(self, batch: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Shift, then flip: uint8 [B, C, H, W] and `drawn` [B, 3] on the same device -> a new batch of the same shape.

        One gather with an index per pixel. Measured side by side, 3x32x32, batches of 64, one core of an EPYC, best of 5: 0.23 ms a
        batch, against 0.59 for a loop over numpy windows, 0.78 for one gather for rows and one for columns, 0.93 for unfolded
        windows and 1.97 for advanced indexing. UsageError when the shift is not below the image's size, where reflection ends.
        """
        count, channels, height, width = batch.shape
        if self.shift >= min(height, width):
            raise UsageError(f"a shift of {self.shift} pixels is too much for images of {height}x{width}", "use a smaller --shift")
        from_row, from_column = _tables(self.shift, height, width, batch.device)
        down, right, flipped = drawn.unbind(1)
        rows = from_row.index_select(0, down + self.shift)
        columns = from_column.index_select(0, right + self.shift + (2 * self.shift + 1) * flipped)
        source = (rows[:, :, None] + columns[:, None, :]).view(count, 1, height * width)
        return batch.reshape(count, channels, height * width).gather(2, source.expand(-1, channels, -1)).view(batch.shape)


@lru_cache(maxsize=8)
def _tables(shift: int, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Where pixels come from, for every shift: row offsets [2 shift + 1, H], and columns [2 (2 shift + 1), W], flipped last."""
    shifts = torch.arange(-shift, shift + 1)[:, None]
    rows = _reflected(torch.arange(height) - shifts, height) * width
    columns = _reflected(torch.arange(width) - shifts, width)
    return rows.to(device), torch.cat([columns, columns.flip(1)]).to(device)


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Positions in -size+1..2*size-2 brought into 0..size-1 by reflection at the first and the last pixel."""
    return size - 1 - (size - 1 - position.abs()).abs()
