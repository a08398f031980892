"""Multinomial logistic regression in float64: the training images, ready, and the minimum of the penalised loss by L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnncli.errors import InputError

CLOSE = 1e-9  # nats between the objective and its minimum, at most: the bound by strong convexity that `minimise` stops at
ROUNDS, STEPS, MEMORY = 10, 80, 30  # a round is one preconditioner; steps within it; pairs that L-BFGS remembers
HELD = 1 << 26  # numbers that are kept as float64, half a GiB; more of them are converted in blocks, in every product
BLOCK = 1 << 21  # numbers of such a block, 16 MiB
SEEN = 4  # rows, in multiples of the columns, that the preconditioner is estimated from


@dataclass(frozen=True)
class Rows:
    """Training images, ready. With `basis` and without: rows (x - mean) / scale @ basis; in `held` where they are kept.

    labels: [N], indices into `present`, the classes that there are. shares: w_i / sum w, float64 [N].
    """

    features: Tensor
    held: Tensor | None
    mean: Tensor
    scale: float
    basis: Tensor | None
    labels: Tensor
    shares: Tensor
    present: Tensor
    classes: int

    @property
    def width(self) -> int:
        """The columns that are solved for, F of the features or fewer."""
        return (self.features if self.basis is None else self.basis).shape[1]

    def blocks(self, step: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Every step-th row, float64, in parts."""
        if self.held is not None:
            part = slice(0, None, step)
            yield part, self.held[part]
            return
        count, width = self.features.shape
        rows = max(1, BLOCK // width)
        for first in range(0, count, rows * step):
            part = slice(first, min(first + rows * step, count), step)
            yield part, (self.features[part].double() - self.mean) / self.scale

    def scores(self, head: Tensor) -> Tensor:
        """[N, K] for head [K, F + 1], whose last column is the bias."""
        found = head.new_empty(len(self.labels), len(head))
        for part, block in self.blocks():
            torch.addmm(head[:, -1], block, head[:, :-1].T, out=found[part])
        return found

    def gathered(self, errors: Tensor) -> Tensor:
        """errors.T @ (rows, 1): [K, F + 1] for errors [N, K]."""
        total = sum(errors[part].T @ block for part, block in self.blocks())
        return torch.cat([torch.as_tensor(total), errors.sum(0)[:, None]], 1)


def prepare(features: Tensor, labels: Tensor, classes: int, weights: Tensor | None) -> Rows:
    """The training images, centred and scaled. See `cnncli.engine.solve.solve` for the errors."""
    count = check(features, labels, classes, weights)
    features = features.detach().to("cpu" if features.device.type == "mps" else features.device)
    device = features.device
    labels = labels.to(device).long()
    shares = torch.ones(count, dtype=torch.float64, device=device) if weights is None else weights.detach().cpu().double().to(device)
    shares = shares / shares.sum()
    present = torch.unique(labels[shares > 0])
    if len(present) < 2:
        told = f"the training images are all of one class: number {present.tolist()[0]} of {classes}"
        raise InputError(told, "add images of another class")
    place = torch.zeros(classes, dtype=torch.long, device=device)
    place[present] = torch.arange(len(present), device=device)
    shares = torch.where(shares > 0, shares, 0)
    raw = Rows(features, None, torch.zeros((), dtype=torch.float64, device=device), 1.0, None, place[labels], shares, present, classes)
    mean = torch.as_tensor(sum(shares[part] @ block for part, block in raw.blocks()))
    centred = replace(raw, mean=mean)
    spread = float(sum((shares[part] @ block.square()).sum() for part, block in centred.blocks()))
    if not math.isfinite(spread):
        bad = (~features.isfinite().all(1)).nonzero()
        where = f"of training image {int(bad[0]) + 1} of {count} are not finite" if len(bad) else "are too large for float64"
        raise InputError(f"features {where}", "look at that image and at the net's weights")
    flat = math.sqrt(spread) <= 1e-14 * float(mean.norm())  # all the same but for rounding: there is nothing to learn from
    return _kept(replace(centred, scale=math.inf if flat else math.sqrt(spread)))


def _kept(data: Rows) -> Rows:
    """With its rows in memory if they are few; with fewer columns if there are fewer rows: the solution lies in their span."""
    count, width = data.features.shape
    if count >= width and count * width > HELD:
        return data
    rows = torch.cat([block for _, block in data.blocks()])
    if count >= width:
        return replace(data, held=rows)
    basis, triangle = torch.linalg.qr(rows.T)
    return replace(data, held=triangle.T.contiguous(), basis=basis)


def check(features: Tensor, labels: Tensor, classes: int, weights: Tensor | None) -> int:
    """The number of images. ValueError when these tensors do not fit together, InputError for weights that are not finite."""
    wrong = ""
    if features.ndim != 2 or not features.is_floating_point() or 0 in features.shape:
        wrong = f"features must be floats [N, F], not {features.dtype} {list(features.shape)}"
    elif labels.shape != features.shape[:1] or labels.is_floating_point():
        wrong = f"labels must be whole numbers [{len(features)}], not {labels.dtype} {list(labels.shape)}"
    elif not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = f"labels must be in 0..{classes - 1}, not {int(labels.min())}..{int(labels.max())}"
    elif weights is not None and weights.shape != labels.shape:
        wrong = f"weights must be [{len(labels)}], not {list(weights.shape)}"
    elif weights is not None and (float(weights.min()) < 0 or float(weights.max()) == 0):
        wrong = "weights must be 0 or more, and one of them above 0"
    if wrong:
        raise ValueError(wrong)
    if weights is not None and not bool(weights.isfinite().all()):
        raise InputError("weights of training images are not finite")
    return len(features)


def minimise(data: Rows, penalty: float, head: Tensor, close: float = CLOSE) -> tuple[Tensor, Tensor, int, bool]:
    """The (V, c) [K, F + 1] of least loss + penalty / 2 |V|^2, from `head`; its scores [N, K], the steps, and whether it is close enough.

    L-BFGS (Nocedal and Wright 2006, algorithm 7.4). H0^-1, which it starts from, is the Hessian without what couples the classes:
    sum_i w_i h_i x_i x_i^T / (K - 1) + penalty, where h = 1 - sum_k p_k^2. That is exact at 0, where every p is 1/K. It is made anew after
    each round, where p has moved. close: nats, at most, between the objective and its minimum. ValueError for a penalty that is not above
    0: separable classes would then have no minimum.
    """
    if not (0 < penalty < math.inf):
        msg = f"the penalty must be above 0, not {penalty:g}"
        raise ValueError(msg)
    enough = math.sqrt(2 * penalty * close)  # |gradient|^2 / (2 penalty) bounds the distance of the objective from its minimum
    iterations = 0
    for _ in range(ROUNDS):
        head, scores, used, converged = _round(data, penalty, head, enough)
        iterations += used
        if converged or used == 0:
            break
    return head, scores, iterations, converged


def _round(data: Rows, penalty: float, head: Tensor, enough: float) -> tuple[Tensor, Tensor, int, bool]:
    """Up to STEPS steps with one preconditioner: the head, its scores, how many steps, and whether the gradient is small enough."""
    scores = data.scores(head)
    factor = _preconditioner(data, penalty, scores)
    ridge = torch.full_like(head[:1], penalty)
    ridge[:, -1] = 0
    pairs: list[tuple[Tensor, Tensor]] = []
    gradient = _gradient(data, scores) + ridge * head
    for taken in range(STEPS):
        if float(gradient.norm()) <= enough:
            return head, scores, taken, True
        direction = -_two_loops(gradient, pairs, factor)
        change = data.scores(direction)
        size = _line_search(data, scores, change, (float((ridge * head * direction).sum()), float((ridge * direction.square()).sum())))
        if size == 0:
            return head, scores, taken, False
        head, scores = head + size * direction, scores + size * change
        before, gradient = gradient, _gradient(data, scores) + ridge * head
        step, bend = size * direction, gradient - before
        if float((step * bend).sum()) > 1e-14 * float(step.norm() * bend.norm()):
            pairs = [*pairs[1 - MEMORY :], (step, bend)]
    return head, scores, STEPS, float(gradient.norm()) <= enough


def _gradient(data: Rows, scores: Tensor) -> Tensor:
    """Of the mean cross-entropy by the head: [K, F + 1]."""
    errors = scores.softmax(1)
    errors[torch.arange(len(errors), device=errors.device), data.labels] -= 1
    return data.gathered(errors.mul_(data.shares[:, None]))


def _preconditioner(data: Rows, penalty: float, scores: Tensor) -> Tensor:
    """The lower triangle L, [F + 1, F + 1], of H0^-1 = L L^T; from every n-th row where there are many more rows than columns."""
    count, width = len(scores), data.width
    step = max(1, count // (SEEN * width + 1000))
    bends = (1 - scores.softmax(1).square().sum(1)).clamp_(min=0) / (scores.shape[1] - 1) * data.shares
    bends *= float(data.shares.sum() / data.shares[::step].sum().clamp(min=1e-300))
    total = scores.new_zeros(width + 1, width + 1)
    for part, block in data.blocks(step):
        rows = torch.cat([block, block.new_ones(len(block), 1)], 1)
        total += rows.T @ (rows * bends[part, None])
    diagonal = total.diagonal()
    floor = 1e-8 * float(diagonal[-1]) + 1e-12  # the bias has no penalty that would keep the matrix positive
    diagonal[:-1] += penalty + floor
    diagonal[-1] += floor
    factor: Tensor = torch.linalg.cholesky(total)
    return factor


def _two_loops(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], factor: Tensor) -> Tensor:
    """H g, by the two loops over pairs (step, change of the gradient)."""
    rest, portions = gradient, []
    for step, bend in reversed(pairs):
        portion = (step * rest).sum() / (step * bend).sum()
        portions.append(portion)
        rest = rest - portion * bend
    result = torch.cholesky_solve(rest.T, factor).T
    for (step, bend), portion in zip(pairs, reversed(portions), strict=True):
        result = result + (portion - (bend * result).sum() / (step * bend).sum()) * step
    return result


def _line_search(data: Rows, scores: Tensor, change: Tensor, ridge: tuple[float, float]) -> float:
    """A step along `change` of the scores where the slope has fallen to a tenth and the objective fell; 0 where there is none.

    ridge: first and second derivative of the penalty at 0. The objective is convex, so its slope grows along the line and the search is
    for its root: regula falsi within what brackets it, halving by turns. It touches scores alone, no features: a trial costs little.
    """
    towards = change.gather(1, data.labels[:, None])[:, 0]
    own = scores.gather(1, data.labels[:, None])[:, 0]

    def at(size: float) -> tuple[float, float]:
        moved = scores + size * change
        total = moved.logsumexp(1)
        value = float(data.shares @ (total - own - size * towards)) + size * ridge[0] + size * size * ridge[1] / 2
        slope = float(data.shares @ ((moved - total[:, None]).exp_().mul_(change).sum(1) - towards)) + ridge[0] + size * ridge[1]
        return value, slope

    first, steep = at(0.0)
    if not steep < 0:
        return 0.0
    low, low_slope, high, high_slope, size = 0.0, steep, math.inf, math.inf, 1.0
    for turn in range(30):
        value, slope = at(size)
        if abs(slope) <= 0.1 * -steep and value <= first + 1e-15 * abs(first):
            return size
        if slope < 0:
            low, low_slope = size, slope
        else:
            high, high_slope = size, slope
        if high == math.inf:
            size *= 4
        elif turn % 3 == 2 or not math.isfinite(high_slope):
            size = (low + high) / 2
        else:
            size = low + (high - low) * min(max(low_slope / (low_slope - high_slope), 0.01), 0.99)
    return low
