"""The state of every generator of random numbers that code of a net may use."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed torch on every device, numpy and Python; each process of several draws its own numbers (for dropout, say)."""
    own = (seed + rank * 1_000_003) % 2**32
    torch.manual_seed(own)
    np.random.seed(own)  # noqa: NPY002 - it is the global generator that others' code may draw from
    random.seed(own)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The generators' states as tensors on the CPU, each of a fixed shape and type."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    version, numbers, gauss = random.getstate()
    states["python"] = torch.tensor([version, *numbers], dtype=torch.int64)
    states["python_gauss"] = torch.tensor([gauss is not None, gauss or 0.0], dtype=torch.float64)
    _, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    states["numpy"] = torch.tensor([*map(int, keys), int(place), int(has_gauss)], dtype=torch.int64)
    states["numpy_gauss"] = torch.tensor([float(cached)], dtype=torch.float64)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Bring the generators back to what `random_state` found. Of each tensor a copy is given to torch, which reads past a view's end."""
    states = {name: state.clone() for name, state in states.items()}
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
    version, *numbers = (int(n) for n in states["python"].tolist())
    there, gauss = states["python_gauss"].tolist()
    random.setstate((version, tuple(numbers), gauss if there else None))
    *keys, place, has_gauss = (int(n) for n in states["numpy"].tolist())
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, states["numpy_gauss"].item()))  # noqa: NPY002
