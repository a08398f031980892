"""How sure a share or a mean of N images is: 95 % confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.96


@dataclass(frozen=True)
class Interval:
    """From low to high, both included; an infinite end says that nothing is known on that side."""

    low: float
    high: float


def wilson(hits: int, count: int) -> Interval:
    """Wilson's score interval of the rate behind `hits` of `count` images, in 0..1 (Wilson 1927, JASA 22:209).

    With p = hits / count: the rates r with |p - r| <= Z sqrt(r (1 - r) / count). Unlike p +- 1.96 standard errors it holds what it promises
    for few images and for rates near 0 and 1 (Brown, Cai and DasGupta 2001, Statistical Science 16:101): 10 hits of 10 are 0.72..1. Of no
    images nothing is known: 0..1.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count}")
    if count == 0:
        return Interval(0.0, 1.0)
    rate, square = hits / count, Z * Z / count
    middle = rate + square / 2
    half = Z * math.sqrt(rate * (1 - rate) / count + square / (4 * count))
    # The ends at 0 and 1 are exact, and rounding must not move them.
    low = 0.0 if hits == 0 else (middle - half) / (1 + square)
    high = 1.0 if hits == count else (middle + half) / (1 + square)
    return Interval(low, high)


def mean_interval(values: Tensor) -> Interval:
    """Student's t interval of the mean behind values [N]: mean +- t(N - 1) s / sqrt(N), with s the sample's standard deviation.

    Right for normal values, and for others as N grows. One value says nothing of how values spread, and neither do values that are infinite
    or not numbers: then the interval is -inf..inf.
    """
    from scipy.special import stdtrit  # not scipy.stats: importing it takes most of a second

    count = values.numel()
    values = values.to(torch.float64)
    if count < 2 or not bool(values.isfinite().all()):
        return Interval(-math.inf, math.inf)
    mean = values.mean().item()
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * values.std().item() / math.sqrt(count)
    return Interval(mean - half, mean + half)
