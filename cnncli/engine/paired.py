"""Whether one model is better than another on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cnncli.engine.intervals import Interval, Z


@dataclass(frozen=True)
class Paired:
    """Two models on the same images: top-1 accuracies in 0..1, difference = accuracy_b - accuracy_a in -1..1 with its 95 % interval, how
    many images only a and only b are right on, and the p-value of the two being equally good.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    interval: Interval
    only_a: int
    only_b: int
    p: float


def compare(scores_a: Tensor, scores_b: Tensor, labels: Tensor) -> Paired:
    """The top-1 guesses of two models, scores (N, classes) of the same images, classes in the same order, against labels (N,).

    See `compare_hits`, which also compares models that have their classes in another order.
    """
    return compare_hits(scores_a.argmax(1) == labels, scores_b.argmax(1) == labels)


def compare_hits(hits_a: Tensor, hits_b: Tensor) -> Paired:
    """Two models that are right (True) or wrong on the same N >= 1 images in the same order: bool [N] each.

    The images that both or neither are right on say nothing of which is better, so the test looks at the others alone (`mcnemar`), and it
    sees differences that the intervals of the two accuracies, which overlap long after that, do not. The exact p is on the careful side: it
    can be a little above 0.05 where the interval leaves out 0.
    """
    count = len(hits_a)
    right_a, right_b, both = (int(hits.sum()) for hits in (hits_a, hits_b, hits_a & hits_b))
    only_a, only_b = right_a - both, right_b - both
    return Paired(
        accuracy_a=right_a / count,
        accuracy_b=right_b / count,
        difference=(only_b - only_a) / count,
        interval=difference_interval(only_a, only_b, count),
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """The p-value, two-sided and exact, of McNemar's test (1947, Psychometrika 12:153).

    If both models are equally good, each image that only one is right on is a toss of a coin: p is the chance of a split of these tosses
    that is as uneven as `only_a` to `only_b` or more. Without such images it is 1.
    """
    from scipy.special import bdtr  # not scipy.stats: importing it takes most of a second

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def difference_interval(only_a: int, only_b: int, count: int) -> Interval:
    """Tango's score interval of the difference of paired proportions, b's less a's (Tango 1998, Statistics in Medicine 17:891).

    It holds every difference D that a score test does not reject, those with
        (only_b - only_a - count D)^2 <= Z^2 count (2 q + D (1 - D)),
    where q is the likeliest share of images that only a is right on, given D: the larger root of
        2 count q^2 + (D (2 count + only_a - only_b) - only_a - only_b) q - only_a D (1 - D) = 0.
    It stays inside -1..1, has a width where both counts are 0, and is one of the two that Fagerland, Lydersen and Laake 2014 (Statistics in
    Medicine 33:2850) recommend.
    """
    found = (only_b - only_a) / count

    def rejected(difference: float) -> bool:
        slope = difference * (2 * count + only_a - only_b) - only_a - only_b
        rest = only_a * difference * (1 - difference)
        q = (math.sqrt(max(0.0, slope * slope + 8 * count * rest)) - slope) / (4 * count)
        variance = count * (2 * q + difference * (1 - difference))
        return (only_b - only_a - count * difference) ** 2 > Z * Z * variance

    return Interval(_last_kept(rejected, found, -1.0), _last_kept(rejected, found, 1.0))


def _last_kept(rejected: Callable[[float], bool], kept: float, end: float) -> float:
    """Where what is kept ends between `kept` and `end`, by halving to the last digit. `end` is rejected, or it is `kept`."""
    if kept == end:
        return end
    other = end
    while (middle := (kept + other) / 2) not in (kept, other):
        kept, other = (kept, middle) if rejected(middle) else (middle, other)
    return kept


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values of several tests, corrected for their number, in the same order (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Of m tests the smallest p is multiplied by m, the next by m - 1, ..., none falls below the one before it, and none is above 1. Taking
    those below 0.05 for real errs, in one or more of them, in at most 5 % of all such comparisons.
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = least
    return tuple(corrected)
