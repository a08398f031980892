"""Optimizers against torch's plain classes stepped by hand, which parameters decay, and what a step must not load."""

from __future__ import annotations

import copy
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cnncli.engine import parallel
from cnncli.engine.config import DEFAULT_DECAY, DEFAULT_LR, OPTIMIZERS, ComputeConfig, OptimConfig, TrainConfig
from cnncli.engine.optim import make_optimizer, set_rate, update
from cnncli.errors import UsageError

STEPS = 5


def net(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2), nn.Flatten(), nn.Linear(24, 3)).to(dtype)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, step: Any, *, first: int = 0, steps: int = STEPS) -> None:
    """Steps on data of their own, the rate a different share of its peak in each."""
    dtype = next(model.parameters()).dtype
    for number in range(first, first + steps):
        torch.manual_seed(100 + number)
        images, labels = torch.randn(7, 3, 5, 5, dtype=dtype), torch.randint(0, 3, (7,))
        set_rate(optimizer, 1 / (1 + number))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        step(optimizer)


def plain(model: nn.Module, kind: type, decay: float, factor: float = 1.0, *, decay_all: bool = False, **settings: Any) -> Any:
    """torch's own class, without fused or foreach kernels, its groups written out."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    scales = [p for name, p in model.named_parameters() if p.ndim <= 1 and not name.endswith("bias")]
    peak = settings.pop("lr")
    groups = [
        {"params": matrices, "weight_decay": decay, "lr": peak, "peak": peak},
        {"params": scales, "weight_decay": decay if decay_all else 0.0, "lr": peak, "peak": peak},
        {"params": biases, "weight_decay": decay if decay_all else 0.0, "lr": peak * factor, "peak": peak * factor},
    ]
    return kind(groups, **settings, foreach=False)


PLAIN: list[tuple[dict[str, Any], type, dict[str, Any]]] = [
    ({"optimizer": "sgd"}, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "decay": 5e-4}),
    ({"optimizer": "sgd", "nesterov": False, "lr": 0.3}, torch.optim.SGD, {"lr": 0.3, "momentum": 0.9, "decay": 5e-4}),
    ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.2}, torch.optim.SGD, {"lr": 0.05, "decay": 0.2}),
    ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "decay": 0.1}),
    (
        {"optimizer": "adamw", "momentum": 0.8, "beta2": 0.7, "epsilon": 1e-3, "lr": 0.01},
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.8, 0.7), "eps": 1e-3, "decay": 0.01},
    ),
    ({"optimizer": "rmsprop"}, torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "momentum": 0.9, "decay": 0.0}),
    (
        {"optimizer": "rmsprop", "momentum": 0.0, "beta2": 0.9, "weight_decay": 0.3},
        torch.optim.RMSprop,
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-8, "decay": 0.3},
    ),
    ({"optimizer": "adadelta"}, torch.optim.Adadelta, {"lr": 1.0, "rho": 0.95, "eps": 1e-6, "decay": 0.0}),
    (
        {"optimizer": "adadelta", "beta2": 0.5, "epsilon": 0.01, "weight_decay": 0.1},
        torch.optim.Adadelta,
        {"lr": 1.0, "rho": 0.5, "eps": 0.01, "decay": 0.1},
    ),
]


@pytest.mark.parametrize("groups", [{}, {"decay_all": True}, {"bias_lr_factor": 3.0}], ids=str)
@pytest.mark.parametrize(("settings", "kind", "expected"), PLAIN, ids=[str(row[0]) for row in PLAIN])
def test_every_optimizer_is_torchs_plain_one(settings, kind, expected, groups) -> None:
    own, other = net(), net()
    learn(own, make_optimizer(own, OptimConfig(**settings, **groups)), update)
    options = {"decay_all": groups.get("decay_all", False), "factor": groups.get("bias_lr_factor", 1.0)}
    learn(other, plain(other, kind, **expected, **options), lambda optimizer: optimizer.step())
    for name, tensor in own.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_is_the_step(name: str) -> None:
    own, other = net(torch.float32), net(torch.float32)
    learn(own, make_optimizer(own, OptimConfig(optimizer=name)), update)
    learn(other, make_optimizer(other, OptimConfig(optimizer=name)), lambda optimizer: optimizer.step())
    assert all(torch.equal(one, two) for one, two in zip(own.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_memory_layout_does_not_matter_and_survives_loading(name: str) -> None:
    """A fused kernel walks through memory: what is remembered of a weight must lie like it, also after it was loaded."""
    contiguous = net()
    learn(contiguous, make_optimizer(contiguous, OptimConfig(optimizer=name)), update, steps=2 * STEPS)
    own = net().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(own, OptimConfig(optimizer=name))
    learn(own, optimizer, update)
    kept = {key: tensor.contiguous().clone() for key, tensor in parallel.whole_optimizer_state(optimizer).items()}  # as a file holds it
    continued = copy.deepcopy(own)
    optimizer = make_optimizer(continued, OptimConfig(optimizer=name))
    parallel.load_optimizer_state(optimizer, kept)
    for parameter in continued.parameters():
        for tensor in optimizer.state[parameter].values():
            assert tensor.ndim == 0 or tensor.stride() == parameter.stride()
    learn(continued, optimizer, update, first=STEPS)
    for key, tensor in continued.state_dict().items():
        torch.testing.assert_close(tensor, contiguous.state_dict()[key], rtol=1e-10, atol=1e-12, msg=key)
    assert all(torch.equal(tensor, kept[key]) for key, tensor in kept.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loading_does_not_share_memory(name: str) -> None:
    model = net()
    optimizer = make_optimizer(model, OptimConfig(optimizer=name))
    learn(model, optimizer, update, steps=2)
    kept = {key: tensor.clone() for key, tensor in parallel.whole_optimizer_state(optimizer).items()}
    assert kept
    before = {key: tensor.clone() for key, tensor in kept.items()}
    parallel.load_optimizer_state(optimizer, kept)
    learn(model, optimizer, update, steps=2)
    assert all(torch.equal(kept[key], before[key]) for key in kept)


def test_fused_on_the_cpu() -> None:
    for name in ("sgd", "adam", "adamw"):
        assert make_optimizer(net(), OptimConfig(optimizer=name)).defaults["fused"]
        assert not make_optimizer(net(), OptimConfig(optimizer=name), fused=False).defaults["fused"]


def test_no_optimizer_loads_the_compiler() -> None:
    """It takes longer than a short training. Where this fails, torch has changed its wrappers: see `spare_dynamo`."""
    code = """
import sys, torch
from torch import nn
from cnncli.engine.config import OPTIMIZERS, OptimConfig
from cnncli.engine.optim import make_optimizer, set_rate, update
from cnncli.engine import parallel
for name in OPTIMIZERS:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    optimizer = make_optimizer(model, OptimConfig(optimizer=name))
    for _ in range(2):
        set_rate(optimizer, 0.5)
        optimizer.zero_grad(set_to_none=True)
        model(torch.randn(2, 3, 3, 3)).sum().backward()
        update(optimizer)
    parallel.load_optimizer_state(optimizer, parallel.whole_optimizer_state(optimizer))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_set_rate() -> None:
    optimizer = make_optimizer(net(), OptimConfig(lr=0.4, bias_lr_factor=2.0))
    assert set_rate(optimizer, 0.25) == pytest.approx(0.2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.2])
    set_rate(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.4, 0.8]), "shares are of the peak, not of what was"


def test_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    model[0].weight.requires_grad_(False)
    made = make_optimizer(model, OptimConfig(optimizer="adamw", weight_decay=0.3, lr=0.1))
    assert type(made) is torch.optim.AdamW
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert decay == {
        id(model[0].bias): 0.0,
        id(model[1].weight): 0.0,
        id(model[1].bias): 0.0,
        id(model[3].weight): 0.3,
        id(model[3].bias): 0.0,
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_follow_the_optimizer(name: str) -> None:
    config = OptimConfig(optimizer=name)
    assert (config.peak_lr, config.decay) == (DEFAULT_LR[name], DEFAULT_DECAY[name])
    config = OptimConfig(optimizer=name, lr=0.7, weight_decay=0.0)
    assert (config.peak_lr, config.decay) == (0.7, 0.0)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"epochs": True}),
        (TrainConfig, {"steps": 0}),
        (TrainConfig, {"minutes": float("nan")}),
        (TrainConfig, {"batch_size": 0}),
        (TrainConfig, {"batch_size": "all"}),
        (TrainConfig, {"seed": -1}),
        (TrainConfig, {"monitor": "accuracy"}),
        (TrainConfig, {"dropout": 1.0}),
        (OptimConfig, {"lr": float("nan")}),
        (OptimConfig, {"lr": -1.0}),
        (OptimConfig, {"momentum": 1.0}),
        (OptimConfig, {"optimizer": "lion"}),
        (OptimConfig, {"schedule": "cos"}),
        (OptimConfig, {"final_lr": 1.5}),
        (OptimConfig, {"milestones": "0.5,0.5"}),
        (OptimConfig, {"milestones": "0.5,30"}),
        (OptimConfig, {"milestones": "nan"}),
        (OptimConfig, {"milestones": ""}),
        (OptimConfig, {"ema": 1.0}),
        (ComputeConfig, {"precision": "fp8"}),
    ],
    ids=str,
)
def test_settings_are_checked_wherever_they_come_from(config: type, settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(settings)).replace("_", "-")):
        config(**settings)


def test_one_length_at_a_time() -> None:
    with pytest.raises(UsageError, match="--epochs and --minutes both say how long"):
        TrainConfig(epochs=3, minutes=1)
    assert TrainConfig().passes == 30
    assert TrainConfig(epochs=2).passes == 2
    assert TrainConfig(steps=2).passes is None
    assert TrainConfig(minutes=2).passes is None


RATES = {"0.weight": 0.25, "1.weight": 0.25, "1.bias": 0.25, "2.weight": 0.5}


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_rates_of_weights(name: str) -> None:
    """Each weight's peak is its share of its kind's; the full rate comes last, which is told as the optimizer's own."""
    config = OptimConfig(optimizer=name, lr=0.4, bias_lr_factor=2.0, **({"other_lr": 0.08} if name == "muon" else {}))
    model = net(torch.float32)
    made = make_optimizer(model, config, rates=RATES)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    peaks = {names[id(p)]: group["peak"] for group in made.param_groups for p in group["params"]}
    for key in names.values():
        kind = 0.08 if name == "muon" and key not in ("0.weight", "2.weight") else 0.4
        assert peaks[key] == pytest.approx(kind * (2 if key.endswith("bias") else 1) * RATES.get(key, 1.0)), key
    assert len(peaks) == len(names)
    assert {names[id(p)] for p in made.param_groups[-1]["params"]} <= set(names.values()) - set(RATES)
    set_rate(made, 0.5)
    assert all(group["lr"] == pytest.approx(group["peak"] / 2) for group in made.param_groups)
    decays = {names[id(p)]: group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert decays == {key: config.decay if model.get_parameter(key).ndim > 1 else 0.0 for key in decays}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_share_of_the_rate_is_that_of_an_optimizer_of_its_own(name: str) -> None:
    """The same steps as one optimizer for each share, all of them with a whole rate."""
    own, other = net(), net()
    learn(own, make_optimizer(own, OptimConfig(optimizer=name, lr=0.02), rates=RATES), update)
    several = []
    for share in (0.25, 0.5, 1.0):
        part = copy.copy(other)
        chosen = [key for key, _ in other.named_parameters() if RATES.get(key, 1.0) == share]
        for key, parameter in part.named_parameters():
            parameter.requires_grad_(key in chosen)
        several.append(make_optimizer(part, OptimConfig(optimizer=name, lr=0.02 * share)))
    other.requires_grad_(requires_grad=True)

    together: Any = SimpleNamespace(param_groups=[group for one in several for group in one.param_groups], zero_grad=other.zero_grad)
    learn(other, together, lambda _: [update(one) for one in several])
    for key, tensor in own.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[key], rtol=1e-12, atol=1e-14, msg=key)


def test_without_rates_nothing_changes() -> None:
    for name in OPTIMIZERS:
        plain_one, same = (make_optimizer(net(), OptimConfig(optimizer=name), rates=rates) for rates in (None, {"0.weight": 1.0}))
        assert [{k: v for k, v in group.items() if k != "params"} for group in plain_one.param_groups] == [
            {k: v for k, v in group.items() if k != "params"} for group in same.param_groups
        ]
        assert [len(group["params"]) for group in plain_one.param_groups] == [len(group["params"]) for group in same.param_groups]
