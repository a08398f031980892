"""Linear heads, solved: multinomial logistic regression on features, to its minimum instead of a number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnncli.engine.logistic import BLOCK, CLOSE, Rows, check, minimise, prepare
from cnncli.errors import InputError

PENALTIES = tuple(10 ** (-place / 2) for place in range(2, 13))  # 1e-1 to 1e-6 in half decades
STRONGEST, WEAKEST = 1e2, 1e-8  # how far `choose` goes where the best penalty is the first or the last
PATIENCE = 4  # penalties that `choose` goes on for, two decades of the usual row, after the best so far: the weak ones take longest
ABSENT = 20.0  # a class without training images lies this far, in nats, below every score that training images have


@dataclass(frozen=True)
class LinearHead:
    """scores = features @ weight.T + bias, for raw features.

    weight: float64 [K, F], bias: float64 [K], on the CPU. iterations: of L-BFGS. converged: whether the objective is within 1e-9 nats of
    its minimum. loss: the mean cross-entropy of the training images in nats, without the penalty.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    iterations: int
    converged: bool
    loss: float


@dataclass(frozen=True)
class Tried:
    """A penalty with the loss (nats) and the accuracy (0..1) on the validation images."""

    penalty: float
    val_loss: float
    val_accuracy: float
    iterations: int


@dataclass(frozen=True)
class Choice:
    """The head of the best penalty, and all penalties that were tried, from strong to weak."""

    best: LinearHead
    tried: tuple[Tried, ...]


def solve(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    penalty: float,
    weights: Tensor | None = None,
    start: LinearHead | None = None,
) -> LinearHead:
    """The minimum of logistic regression on features [N, F] of any float type with labels [N] in 0..classes-1.

        sum_i w_i CE_i / sum_i w_i + penalty / 2 * |V|^2,   scores = V (x - m) / s + c,   weight = V / s,   bias = c - V m / s

    m is the (weighted) mean of the features and s^2 the mean of |x - m|^2, one number: so a penalty means the same for features of any
    size and any width. The bias is not penalised. (scikit-learn's C is 1 / (penalty N) for such features; 2 / (penalty N) for two classes.)
    weights: w_i >= 0, [N]; all the same by default. start: where to begin.

    A class without training images (of weight above 0) gets weight 0 and a bias far below all scores; the others are not touched by it.
    Computed in float64 on the device of the features, on the CPU for MPS, which has none. Above 2^26 numbers the features are not copied:
    blocks of rows are converted as they are multiplied. With fewer images than features it is solved in the span of the images.

    InputError: features or weights that are not finite, or training images of one class only. ValueError: shapes, types and ranges.
    """
    data = prepare(features, labels, classes, weights)
    return _solved(data, penalty, start)


def choose(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    classes: int,
    *,
    weights: Tensor | None = None,
    penalties: Sequence[float] = PENALTIES,
    close: float = CLOSE,
) -> Choice:
    """The penalty with the smallest loss on the validation images (features [M, F], labels [M]), and the head `solve` finds with it.

    From strong to weak, each solution being the start of the next, and until four in a row are worse than the best. Where the first or
    the last is best, the row goes on by its own steps, to 1e2 or 1e-8 at most. Validation images of untrained classes do not count.

    The loss decides, not the accuracy, which is the same for half of the row when there are a few dozen images. On features of photos and
    on digits, with 1 to 10 validation images a class, accuracy with ties by loss led to test accuracies 0.3 points lower to 0.2 higher.

    close: nats, at most, between a solution's objective and its minimum; a weak penalty takes hundreds of steps for the last of them.

    InputError as in `solve`, and when no validation image counts. ValueError: no penalties, or such that are not above 0.
    """
    row = sorted(set(penalties), reverse=True)
    if not row:
        msg = "no penalties to choose from"
        raise ValueError(msg)
    data = prepare(*train, classes, weights)
    judge = _judge(*val, data)
    heads: list[LinearHead] = []
    tried: list[Tried] = []

    def attempt(penalty: float, place: int) -> None:
        near = heads[min(place, len(heads) - 1)] if heads else None
        head = _solved(data, penalty, near, close)
        heads.insert(place, head)
        tried.insert(place, Tried(penalty, *judge(head), head.iterations))

    def best() -> int:
        return min(range(len(tried)), key=lambda place: tried[place].val_loss)

    for place, penalty in enumerate(row):
        attempt(penalty, place)
        if place - best() >= PATIENCE:
            break
    step = (row[0] / row[-1]) ** (1 / (len(row) - 1)) if len(row) > 1 else math.sqrt(10)
    while best() == len(tried) - 1 and tried[-1].penalty / step >= WEAKEST * 0.99:
        attempt(tried[-1].penalty / step, len(tried))
    while best() == 0 and tried[0].penalty * step <= STRONGEST * 1.01:
        attempt(tried[0].penalty * step, 0)
    return Choice(heads[best()], tuple(tried))


def fallback_penalty(images: int) -> float:
    """The penalty for so many training images where there is no validation split: 1e-3, and from 100 images on 0.1 / images.

    Tried on features of photos (a pretrained SqueezeNet, 5 classes), digits (pixels, 10) and clothes (random features, 10), with 1 to 50
    images a class and 4 draws each: from 2 images a class on, its accuracy is within 0.6 points of the best of 13 penalties from 1 to
    1e-6. The penalty of least loss wanders from 1e-2 to 3e-5, but accuracy hardly depends on it below 1e-3; above 1e-2 it falls.
    """
    return min(1e-3, 0.1 / max(images, 1))


def _solved(data: Rows, penalty: float, start: LinearHead | None, close: float = CLOSE) -> LinearHead:
    head, scores, iterations, converged = minimise(data, penalty, _inner(data, start), close)
    return _outer(data, head, scores, penalty, iterations, converged=converged)


def _inner(data: Rows, start: LinearHead | None) -> Tensor:
    """(V, c) of `start` in the columns that are solved for, [K, F + 1]; 0 without one."""
    if start is None:
        return torch.zeros(len(data.present), data.width + 1, dtype=torch.float64, device=data.features.device)
    if start.weight.shape != (data.classes, data.features.shape[1]):
        msg = f"start has the shape {list(start.weight.shape)}, not {[data.classes, data.features.shape[1]]}"
        raise ValueError(msg)
    weight, bias = (tensor.to(data.features.device)[data.present].double() for tensor in (start.weight, start.bias))
    bias = bias + weight @ data.mean
    weight = weight * (data.scale if math.isfinite(data.scale) else 0.0)
    weight = weight if data.basis is None else weight @ data.basis
    head = torch.cat([weight, bias[:, None]], 1)
    return head - head.mean(0)  # a constant for all classes changes no probability


def _outer(data: Rows, head: Tensor, scores: Tensor, penalty: float, iterations: int, *, converged: bool) -> LinearHead:
    """The head for raw features and all classes."""
    loss = float(data.shares @ (scores.logsumexp(1) - scores.gather(1, data.labels[:, None])[:, 0]))
    found = (head[:, :-1] if data.basis is None else head[:, :-1] @ data.basis.T) / data.scale
    weight = found.new_zeros(data.classes, found.shape[1])
    bias = found.new_full((data.classes,), float(scores.min()) - ABSENT)
    weight[data.present], bias[data.present] = found, head[:, -1] - found @ data.mean
    return LinearHead(weight.cpu(), bias.cpu(), penalty, iterations, converged, loss)


def _judge(features: Tensor, labels: Tensor, data: Rows) -> Callable[[LinearHead], tuple[float, float]]:
    """Loss and accuracy of a head on the images whose classes were trained."""
    check(features, labels, data.classes, None)
    counted = torch.isin(labels.cpu(), data.present.cpu())
    if not bool(counted.any()):
        raise InputError("no validation image is of a class that has training images", "split the data anew")
    truth = labels.cpu()[counted].long()
    rows = max(1, BLOCK // features.shape[1])

    def judge(head: LinearHead) -> tuple[float, float]:
        parts = [features[first : first + rows].cpu().double() @ head.weight.T for first in range(0, len(features), rows)]
        logs = (torch.cat(parts) + head.bias)[counted].log_softmax(1)
        loss = -float(logs.gather(1, truth[:, None]).mean())
        if not math.isfinite(loss):
            told = "features of validation images are not finite"
            raise InputError(told, "look at these images and at the net's weights")
        return loss, float((logs.argmax(1) == truth).double().mean())

    return judge
