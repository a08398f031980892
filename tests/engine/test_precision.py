"""What is chosen by trying: numbers and layout by fake timings, the size of a batch; and that a trial leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnncli.engine import precision
from cnncli.engine.auto import choose_batch_size, choose_numbers
from cnncli.engine.config import ComputeConfig, OptimConfig
from cnncli.engine.precision import Numbers, candidates, choose, resolved
from cnncli.errors import UsageError

CPU = torch.device("cpu")
WAYS = [Numbers("fp32"), Numbers("fp32", channels_last=True), Numbers("bf16"), Numbers("bf16", channels_last=True)]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch):
    """chosen([4, 2, 1, 3]): what is chosen where a step of each way takes so many seconds; losses: those after each step."""
    now = 0.0
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now)

    def run(seconds: list[float | str], losses: tuple[float, ...] = (1, 1, 1, 1), steps: float = 1000, **settings):
        asked: list[Numbers] = []

        def train(_: nn.Module, numbers: Numbers) -> Iterator[float]:
            nonlocal now
            asked.append(numbers)
            took = seconds[WAYS.index(numbers)]
            for number in range(10):
                if took == "fails":
                    raise RuntimeError("not implemented for 'BFloat16'")
                now += took * (5 if number == 0 else 1)  # the first warms up
                yield losses[WAYS.index(numbers)]

        settings = {"images": 64, "tried": 32} | settings
        found, trials = choose(WAYS, train, nn.Linear(1, 1), steps, **settings)
        return WAYS.index(found), trials, asked

    return run


def test_the_fastest_that_trains(chosen) -> None:
    assert chosen([4, 2, 1, 3])[0] == 2
    assert chosen([4, 2, 3, 1])[0] == 3
    assert chosen([4, 2, 1, 3], losses=(1, 1, 1.5, 1))[0] == 1, "a loss far above that in float32 is no training"
    assert chosen([4, 2, 1, 3], losses=(1, 1, float("nan"), 1))[0] == 1
    assert chosen([4, 2, 1, 3], losses=(1, 1, float("inf"), 1))[0] == 1
    assert chosen([4, 2, 1, 3], losses=(1, 1, 1.05, 1))[0] == 2
    assert chosen([4, 2, "fails", 3])[0] == 1
    assert chosen([4, "fails", "fails", "fails"])[0] == 0
    assert chosen(["fails", 2, 1, 3])[0] == 2


def test_float32_is_kept_where_little_is_gained(chosen) -> None:
    assert chosen([4, 3.9, 3.7, 3.8])[0] == 0
    assert chosen([4, 5, 6, 7])[0] == 0


def test_a_short_training_is_not_kept_waiting(chosen) -> None:
    found, trials, asked = chosen([0.1, 0.01, 0.01, 0.01], steps=299)
    assert (found, trials, asked) == (0, [], [WAYS[0]]), "0.1 s * 64/32 images * 299 steps is less than a minute"
    assert chosen([0.1, 0.01, 0.01, 0.01], steps=301)[0] == 1


def test_what_is_far_slower_is_left_early(chosen) -> None:
    _, trials, _ = chosen([1, 1000, 1000, 0.5])
    assert [trial.seconds for trial in trials] == [1, float("inf"), float("inf"), 0.5]


def test_candidates() -> None:
    assert candidates(ComputeConfig(), CPU) == WAYS
    assert candidates(ComputeConfig(precision="bf16", memory_format="channels-last"), CPU) == [Numbers("bf16", channels_last=True)]
    assert candidates(ComputeConfig(memory_format="contiguous"), CPU) == [Numbers("fp32"), Numbers("bf16")]
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        candidates(ComputeConfig(precision="fp16"), CPU)
    assert candidates(ComputeConfig(precision="fp16", memory_format="contiguous"), torch.device("cuda")) == [Numbers("fp16")]
    assert candidates(ComputeConfig(), torch.device("mps")) == WAYS[:2]
    assert resolved(ComputeConfig(gpus="0"), WAYS[3]) == ComputeConfig(gpus="0", precision="bf16", memory_format="channels-last")


def everything(model: nn.Module) -> list[object]:
    states = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002
    return [*states, *(tensor.tolist() for tensor in model.state_dict().values()), model.training]


def test_a_trial_leaves_no_trace(model, make_loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WORTH_TRYING", 0.0)
    before = everything(model)
    batch = next(make_loader(40, batch_size=40).epoch(0))
    kept = batch.images.clone()
    found, told = choose_numbers(model, lambda: batch, ComputeConfig(), OptimConfig(), device=CPU, steps=1e9, deterministic=False)
    assert everything(model) == before
    assert torch.equal(batch.images, kept)
    assert found in WAYS
    assert told.startswith(f"computing in {found} (speed, with fp32 as 1: fp32, channels-last ")
    assert all(p.grad is None for p in model.parameters())


def test_deterministic_is_never_by_the_clock(model) -> None:
    def never():
        pytest.fail("no batch is needed")

    settings = {"device": CPU, "steps": 1e9, "deterministic": True}
    assert choose_numbers(model, never, ComputeConfig(), OptimConfig(), **settings) == (Numbers(), "")
    config = ComputeConfig(precision="bf16", memory_format="contiguous")
    assert choose_numbers(model, never, config, OptimConfig(), **settings) == (Numbers("bf16"), "")


@given(activations=st.integers(0, 10**9), images=st.integers(1, 10**7), free=st.one_of(st.none(), st.integers(0, 10**12)))
def test_batch_size(activations: int, images: int, free: int | None) -> None:
    found = choose_batch_size(nn.Identity(), (3, 8, 8), activations=activations, images=images, free=free, device=CPU)
    assert 1 <= found <= 1024
    assert found & (found - 1) == 0
    assert found <= max(8, images // 16), "an epoch has steps"
    if free is not None and found > 1:
        assert 3 * 4 * activations * found <= 0.5 * free
    if free is None:
        assert 2 * found > min(1024, max(8, images // 16))


def test_batch_size_examples() -> None:
    def size(images: int, free: int | None, activations: int = 1000) -> int:
        return choose_batch_size(nn.Identity(), (1, 1, 1), activations=activations, images=images, free=free, device=CPU)

    assert size(50_000, None) == 1024
    assert size(1_797, None) == 64
    assert size(10, None) == 8
    assert size(50_000, 2 * 12 * 1000 * 100) == 64
    assert size(50_000, 0) == 1
