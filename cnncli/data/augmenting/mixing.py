"""mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019): each training image takes something of another one, and of its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augmenting.sending import send
from cnncli.data.keyed import MIX_ANGLE, MIX_RADIUS, MIX_X, MIX_Y, MIXING, keyed_uniform

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mixed:
    """The second label of each sample of a batch, on the batch's device.

    labels: int64 [B], the partner's. weight: float32 [B] in 0..1, the share of the sample's own label; the partner's is 1 - weight.
    """

    labels: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class Blend:
    """How much of each sample stays: inside its box nothing, elsewhere `share`.

    share: float64 [B] in 0..1; 1 for CutMix. boxes: int64 [B, 4] of (top, left, bottom, right) in pixels; empty for mixup.
    weight: float64 [B], the share of its own label.
    """

    share: Numbers
    boxes: Indices
    weight: Numbers


def draw_blend(seed: int, epoch: int, indices: Indices, *, mixup: float, cutmix: float, height: int, width: int) -> Blend:
    """What happens to each sample, keyed by (seed, epoch, index). mixup, cutmix: the alpha of each, 0 being off.

    Both draw lambda ~ Beta(alpha, alpha). mixup: x = lambda x_i + (1 - lambda) x_j (Zhang et al., section 2). CutMix: a box of
    sqrt(1 - lambda) of the height and of the width about a uniform middle (Yun et al., equation 2), clipped at the border; lambda is
    then what the box left of the image. With both on, each sample takes one or the other with probability 1/2, as timm's batches do.

    lambda is drawn for each sample, as the papers' equations have it; their code draws one for a batch, to save time.
    """
    cut = keyed_uniform(seed, epoch, indices, MIXING) < cut_share(mixup, cutmix)
    radius, angle = (keyed_uniform(seed, epoch, indices, purpose) for purpose in (MIX_RADIUS, MIX_ANGLE))
    share = symmetric_beta(np.where(cut, cutmix, mixup), radius, angle)
    size = np.array([height, width])
    middle = np.stack([keyed_uniform(seed, epoch, indices, purpose) for purpose in (MIX_Y, MIX_X)], axis=1)
    middle = (middle * size).astype(np.int64)
    half = (np.sqrt(1 - share)[:, None] * size).astype(np.int64) // 2
    box = np.concatenate([np.maximum(middle - half, 0), np.minimum(middle + half, size)], axis=1) * cut[:, None]
    left = 1 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (height * width)
    return Blend(np.where(cut, 1.0, share), box, np.where(cut, left, share))


def cut_share(mixup: float, cutmix: float) -> float:
    """The probability of CutMix where at least one of both is on."""
    return 0.5 if mixup and cutmix else float(cutmix > 0)


def symmetric_beta(alpha: Numbers, radius: Numbers, angle: Numbers) -> Numbers:
    """Beta(alpha, alpha) from two numbers that are uniform over [0, 1): float64 arrays of one shape, alpha > 0.

    Devroye 1996, "Random variate generation in one line of code", section 3: 1/2 + t / (2 sqrt(1 + t^2)) with
    t = sqrt(U^(-1/alpha) - 1) cos(2 pi V), which is Student's t after Bailey 1994. Exact for every alpha.
    """
    with np.errstate(over="ignore"):
        t = np.sqrt(np.expm1(-np.log1p(-radius) / alpha)) * np.cos(2 * np.pi * angle)
    beta: Numbers = 0.5 + 0.5 * np.sin(np.arctan(t))  # sin(arctan t) = t / sqrt(1 + t^2), also where t is infinite
    return beta


def mix(images: torch.Tensor, labels: torch.Tensor, blend: Blend) -> tuple[torch.Tensor, Mixed]:
    """Each image with the one before it in the batch, the first with the last: float [B, C, H, W], int64 [B] -> a new batch and its labels.

    Batches are shuffled, so the neighbour is as random as a permutation (the papers') and never the sample itself. A batch of one mixes
    with itself, which changes nothing.
    """
    height, width = images.shape[2:]
    partners = images.roll(1, 0)
    numbers = (blend.share.astype(np.float32), blend.weight.astype(np.float32), blend.boxes)
    share, weight, boxes = (send(array, images.device) for array in numbers)
    mixed = Mixed(labels.roll(1, 0), weight)
    # lerp returns its ends exactly: nothing is left of either image where the share is 0 or 1.
    if not blend.boxes.any():
        return torch.lerp(partners, images, share.view(-1, 1, 1, 1)), mixed
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    kept = torch.where(in_rows[:, :, None] & in_columns[:, None, :], 0.0, share[:, None, None])
    return torch.lerp(partners, images, kept[:, None]), mixed
