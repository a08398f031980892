"""Whether a model is as often right as it is sure, and the temperature that would make it so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 15  # Guo et al. 2017, table 1
AT_ONCE = 1 << 22  # scores, 32 MiB in float64: small beside those of all images; smaller parts make threads wait for each other
STEPS = 60  # of the search for the temperature; data of any use take 4 to 8
SMALLEST, LARGEST = 1e-60, 1e60  # of 1/T: float32 scores differ by 1e-45 to 1e39


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is above low and at most high: how many, their mean confidence, and the share that was right.

    Confidence and accuracy of a bin without images are 0: look at count first.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found; `bins` are those of the scores as they are. Rates are in 0..1, brier in 0..2, scaled_loss in nats."""

    ece: float
    mce: float
    brier: float
    bins: tuple[Bin, ...]
    temperature: float
    scaled_ece: float
    scaled_loss: float


@dataclass(frozen=True)
class Outcomes:
    """What the scores of each image are worth, [N] each, float64: the loss -log p(label) in nats, the confidence max p, and the sum over
    classes of (p - [it is the label])^2; and whether the guess, the first class of the highest score, is right.

    A label of probability 0 has an infinite loss. Scores that are no distribution (NaN, +inf, or all -inf) give NaN.
    """

    losses: Tensor
    confidences: Tensor
    squares: Tensor
    hits: Tensor


def calibrate(scores: Tensor, labels: Tensor, told: Outcomes | None = None) -> Calibration:
    """How well the confidences of scores (N, classes) fit labels (N,), N at least 1. told: their `outcomes`, where they are known.

    Confidence is the probability of the guess, p = softmax(scores). Scores are logits or log-probabilities: these differ by a constant per
    image, so softmax takes both to the same p, and with a temperature T, softmax(scores / T), it does too.

    ece: the expected calibration error of Guo et al. 2017 (arXiv 1706.04599), equation 3: the mean over images of |accuracy - confidence|
    of the bin that the image is in, with 15 bins of equal width, closed on the right. mce: the largest such gap of a bin with images
    (equation 5). brier: the mean of the sum over classes of (p - [it is the label])^2 (Brier 1950): 0 is best, 2 worst.

    temperature: the T that makes the loss on all these images least (equation 9), to six digits; above 1 the model is too sure. It is 1
    where no T is best: where every label has the highest score, so that the loss falls for ever as T falls, and where the scores know no
    more than chance, so that it falls as T grows. scaled_ece and scaled_loss judge scaling by images that T was not fitted on: the images
    are dealt into two halves, by a fixed shuffle, and each half is scaled by the T of the other. With few images, or few mistakes, such a T
    may be worse than none, and then scaled_loss is above the loss.

    NaN for all but bins and temperature if an image's scores are no distribution; see `Outcomes`.
    """
    told = told or outcomes(scores, labels)
    usable = told.losses.isfinite()  # the loss of a label of probability 0 is infinite at any temperature
    limits = _limits(scores, labels)

    def fit(rows: Tensor, start: float = 1.0) -> float:
        rows = rows[usable[rows]]
        flat, behind = (limit[rows] for limit in limits)
        if not bool(behind.any()) or flat.sum().item() >= 0:
            return 1.0
        return 1 / _root(lambda inverse: _slope(scores, labels, rows, inverse), 1 / start)

    temperature = fit(torch.arange(len(labels)))
    crossed = torch.ones(len(labels), dtype=torch.float64)
    for own, other in _halves(len(labels)):
        crossed[own] = fit(other, start=temperature)
    scaled = outcomes(scores, labels, crossed)
    bins = reliability(told.confidences, told.hits)
    ece, mce = _gaps(bins, len(labels))
    return Calibration(
        ece=ece,
        mce=mce,
        brier=told.squares.mean().item(),
        bins=bins,
        temperature=temperature,
        scaled_ece=_gaps(reliability(scaled.confidences, scaled.hits), len(labels))[0],
        scaled_loss=scaled.losses.mean().item(),
    )


def outcomes(scores: Tensor, labels: Tensor, temperatures: Tensor | None = None) -> Outcomes:
    """Those of scores (N, classes) with labels (N,), each image's scores divided by its temperature (N,)."""
    losses, confidences, squares = torch.empty(3, len(labels), dtype=torch.float64)
    for part in parts(*scores.shape):
        own, logits = _shifted(scores[part], labels[part])
        if temperatures is not None:
            logits /= temperatures[part, None]
            own = own / temperatures[part]
        powers = logits.exp_()
        total = powers.sum(1)
        losses[part] = total.log() - own
        confidences[part] = 1 / total  # the highest score is 0 here, and e^0 = 1
        truth = own.exp() / total
        squares[part] = (powers.square_().sum(1) / total**2 - 2 * truth + 1).clamp(min=0)  # rounding may leave -1e-17
    return Outcomes(losses, confidences, squares, scores.argmax(1) == labels)


def reliability(confidences: Tensor, hits: Tensor) -> tuple[Bin, ...]:
    """The images (N,) in 15 bins of equal width; one whose confidence is NaN is in none."""
    edges = [i / BINS for i in range(BINS + 1)]
    known = ~confidences.isnan()
    confidences, right = confidences[known], hits[known].double()
    places = torch.bucketize(confidences, torch.tensor(edges[1:-1], dtype=torch.float64))  # a confidence on an edge is below it
    counts, sure, correct = (torch.bincount(places, weights, BINS).tolist() for weights in (None, confidences, right))
    return tuple(Bin(edges[i], edges[i + 1], int(n), sure[i] / n if n else 0.0, correct[i] / n if n else 0.0) for i, n in enumerate(counts))


def _gaps(bins: tuple[Bin, ...], images: int) -> tuple[float, float]:
    """The mean over the images, and the largest of the bins with images, of |accuracy - confidence|; NaN if an image is in no bin."""
    if sum(held.count for held in bins) < images:
        return math.nan, math.nan
    gaps = [(held.count, abs(held.accuracy - held.confidence)) for held in bins if held.count]
    return math.fsum(count * gap for count, gap in gaps) / images, max(gap for _, gap in gaps)


def parts(images: int, classes: int) -> Iterator[slice]:
    """Slices of rows with so many scores that they may be copied."""
    step = max(1, AT_ONCE // classes)
    return (slice(first, first + step) for first in range(0, images, step))


def _shifted(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The label's score [n] and all scores [n, classes], float64, with 0 for the highest of each image."""
    logits = scores.double()
    logits = logits - logits.amax(1, keepdim=True)
    return logits.gather(1, labels[:, None])[:, 0], logits


def _halves(count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(a, b) and (b, a): row numbers in two halves, the same ones every time; shuffled, as rows often come class by class."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(count))
    first, second = order[: count // 2].sort().values, order[count // 2 :].sort().values
    return (first, second), (second, first)


def _limits(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Per image [N]: the slope of its loss where 1/T goes to 0 (the mean score less the label's), and whether the label is behind another
    class, so that its loss rises in the end. Classes of probability 0 are out at any T.
    """
    flat, behind = torch.empty(len(labels), dtype=torch.float64), torch.empty(len(labels), dtype=torch.bool)
    for part in parts(*scores.shape):
        own, logits = _shifted(scores[part], labels[part])
        out = logits == -math.inf
        flat[part] = logits.masked_fill_(out, 0).sum(1) / (~out).sum(1) - own
        behind[part] = own < 0
    return flat, behind


def _slope(scores: Tensor, labels: Tensor, rows: Tensor, inverse: float) -> tuple[float, float]:
    """First and second derivative by b = 1/T of the summed loss log(sum(exp(b z))) - b z[label]: E_p[z] - z[label], and Var_p[z].

    The second is never negative: the loss is convex in 1/T, so its minimum is where the first is 0.
    """
    slope = curve = 0.0
    for part in (rows[part] for part in parts(len(rows), scores.shape[1])):
        own, logits = _shifted(scores[part], labels[part])
        logits.clamp_(min=-1e300)  # 0 * -inf would be NaN
        weights = (logits * inverse).softmax(1)
        first = weights.mul_(logits).sum(1)
        slope += (first - own).sum().item()
        curve += (weights.mul_(logits).sum(1) - first * first).sum().item()
    return slope, curve


def _root(slopes: Callable[[float], tuple[float, float]], start: float) -> float:
    """Where a function that grows from below 0 to above 0 is 0, given its value and slope: Newton's method in log x.

    A step that leaves the interval in which the root is known to lie is replaced by that interval's middle, as in Press et al., Numerical
    Recipes, section 9.4; while one of its ends is still open, by a stride that grows.
    """
    low, high, x, stride = SMALLEST, LARGEST, start, 4.0
    for _ in range(STEPS):
        value, slope = slopes(x)
        if value == 0:
            break
        low, high = (x, high) if value < 0 else (low, x)
        step = -value / (slope * x) if slope > 0 else math.copysign(math.inf, -value)
        if abs(step) > math.log(stride):
            step, stride = math.copysign(math.log(stride), step), min(stride * stride, LARGEST)
        new = x * math.exp(step)
        if not low < new < high:
            new = math.sqrt(low) * math.sqrt(high)
        moved, x = abs(math.log(new / x)), new
        if moved < 1e-3:  # Newton's next step would be about the square of this one
            break
    return x
