"""Training steps, timed part by part; and what the device can do at best."""

from __future__ import annotations

import time
from statistics import median

import torch

from cnncli.data.loader import Batch, Batches
from cnncli.engine.precision import DTYPES
from cnncli.engine.profiling import Profile
from cnncli.engine.training import Training

WARM_UP, STEPS = 3, 20
SIDE = 2048  # of the square matrices that show the peak
MOVED = 2**27  # bytes that are copied to show the bandwidth
# Each stored output is written and read in the forward pass; in the backward pass it is read, and its gradient written and read.
PASSES_OVER_OUTPUTS = 5


def profile(training: Training, train: Batches, *, macs: int, activations: int, steps: int = STEPS) -> Profile:
    """Medians over `steps` training steps, after some that warm up. macs, activations: of one image. The model is trained a little."""
    training.model.train()
    taken: list[dict[str, float]] = []
    batches = train.epoch(1)
    for number in range(WARM_UP + steps):
        began = time.perf_counter()
        found = next(batches, None)
        if found is None:
            batches = train.epoch(2 + number)
            found = next(batches)
        batch = found
        _wait(training.device)
        parts = {"data": time.perf_counter() - began} | _timed(training, batch)
        parts["other"] = time.perf_counter() - began - sum(parts.values())
        if number >= WARM_UP:
            taken.append(parts)
    images = len(batch.labels)
    precision = training.plan.numbers.precision
    size = 4 if precision == "fp32" else 2
    return Profile(
        {name: median(parts[name] for parts in taken) for name in taken[0]},
        images,
        macs,
        peak_macs=_peak(training.device, precision),
        bandwidth=_bandwidth(training.device),
        traffic=float(PASSES_OVER_OUTPUTS * activations * images * size),
        device=str(training.device),
        precision=precision,
    )


def _timed(training: Training, batch: Batch) -> dict[str, float]:
    times = [time.perf_counter()]
    training.optimizer.zero_grad(set_to_none=True)
    scores = training.plan.numbers.scores(training.wrapped.runner, batch.images)
    loss = training.plan.loss.sum(scores, batch.labels, batch.mixed) / len(batch.labels)
    for part in (lambda: None, loss.backward, lambda: training.change(loss.detach())):
        part()
        _wait(training.device)
        times.append(time.perf_counter())
    return {name: after - before for name, before, after in zip(("forward", "backward", "step"), times, times[1:], strict=False)}


def _peak(device: torch.device, precision: str) -> float:
    """Multiply-adds a second of a product of large matrices: the best of some."""
    matrix = torch.randn(SIDE, SIDE, device=device).to(DTYPES.get(precision, torch.float32))
    return SIDE**3 / _best(lambda: matrix @ matrix, device)


def _bandwidth(device: torch.device) -> float:
    """Bytes a second that are read and written by a copy: the best of some."""
    source = torch.zeros(MOVED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * MOVED / _best(lambda: target.copy_(source), device)


def _best(work, device: torch.device) -> float:  # type: ignore[no-untyped-def] # noqa: ANN001
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
