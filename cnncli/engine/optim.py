"""Optimizers and the learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from cnncli.engine.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and the scales of norms (anything with one axis) are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.peak_lr)
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=config.momentum > 0)


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of step `step` (from 0) of `steps`: linear warm-up, then a cosine to 0 (Loshchilov & Hutter 2017, equation 5)."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.peak_lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.peak_lr * (1 + math.cos(math.pi * progress)) / 2
