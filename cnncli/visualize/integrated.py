"""What each pixel adds to a score on the way from a black image: integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnncli.visualize.backprop import Aim, signals


@dataclass(frozen=True)
class Integrated:
    """pixels: [N, C, H, W], what each adds; their sum is about the score less that of the baseline. gaps: [N], by how much it is not."""

    pixels: Tensor
    scores: Tensor
    classes: Tensor
    gaps: Tensor


def integrated_gradients(
    model: nn.Module, images: Tensor, baseline: Tensor, *, number: int | Tensor | None = None, steps: int = 50
) -> Integrated:
    """Integrated gradients of a class score (None: each image's best; int64 [N]: each image's own) of images [N, C, H, W].

        (x - x') * integral over a in 0..1 of dS(x' + a (x - x'))/dx      (Sundararajan, Taly, Yan 2017, equation 1)

    by the midpoint rule in `steps` steps. baseline: x', [C, H, W], such as a black image, normalised.
    """
    first = signals(model, images, Aim(None, number), "gradient")
    total = torch.zeros_like(images)
    away = images - baseline
    for step in range(steps):
        between = baseline + (step + 0.5) / steps * away
        total += signals(model, between, Aim(None, first.channels), "gradient").pixels
    pixels = away * total / steps
    below = signals(model, baseline.expand(images.shape), Aim(None, first.channels), "gradient").values
    gaps = pixels.sum((1, 2, 3)) - (first.values - below)
    return Integrated(pixels, first.values, first.channels, gaps)
