"""The learning rate range test (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from cnncli.data.loader import Batch, Batches
from cnncli.engine.distributed import World
from cnncli.engine.precision import kept_random_state
from cnncli.engine.training import Plan, Training

STEPS = 100
LOWEST, HIGHEST = 1e-4, 1e3  # times the rate of the plan: what nothing is learned with, and what no net survives
MEMORY = 0.9  # of the smoothed loss, a step
LOST = 3.0  # times the smallest smoothed loss: from there on nothing is to be learned
SETTLING = 10  # steps, over which the smoothed loss is that of few
SAFETY = 10.0  # the loss is smallest where training is about to fail; a tenth of that rate is safe (fastai's rule)
BEYOND = 2_000_000  # the number of an epoch that no training has


@dataclass(frozen=True)
class RangeTest:
    """rates, losses, smoothed: of each step.

    steepest: the rate at which the smoothed loss falls fastest on a logarithmic axis; limit: that at which it is smallest; suggested: the
    smaller of the steepest and a tenth of the limit. None where the loss never fell.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float | None = None
    limit: float | None = None
    suggested: float | None = None


def range_test(model: nn.Module, plan: Plan, train: Batches, world: World, steps: int = STEPS) -> RangeTest:
    """Train a copy of `model` for some steps in which the rate grows exponentially, until the loss explodes.

    The model, the random state and the batches of the epochs to come are left as they are.
    """
    with kept_random_state():
        trial = replace(plan, train=replace(plan.train, epochs=None, minutes=None, steps=steps))
        training = Training(copy.deepcopy(model), trial, world)
        training.model.train()
        rates: list[float] = []
        losses: list[float] = []
        for number, batch in zip(range(steps), _batches(train), strict=False):
            share = LOWEST * (HIGHEST / LOWEST) ** (number / max(1, steps - 1))
            before = float(training.sums.loss), int(training.sums.counted)
            training.step(batch, share=share)
            counted = int(training.sums.counted) - before[1]
            if not counted:
                break  # no longer finite
            rates.append(share * plan.optim.peak_lr)
            losses.append((float(training.sums.loss) - before[0]) / counted)
            smoothed = _smoothed(losses)
            if number > SETTLING and smoothed[-1] > LOST * min(smoothed):
                break
    return suggested(rates, losses)


def suggested(rates: list[float], losses: list[float]) -> RangeTest:
    """What rates and losses of a test say."""
    smoothed = _smoothed(losses)
    plain = RangeTest(tuple(rates), tuple(losses), tuple(smoothed))
    if len(rates) <= SETTLING + 2:
        return plain
    lowest = SETTLING + int(np.argmin(smoothed[SETTLING:]))
    slopes = np.gradient(np.array(smoothed[: lowest + 1]), np.log(rates[: lowest + 1])) if lowest > SETTLING else np.zeros(0)
    falling = slopes[SETTLING:]
    if not len(falling) or falling.min() >= 0:
        return plain
    steepest, limit = rates[SETTLING + int(np.argmin(falling))], rates[lowest]
    return replace(plain, steepest=steepest, limit=limit, suggested=min(steepest, limit / SAFETY))


def _batches(train: Batches) -> Iterator[Batch]:
    epoch = BEYOND
    while True:
        yield from train.epoch(epoch)
        epoch += 1


def _smoothed(losses: list[float]) -> list[float]:
    """Exponential means, with the start's bias taken out (as in Adam)."""
    smoothed, mean = [], 0.0
    for number, loss in enumerate(losses, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        smoothed.append(mean / (1 - MEMORY**number))
    return smoothed
