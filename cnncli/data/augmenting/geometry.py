"""Shears, translations and rotations of a whole batch, each sample by its own affine map, in one gather."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augmenting.moves import filling

Numbers = npt.NDArray[np.float64]


def inverse_matrices(
    *, shear_x: Numbers, shear_y: Numbers, right: Numbers, down: Numbers, degrees: Numbers, height: int, width: int
) -> Numbers:
    """Affine maps from a pixel of the result to the pixel it shows, in coordinates whose origin is the image's middle: float64 [N, 6].

    Each sample has at most one of these, the others being 0. Row (a, b, c, d, e, f) stands for x' = a x + b y + c, y' = d x + e y + f.
    shear_x, shear_y: tangents; the image's upper left corner stays where it is, as in AutoAugment (Cubuk et al. 2018) and in Pillow.
    right, down: pixels. degrees: against the clock, about the middle.
    """
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    # A shear about the corner (-width/2, -height/2): x' = x + tangent * (y + height/2).
    return np.stack([cosine, shear_x - sine, shear_x * height / 2 - right, shear_y + sine, cosine, shear_y * width / 2 - down], axis=1)


def warp(images: torch.Tensor, matrices: torch.Tensor, fill: tuple[int, ...]) -> torch.Tensor:
    """The nearest pixel that each matrix points to: uint8 [N, C, H, W], float32 [N, 6] on the same device -> a new tensor of that shape.

    fill: the colour outside the image, one value in 0..255 per channel; empty means 0.
    A pixel is nearest to all points of its square; of a point on the line between two squares, the right or the lower one.
    """
    count, channels, height, width = images.shape
    # One pixel of fill all around: whatever points further out is sent there, which saves asking whether it is inside.
    padded = filling(fill, channels, images.device)[..., None].expand(count, -1, height + 2, width + 2).contiguous()
    padded[:, :, 1:-1, 1:-1] = images
    x, y = _centred(height, width, images.device)
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1).unbind(1)
    # Elementwise, since a matrix product may run in TF32 on a GPU, whose ten bits miss pixels. The padding's upper left corner is 0, 0.
    columns = torch.addcmul(torch.addcmul(c + (width / 2 + 1), b, y), a, x).clamp_(0.5, width + 1.5)
    rows = torch.addcmul(torch.addcmul(f + (height / 2 + 1), e, y), d, x).clamp_(0.5, height + 1.5)
    # Whole numbers before they are combined: float32 counts to 2**24 only, less than a large image has pixels.
    source = rows.to(torch.int64).mul_(width + 2).add_(columns.to(torch.int64))
    return padded.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, channels, -1)).view(images.shape)


@lru_cache(maxsize=8)
def _centred(height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates of the pixels' middles from the image's middle: x [1, 1, W] and y [1, H, 1]."""
    x = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    return x.view(1, 1, -1).to(device), y.view(1, -1, 1).to(device)
