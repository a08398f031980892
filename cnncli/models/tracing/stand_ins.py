"""Tensors without numbers in the place of a model's own, so that a forward pass neither computes nor changes anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

META = torch.device("meta")


class StandIns:
    """For each tensor with numbers one on the meta device, of the same sizes and strides. Both are kept, so that ids stay theirs."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        self._originals: dict[int, Tensor] = {}

    def original(self, tensor: Tensor) -> Tensor:
        """The tensor that `tensor` stands for; most stand for themselves."""
        return self._originals.get(id(tensor), tensor)

    def replace(self, func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of an operation, with stand-ins where numbers meet a tensor that has none, or would be written.

        Arithmetic on numbers alone, such as positions, really runs: models read its results.
        """
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        real = [tensor for tensor in tensors if not tensor.is_meta]
        if len(real) < len(tensors):
            args, kwargs = _stay(args, kwargs)
        written = getattr(getattr(func, "_schema", None), "is_mutable", True)
        if real and (len(real) < len(tensors) or written or any(isinstance(tensor, nn.Parameter) for tensor in real)):
            args, kwargs = tree_map_only(Tensor, self._stand_in, (args, kwargs))
        return args, kwargs

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._known:
            with torch.inference_mode(tensor.is_inference()):  # torch does not let views of the one kind be of the other
                twin = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=META)
            self._known[id(tensor)] = (tensor, twin)
            self._originals[id(twin)] = tensor
        return self._known[id(tensor)][1]


def _stay(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`x.to(device)` and `x.cuda()` leave x on the meta device."""
    args = tuple(META if isinstance(argument, torch.device) else argument for argument in args)
    return args, {name: META if isinstance(value, torch.device) else value for name, value in kwargs.items()}
