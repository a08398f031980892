"""What is chosen for the user by trying: the numbers that the net is computed in, and the size of a batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from cnncli.data.loader import Batch
from cnncli.engine.config import ComputeConfig, OptimConfig
from cnncli.engine.loss import Loss
from cnncli.engine.optim import make_optimizer, set_rate, update
from cnncli.engine.precision import TRIED_IMAGES, Numbers, Trial, candidates, choose, kept_random_state

SMALLEST_BATCH, LARGEST_BATCH = 8, 1024
LEAST_STEPS = 16  # an epoch: with fewer, larger batches learn less from the same images
MEMORY_SHARE = 0.5  # of the free memory that a step may take
COPIES = 3  # of each stored output that a step holds at its peak: the output, its gradient, and what kernels work in
BYTES = 4  # of a number in float32


def choose_numbers(
    model: nn.Module,
    first_batch: Callable[[], Batch],
    config: ComputeConfig,
    optim: OptimConfig,
    *,
    device: torch.device,
    steps: float,
    deterministic: bool,
) -> tuple[Numbers, str]:
    """How the net is computed, and a line that says what was tried; an empty one when nothing was.

    The model is left as it is. first_batch: gives one to try with. steps: of the training to come. deterministic: a choice by the clock
    could be another one the next time, so float32 is taken.
    """
    ways = candidates(config, device)
    if deterministic or len(ways) == 1:
        return ways[0], ""
    part = batch = first_batch()
    if device.type == "cpu" and len(batch.labels) > TRIED_IMAGES:
        part = Batch(batch.images[:TRIED_IMAGES], batch.labels[:TRIED_IMAGES], batch.indices[:TRIED_IMAGES])

    def train(copied: nn.Module, numbers: Numbers) -> Iterator[float]:
        yield from _losses(copied, numbers, part, optim)

    chosen, trials = choose(ways, train, model, steps, images=len(batch.labels), tried=len(part.labels))
    return chosen, _told(chosen, trials)


def _losses(model: nn.Module, numbers: Numbers, batch: Batch, optim: OptimConfig) -> Iterator[float]:
    """The loss of one step after another on the same batch, at a tenth of the peak rate."""
    optimizer = make_optimizer(model.train(), optim)
    set_rate(optimizer, 0.1)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    while True:
        loss = Loss(optim.label_smoothing).sum(numbers.scores(model, batch.images), batch.labels) / len(batch.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, optim.clip_grad or math.inf)
        update(optimizer)
        yield loss.item()


def _told(chosen: Numbers, trials: list[Trial]) -> str:
    if not trials:
        return ""
    first = trials[0]
    speeds = ", ".join(
        f"{trial.numbers} {first.seconds / trial.seconds:.1f}" if math.isfinite(trial.seconds) else f"{trial.numbers} -"
        for trial in trials[1:]
    )
    return f"computing in {chosen} (speed, with {first.numbers} as 1: {speeds})"


def choose_batch_size(
    model: nn.Module, size: tuple[int, int, int], *, activations: int, images: int, free: int | None, device: torch.device
) -> int:
    """The largest power of two that fits the device and leaves an epoch LEAST_STEPS steps.

    size: of an image, (C, H, W). activations: numbers that the net stores for one. images: of an epoch. free: bytes of memory; None where
    that is not known. On a GPU steps are tried; on a CPU, where too much ends the process, they are estimated.
    """
    bound = max(SMALLEST_BATCH, min(LARGEST_BATCH, images // LEAST_STEPS))
    bound = 2 ** int(math.log2(bound))
    if device.type != "cuda":
        fitting = bound if free is None else int(MEMORY_SHARE * free / max(1, COPIES * BYTES * activations))
        return int(max(1, min(bound, 2 ** int(math.log2(max(1, fitting))))))
    found = 1
    while found < bound and _fits(model, size, 2 * found, device):
        found *= 2
    return found


def _fits(model: nn.Module, size: tuple[int, int, int], batch: int, device: torch.device) -> bool:
    with kept_random_state():
        copied = copy.deepcopy(model).train()
        try:
            for _ in range(2):  # the second has the optimizer's memory on it
                copied(torch.zeros(batch, *size, device=device)).sum().backward()
                free, total = torch.cuda.mem_get_info(device)
                if free < (1 - 0.9) * total:
                    return False
        except torch.OutOfMemoryError:
            return False
        finally:
            del copied
            torch.cuda.empty_cache()
    return True
