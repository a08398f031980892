"""Augmentation of whole batches: horizontal flips and small shifts, in one gather, on the CPU or the GPU alike."""

from __future__ import annotations

from dataclasses import dataclass

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

        One gather with an index per pixel. On one core of an EPYC, 3x32x32, batches of 64: 283,000 images/s, against 109,000 for a
        loop over numpy windows, 82,000 for a gather for rows and one for columns, 69,000 for unfolded windows and 32,000 for
        advanced indexing. UsageError when the shift is not below the image's size, where reflection ends.
        """
        count, channels, height, width = batch.shape
        if self.shift >= min(height, width):
            raise UsageError(f"a shift of {self.shift} pixels is too much for images of {height}x{width}", "use a smaller --shift")
        rows, columns = torch.arange(height, device=batch.device), torch.arange(width, device=batch.device)
        from_row = _reflected(rows - drawn[:, 0:1], height)
        before_flip = torch.where(drawn[:, 2:3] == 1, width - 1 - columns, columns)
        from_column = _reflected(before_flip - drawn[:, 1:2], width)
        source = (from_row[:, :, None] * width + from_column[:, None, :]).view(count, 1, height * width)
        return batch.reshape(count, channels, height * width).gather(2, source.expand(-1, channels, -1)).view(batch.shape)


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Positions in -size+1..2*size-2 brought into 0..size-1 by reflection at the first and the last pixel."""
    return size - 1 - (size - 1 - position.abs()).abs()
