"""Optimizers: which weights learn by which rule, and a step that does not wait for what it does not need."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cnncli.engine.config import DEFAULT_LR, OptimConfig
from cnncli.engine.muon import Muon

# torch's defaults: Kingma & Ba 2015; Hinton 2012, lecture 6e, has 0.9 for RMSprop where torch has 0.99; Zeiler 2012.
USUAL_BETA2 = {"adam": 0.999, "adamw": 0.999, "rmsprop": 0.99, "adadelta": 0.95}
USUAL_EPSILON = {"adam": 1e-8, "adamw": 1e-8, "rmsprop": 1e-8, "adadelta": 1e-6}
FUSED = {"cpu", "cuda"}  # devices on which torch updates all weights in one kernel


def make_optimizer(
    model: nn.Module, config: OptimConfig, *, fused: bool = True, rates: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimizer of `config`. Each of its groups has `peak`: its rate where the schedule is at 1.

    rates: of weights by name, as shares of the peak rate; 1 for those that it does not name.

    Biases and the scales of norms (anything with one axis) are not decayed unless `decay_all`; biases learn with `bias_lr_factor` times the
    rate. Muon takes the filters of convolutions; the rest learns by SGD.
    fused: one kernel for all weights, where the device has it.
    """
    spare_dynamo()
    groups = _groups(model, config, rates or {})
    nesterov = config.nesterov is not False
    settings: dict[str, Any] = {"lr": config.peak_lr, "weight_decay": config.decay}
    if config.optimizer == "muon":
        return Muon(groups, config.peak_lr, config.momentum, config.decay, nesterov=nesterov)
    beta2 = USUAL_BETA2.get(config.optimizer, 0.0) if config.beta2 is None else config.beta2
    epsilon = USUAL_EPSILON.get(config.optimizer, 0.0) if config.epsilon is None else config.epsilon
    one_kernel = fused and all(p.device.type in FUSED for group in groups for p in group["params"])
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, **settings, momentum=config.momentum, nesterov=nesterov and config.momentum > 0, fused=one_kernel)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, **settings, betas=(config.momentum, beta2), eps=epsilon, fused=one_kernel)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, **settings, betas=(config.momentum, beta2), eps=epsilon, fused=one_kernel)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, **settings, alpha=beta2, eps=epsilon, momentum=config.momentum)
    return torch.optim.Adadelta(groups, **settings, rho=beta2, eps=epsilon)


def _groups(model: nn.Module, config: OptimConfig, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    filters = {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d) and module.weight.shape[1] > 1}
    found: dict[float, dict[str, list[nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kinds = found.setdefault(rates.get(name, 1.0), {"matrices": [], "scales": [], "biases": [], "filters": []})
        if parameter.ndim <= 1:
            kinds["biases" if name.rpartition(".")[2] == "bias" else "scales"].append(parameter)
        else:
            kinds["filters" if config.optimizer == "muon" and id(parameter) in filters else "matrices"].append(parameter)
    # The full rate last: that of the last group is told as the optimizer's own.
    shares = sorted(found, key=lambda share: (share == 1, share))
    return [group for share in shares for group in _groups_of(found[share], config, share)]


def _groups_of(kinds: dict[str, list[nn.Parameter]], config: OptimConfig, share: float) -> list[dict[str, Any]]:
    """The groups of weights that learn with this share of the peak rate."""
    other: dict[str, Any] = {"peak": config.peak_lr * share}
    if config.optimizer == "muon":
        other = {"peak": (DEFAULT_LR["sgd"] if config.other_lr is None else config.other_lr) * share}
        other["momentum"] = config.momentum if config.other_momentum is None else config.other_momentum
    vectors = other | {"weight_decay": config.decay if config.decay_all else 0.0}
    groups: list[dict[str, Any]] = [
        other | {"params": kinds["matrices"], "weight_decay": config.decay},
        vectors | {"params": kinds["scales"]},
        vectors | {"params": kinds["biases"], "peak": other["peak"] * config.bias_lr_factor},
    ]
    if config.optimizer == "muon":
        own = {"peak": config.peak_lr * share, "weight_decay": config.decay, "orthogonal": True, "fixed_norm": config.fixed_norm}
        groups.append(own | {"params": kinds["filters"]})
    return [group | {"lr": group["peak"]} for group in groups if group["params"]]


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Set every group's rate to `share` of its peak; returns that of the last group, the optimizer's own."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]
    return float(optimizer.param_groups[-1]["lr"])


def update(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()`, without the wrappers that prepare for torch.compile."""
    raw = inspect.unwrap(type(optimizer).step)
    with torch.no_grad():
        raw(optimizer)


def spare_dynamo() -> None:
    """Let optimizers be made without loading the compiler, which takes longer than a short training.

    Methods of torch's optimizers are wrapped so that torch.compile leaves them alone; the wrapper loads torch._dynamo when it is first
    called, unless it finds what that would have made. Where torch looks otherwise, nothing is done and the compiler is loaded.
    """
    for method in vars(torch.optim.Optimizer).values():
        code, wrapped = getattr(method, "__code__", None), getattr(method, "__wrapped__", None)
        if (
            wrapped is not None
            and code is not None
            and code.co_filename.endswith("_compile.py")
            and not hasattr(wrapped, "__dynamo_disable")
        ):
            setattr(wrapped, "__dynamo_disable", wrapped)
