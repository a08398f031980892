"""The learning rate over a training: what share of its peak is in force at a step."""

from __future__ import annotations

import math
from collections.abc import Callable

from cnncli.engine.config import OptimConfig, milestones

# Smith 2018, "A disciplined approach to neural network hyper-parameters", and torch's OneCycleLR: the rate starts at a 25th of its peak
# and ends at a 10,000th of that; the rise takes 30 % of the steps.
CYCLE_START, CYCLE_END, CYCLE_RISE = 1 / 25, 1 / 25 / 1e4, 0.3
USUAL_WARMUP = 0.05


def rate(step: float, steps: float, config: OptimConfig, *, steps_per_epoch: float = 1.0) -> float:
    """The share of the peak rate at step `step` (from 0) of `steps`.

    First a linear rise over the warm-up's share of the steps, which reaches the peak in its last step; then the schedule falls over what is
    left. Where minutes limit a training, both numbers are estimates and may be fractions.
    steps_per_epoch: places milestones that are epochs.
    """
    if config.schedule == "one-cycle":
        return _one_cycle(step, steps, CYCLE_RISE if config.warmup is None else config.warmup)
    warmup = round((USUAL_WARMUP if config.warmup is None else config.warmup) * steps)
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    if config.schedule == "step":
        places = (place * (steps if place < 1 else steps_per_epoch) for place in milestones(config.milestones))
        return config.step_factor ** sum(step >= round(place) for place in places)
    progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    return config.final_lr + (1 - config.final_lr) * FALLS[config.schedule](progress, config)


def _one_cycle(step: float, steps: float, rise: float) -> float:
    """Two half cosines: from CYCLE_START up to 1 at step rise * steps - 1, and down to CYCLE_END at the last step, steps - 1."""
    peak, last = max(0.0, rise * steps - 1), steps - 1
    if step < peak:
        start, end, at = CYCLE_START, 1.0, step / peak
    else:
        start, end, at = 1.0, CYCLE_END, min(1.0, (step - peak) / max(1e-12, last - peak))
    return end + (start - end) * (1 + math.cos(math.pi * at)) / 2


# How much of the fall is still to come, 1 to 0, after a share of the steps behind the warm-up.
FALLS: dict[str, Callable[[float, OptimConfig], float]] = {
    "constant": lambda _progress, _config: 1.0,
    "cosine": lambda progress, _config: (1 + math.cos(math.pi * progress)) / 2,  # Loshchilov & Hutter 2017, equation 5
    "linear": lambda progress, _config: 1 - progress,
    "polynomial": lambda progress, config: (1 - progress) ** config.power,
}
