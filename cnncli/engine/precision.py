"""In which numbers and in which layout of memory a net is computed, and which of them is the fastest here."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnncli.engine.config import ComputeConfig
from cnncli.engine.random_state import random_state, set_random_state
from cnncli.errors import UsageError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WORTH_TRYING = 60.0  # seconds of training in float32 below which looking for something faster costs more than it gains
FASTER = 1.1  # how many times; less is noise, and float32 is the safer choice
TRIED_IMAGES = 32  # of a batch: on a CPU the time goes with their number
TRIED_STEPS = 3  # the first warms up
CLOSE = 0.1  # how much larger the loss may be after those steps, as a share of that in float32


@dataclass(frozen=True)
class Numbers:
    """precision: fp32, bf16 or fp16 of the forward and backward pass; weights, their sums and the loss are float32 always."""

    precision: str = "fp32"
    channels_last: bool = False

    def __str__(self) -> str:
        return f"{self.precision}{', channels-last' if self.channels_last else ''}"

    def scores(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Scores (N, classes) in float32 of images (N, C, H, W), or of what a part of the net made of them, in float32."""
        images = self.laid_out(images)
        if self.precision == "fp32":
            return model(images)
        with torch.autocast(images.device.type, DTYPES[self.precision]):
            scores = model(images)
        return scores.float()

    def laid_out(self, images: Tensor) -> Tensor:
        """The images in the layout."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last and images.dim() == 4 else images

    def lay_out(self, model: nn.Module) -> nn.Module:
        """The model with its filters in the layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return model.to(memory_format=layout)


@dataclass(frozen=True)
class Trial:
    """What a way to compute did: seconds a step (infinite where it failed), and the loss after the steps."""

    numbers: Numbers
    seconds: float
    loss: float


def candidates(config: ComputeConfig, device: torch.device) -> list[Numbers]:
    """The ways that `config` leaves open, float32 as torch lays it out first. UsageError for one that the device lacks."""
    if config.precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU", "--precision bf16 works on CPUs too", path="--precision")
    precisions = ["fp32", "bf16"] if config.precision == "auto" else [config.precision]
    if config.precision == "auto" and device.type == "cuda":
        precisions = ["fp32", "bf16" if torch.cuda.is_bf16_supported() else "fp16"]
    if config.precision == "auto" and device.type == "mps":
        precisions = ["fp32"]
    layouts = {"auto": [False, True], "contiguous": [False], "channels-last": [True]}[config.memory_format]
    return [Numbers(precision, layout) for precision in precisions for layout in layouts]


def choose(
    ways: list[Numbers], train: Callable[[nn.Module, Numbers], Iterator[float]], model: nn.Module, steps: float, *, images: int, tried: int
) -> tuple[Numbers, list[Trial]]:
    """The fastest of `ways` that trains, and what was tried.

    train: given a copy of the model, yields the loss of one step after another. steps: of the training to come. images: of its batches;
    tried: of those in the trial. The first way is kept where the training is so short that nothing is gained.
    """
    if len(ways) == 1:
        return ways[0], []
    first = _tried(ways[0], train, model)
    if first.seconds * images / tried * steps < WORTH_TRYING:
        return ways[0], []
    trials = [first]
    for way in ways[1:]:
        trials.append(_tried(way, train, model, no_longer_than=min(trial.seconds for trial in trials)))
    sound = [trial for trial in trials[1:] if trial.loss <= first.loss * (1 + CLOSE) + CLOSE]
    best = min(sound, key=lambda trial: trial.seconds, default=first)
    return (best.numbers if best.seconds * FASTER < first.seconds or not math.isfinite(first.seconds) else ways[0]), trials


def _tried(
    way: Numbers, train: Callable[[nn.Module, Numbers], Iterator[float]], model: nn.Module, no_longer_than: float = math.inf
) -> Trial:
    """Some steps on a copy of the model; the random state is left as it was."""
    with kept_random_state():
        copied = way.lay_out(copy.deepcopy(model))
        trained = train(copied, way)
        best, loss = math.inf, math.inf
        try:
            for number in range(TRIED_STEPS):
                began = time.perf_counter()
                loss = next(trained)
                seconds = time.perf_counter() - began
                if number:
                    best = min(best, seconds)
                elif seconds > 10 * no_longer_than:
                    break  # far slower: the rest would be a waste
        except RuntimeError:  # an operation that lacks this type, or not enough memory
            best = math.inf
    return Trial(way, best, loss if math.isfinite(loss) else math.inf)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Afterwards the generators of torch, numpy and Python are as they were before."""
    before = random_state(torch.device("cpu"))
    try:
        with torch.random.fork_rng():
            yield
    finally:
        set_random_state(before, torch.device("cpu"))


def resolved(config: ComputeConfig, numbers: Numbers) -> ComputeConfig:
    """`config` with what was chosen in the place of auto."""
    return replace(config, precision=numbers.precision, memory_format="channels-last" if numbers.channels_last else "contiguous")
