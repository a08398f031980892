"""The learning rate against its formula, and which parameters decay."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from cnncli.engine.config import DEFAULT_DECAY, DEFAULT_LR, TrainConfig
from cnncli.engine.optim import learning_rate, make_optimizer
from cnncli.errors import UsageError


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 97, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 1.0])
def test_learning_rate_formula(steps: int, warmup: float) -> None:
    """Linear up to the peak, then eta = peak (1 + cos(pi t / T)) / 2 (Loshchilov & Hutter 2017, equation 5, eta_min 0, one cycle)."""
    config = TrainConfig(lr=0.4, warmup=warmup)
    rising = round(warmup * steps)
    for step in range(steps):
        if step < rising:
            expected = 0.4 * (step + 1) / rising
        else:
            expected = 0.5 * 0.4 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
        assert learning_rate(step, steps, config) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_learning_rate_shape() -> None:
    config = TrainConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(step, 200, config) for step in range(200)]
    assert max(rates) == 1.0
    assert rates.index(1.0) == 19, "the last step of the warm-up has the peak"
    assert all(a < b for a, b in itertools.pairwise(rates[:20]))
    assert all(a >= b for a, b in itertools.pairwise(rates[19:]))
    assert 0 < rates[-1] < 1e-3
    assert rates[0] > 0, "a rate of 0 would waste the first step"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_defaults_follow_the_optimizer(optimizer: str) -> None:
    config = TrainConfig(optimizer=optimizer)
    assert (config.peak_lr, config.decay) == (DEFAULT_LR[optimizer], DEFAULT_DECAY[optimizer])
    config = TrainConfig(optimizer=optimizer, lr=0.7, weight_decay=0.0)
    assert (config.peak_lr, config.decay) == (0.7, 0.0)


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_decay_groups(optimizer: str, kind: type) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    model[0].weight.requires_grad_(False)
    made = make_optimizer(model, TrainConfig(optimizer=optimizer, weight_decay=0.3, lr=0.1))
    assert type(made) is kind
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert decay == {
        id(model[0].bias): 0.0,
        id(model[1].weight): 0.0,
        id(model[1].bias): 0.0,
        id(model[3].weight): 0.3,
        id(model[3].bias): 0.0,
    }, "frozen weights are left out; norms and biases do not decay"
    if kind is torch.optim.SGD:
        assert all(group["nesterov"] and group["momentum"] == 0.9 for group in made.param_groups)


def test_sgd_without_momentum() -> None:
    made = make_optimizer(nn.Linear(2, 2), TrainConfig(momentum=0.0))
    assert not made.param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"lr": float("nan")},
        {"lr": -1.0},
        {"batch_size": 0},
        {"momentum": 1.0},
        {"optimizer": "adam"},
        {"seed": -1},
        {"epochs": True},
    ],
    ids=str,
)
def test_settings_are_checked_wherever_they_come_from(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(settings)).replace("_", "-")):
        TrainConfig(**settings)
