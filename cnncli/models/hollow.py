"""Models made without their weights: what would be filled with numbers has only its size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Made = TypeVar("Made")

# What weights are made with. `arange`, `linspace` and `tensor` really run: models compute their own sizes with them
# (torchvision's RegNet its widths, many the rates of their dropout), which torch's meta device does not allow.
FILLED = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.empty_strided, torch.normal}
# How torch complains where a tensor without numbers meets one that has some, or is asked for its own; the last: in torch.jit.trace.
ABOUT_MISSING_NUMBERS = ("meta", "incompatible tensor type", "cond must be a bool")


class Hollow(TorchFunctionMode):
    """While it is entered, new tensors of FILLED are on the meta device, unless another device is asked for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, on the meta device where it would fill memory."""
        kwargs = dict(kwargs or {})
        if func in FILLED and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def make_hollow(make: Callable[[], Made]) -> Made:
    """What `make` gives, without memory for its weights wherever that can be; torch's random state stays as it is.

    Code that mixes tensors with and without numbers is run again wholly on the meta device, and then with all its numbers.
    Other errors of `make` are passed on at once. Warnings are silenced: most are about weights that nobody asked for.
    """
    ways: tuple[AbstractContextManager[Any], ...] = (
        Hollow(),
        torch.device("meta"),
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for way in ways:
            try:
                with way:
                    return make()
            except Exception as error:  # the constructor of a foreign model raises anything
                if not any(words in str(error) for words in ABOUT_MISSING_NUMBERS):
                    raise
        return make()


def is_hollow(model: torch.nn.Module) -> bool:
    """Whether anything that the model keeps has only its size: parameters, buffers, and tensors that are plain attributes."""
    kept = [value for module in model.modules() for value in vars(module).values()]
    items = [
        item
        for value in kept
        for item in (value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,))
    ]
    return any(isinstance(item, torch.Tensor) and item.is_meta for item in items)
