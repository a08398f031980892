"""Small arrays of the CPU on their way to the device."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch


def send(numbers: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array as a tensor on the device; to a GPU by page-locked memory, which makes neither side wait."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
