"""Which modules are one row, and what a module says of itself that its operations do not."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from cnncli.arch.blocks import Add, Concatenate, Merge
from cnncli.arch.layers import Layer, Shape, SubsamplePad
from cnncli.arch.pointwise import Dropout, LocalResponseNorm
from cnncli.arch.shift import Shift
from cnncli.errors import UsageError
from cnncli.models.assemble import Join, Sum

# Modules of torch.nn that are made of others, each of which has its own row.
CONTAINERS: tuple[type[nn.Module], ...] = (
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.MultiheadAttention, nn.Transformer),
    *(nn.TransformerEncoder, nn.TransformerDecoder, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
OURS = (Sum, Join)


def is_leaf(module: nn.Module) -> bool:
    """A layer of torch.nn, a class derived from one, or a module that a layer of ours is built as."""
    if isinstance(module, OURS) or _subsample_pad(module, 0) is not None:
        return True
    if isinstance(module, CONTAINERS):
        return False
    return any(kind.__module__.startswith("torch.nn.modules.") and kind is not nn.Module for kind in type(module).__mro__)


def part_of(module: nn.Module, inputs: tuple[Shape, ...], output: Shape) -> Layer | Merge | None:
    """The layer of ours that a module is, where its operations alone do not say so; None for the others."""
    try:
        part = _part(module, inputs)
        if isinstance(part, Merge):
            return part if part.output(inputs) == output else None
        return part if part is not None and len(inputs) == 1 and part.output(inputs[0]) == output else None
    except UsageError:  # numbers or shapes that our layer does not take
        return None


def _part(module: nn.Module, inputs: tuple[Shape, ...]) -> Layer | Merge | None:
    kind: Any = type(module)
    if kind is Sum:
        return Add()
    if kind is Join:
        return Concatenate()
    if kind is nn.Dropout:
        return Dropout(module.p)  # type: ignore[arg-type]
    if kind is nn.LocalResponseNorm:
        assert isinstance(module, nn.LocalResponseNorm)
        return LocalResponseNorm(size=module.size, alpha=module.alpha / module.size, beta=module.beta, k=module.k)
    if kind is nn.ZeroPad2d:
        left, right, top, bottom = module.padding  # type: ignore[misc]
        return Shift(right) if right > 0 and (left, right, top, bottom) == (-right, right, -right, right) else None
    return _subsample_pad(module, inputs[0][0] if inputs and inputs[0] else 0)


def _subsample_pad(module: nn.Module, channels: int) -> SubsamplePad | None:
    """The two modules that SubsamplePad is built as: a 1x1 average pooling with a stride, and zeros behind the channels."""
    if type(module) is not nn.Sequential or len(module) != 2 or type(module[0]) is not nn.AvgPool2d or type(module[1]) is not nn.ZeroPad3d:
        return None
    pool, pad = module[0], module[1]
    new, around = pad.padding[5], tuple(pad.padding[:5])
    if pool.kernel_size not in (1, (1, 1)) or pool.padding not in (0, (0, 0)) or any(around) or new < 0 or not isinstance(pool.stride, int):
        return None
    return SubsamplePad(max(1, channels + new), stride=pool.stride)


def is_dropout(module: nn.Module) -> bool:
    """Whether it is dropout of any kind, which at use keeps nothing that its input has not."""
    return isinstance(module, _DropoutNd)


def leaf_text(module: nn.Module, operations: list[str]) -> str:
    """The words for a module: what it did where that is one or two operations, else its class."""
    if isinstance(module, _DropoutNd):
        return f"{_words(module)} {module.p:g}"
    return "; ".join(operations) if 0 < len(operations) < 3 else _words(module)


def _words(module: nn.Module) -> str:
    """`pixel shuffle` for PixelShuffle."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(module).__name__).lower()
