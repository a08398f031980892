"""Random weights for tests that compare two models."""

from __future__ import annotations

import torch
from torch import nn


def randomise(model: nn.Module) -> None:
    """Every number its own, buffers included; variances positive. Equal for models of equal shapes in equal order."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(drawn + 0.5 if name.endswith("running_var") else drawn - 0.4)
