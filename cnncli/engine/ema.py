"""A moving average of the weights, which is judged and kept in their place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """model: a copy of the model with the averaged weights, in evaluation mode.

    After step t (from 1) its weights become d * theirs + (1 - d) * the model's, where d = min(decay, (1 + t) / (10 + t)): the first steps
    weigh little, as in TensorFlow's ExponentialMovingAverage (Polyak & Juditsky 1992 averaged with equal weights). Buffers, such as the
    statistics of batch norm, are averages already and are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights of `model` after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in model.parameters()], 1 - decay)
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(other)
