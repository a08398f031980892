"""The words of a drawing: `7x7 conv, 64, /2` as in He et al. 2015, figure 3, and the kinds by which boxes are coloured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import prod

from cnncli.arch.blocks import Add, Concatenate, Merge
from cnncli.arch.drawing.plan import Kind
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pair, Pool, SubsamplePad, pair, short_size, size_text
from cnncli.arch.net import Row
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, DropPath, LocalResponseNorm

# What shares the box of the layer before it; the first two may also stand in front (pre-activation nets).
LEADERS = (BatchNorm, Activation)
FOLLOWERS = (*LEADERS, Dropout, DropPath, Flatten)

MOST_WORDS = 4  # operations that a closed box still names
_SPELLING = {"relu": "ReLU", "relu6": "ReLU6", "leaky-relu": "leaky ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU"}
_TIMES = {2: "twice"}
_KINDS: tuple[tuple[tuple[type, ...], Kind], ...] = (
    ((Conv,), "conv"),
    ((Pool, AdaptivePool), "pool"),
    ((Linear,), "fc"),
    ((BatchNorm, LocalResponseNorm), "norm"),
    ((Activation,), "activation"),
    ((Add,), "add"),
    ((Concatenate,), "concat"),
)


def kind(row: Row) -> Kind:
    """The colour of a layer's box."""
    if _is_depthwise(row):
        return "depthwise"
    return next((kind for layers, kind in _KINDS if isinstance(row.part, layers)), "other")


def label(row: Row, *, filters: bool = True) -> str:
    """What a layer does, as papers write it; without its number of filters where a drawing stands for layers that differ in it."""
    match row.part:
        case Conv() as conv:
            counted = filters and not _is_depthwise(row)
            grouped = conv.groups > 1 and not _is_depthwise(row)
            words = [_conv_words(row), *([str(conv.filters)] if counted else []), *([f"{conv.groups} groups"] if grouped else [])]
            words += _stride(conv.stride)
        case Pool() as pool:
            words = [f"{size_text(pool.kernel)} {pool.kind} pool", *_stride(pool.kernel if pool.stride is None else pool.stride)]
        case Linear() as linear:
            words = [f"fc {linear.features}"]
        case SubsamplePad() as pad:
            words = ["subsample", *_stride(pad.stride), f"pad to {pad.filters}" if filters else "pad"]
        case LocalResponseNorm():
            words = ["local response norm"]
        case AdaptivePool():
            words = [row.operation]
        case DropPath() as drop:
            words = [short(drop)]
        case Layer() as layer:
            words = [short(layer)]
        case Concatenate() if filters:
            words = ["concat", str(row.output[0])]
        case _:
            words = [row.operation]
    return ", ".join(words)


def short(layer: Layer) -> str:
    """A layer that stands in the box of another: `BN`, `ReLU`, `dropout 0.5`."""
    if isinstance(layer, BatchNorm):
        return "BN"
    if isinstance(layer, DropPath):  # without its rate, which differs from block to block: equal blocks are drawn once
        return "drop path"
    return _SPELLING.get(layer.operation(), layer.operation())


def block_label(rows: Sequence[Row], *, filters: bool = True) -> str:
    """A closed block in one line: its operations where they are few, `3x3 separable conv, 36`, else how many layers it has."""
    if not rows:
        return "identity"
    words = _operations(rows) or [f"{len(rows)} layers"]
    if filters and any(isinstance(row.part, Conv) for row in rows):
        words.append(str(rows[-1].output[0]))
    return ", ".join(words)


def block_kind(rows: Sequence[Row]) -> Kind:
    """The colour of a closed block: that of its layers where all that count are of one kind, else `block`."""
    kinds = {kind(row) for row in rows if not isinstance(row.part, (*FOLLOWERS, Merge))} - {"other"}
    if not kinds or not _operations(rows):
        return "block"
    if kinds <= {"conv", "depthwise"}:
        return "depthwise" if "depthwise" in kinds else "conv"
    return kinds.pop() if len(kinds) == 1 else "block"


def _operations(rows: Sequence[Row]) -> list[str]:
    """What a block does, a phrase for each step: `3x3 separable conv, twice`; none where they are many, or are not all in a row."""
    heads = [row for row in rows if not isinstance(row.part, (*FOLLOWERS, Merge))]
    convs = [row.part for row in heads if isinstance(row.part, Conv)]
    if any(isinstance(row.part, Merge) for row in rows):
        joined = any(isinstance(row.part, Concatenate) for row in rows)
        halves = joined and convs and all(pair(conv.kernel) == (1, 1) and pair(conv.stride) == (2, 2) for conv in convs)
        return ["factorized reduction"] if halves else []  # Zoph et al. 2017's word for two strided 1x1 convolutions side by side
    phrases: list[str] = []
    for i, row in enumerate(heads):
        if i and _is_depthwise(heads[i - 1]) and isinstance(row.part, Conv) and pair(row.part.kernel) == (1, 1):
            phrases[-1] = phrases[-1].replace("depthwise", "separable")
        else:
            phrases.append(_conv_words(row) if isinstance(row.part, Conv) else label(row))
    runs = [(phrase, len(list(run))) for phrase, run in groupby(phrases)]
    words = [phrase if times == 1 else f"{phrase} {_TIMES.get(times, f'x {times}')}" for phrase, times in runs]
    down, across = (prod(pair(conv.stride)[axis] for conv in convs) for axis in (0, 1))  # 1x7 over 7x1, each strided one way: /2
    return [*words, *_stride((down, across))] if len(words) <= MOST_WORDS else []


def _conv_words(row: Row) -> str:
    conv = row.part
    assert isinstance(conv, Conv)
    dilated = "dilated " if pair(conv.dilation) != (1, 1) else ""
    return f"{size_text(conv.kernel)} {dilated}{'depthwise ' if _is_depthwise(row) else ''}conv"


def _stride(stride: Pair) -> list[str]:
    return [f"/{short_size(stride)}"] if pair(stride) != (1, 1) else []


def _is_depthwise(row: Row) -> bool:
    """Each filter looks at one channel."""
    return isinstance(row.part, Conv) and row.part.groups == row.inputs[0][0] > 1
