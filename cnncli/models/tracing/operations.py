"""What a torch operation is, in the words of the table: its layer where we have one, its text, and what its output sees.

Operations arrive as torch's dispatcher names them (`aten.conv2d`), with their arguments by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnncli.arch.blocks import Add, Concatenate, Merge
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pair, Pool, Shape
from cnncli.arch.pointwise import Activation, BatchNorm
from cnncli.errors import UsageError
from cnncli.models.tracing.flow import Sight


@dataclass(frozen=True)
class Call:
    """One operation: its name without namespace and in-place mark, arguments by name, what it reads of the image, and its outputs."""

    name: str
    arguments: Mapping[str, Any]
    seen: tuple[tuple[Tensor, Sight], ...]
    outputs: list[Tensor]

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def sight(self) -> Sight:
        """Of the first tensor, the input of most operations."""
        return self.seen[0][1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the first tensor, the batch included."""
        return tuple(self.seen[0][0].shape)


# Names of rows, where torch's own are no words.
NAMES = {
    "cat": "concat",
    "mul": "multiply",
    "div": "divide",
    "sub": "subtract",
    "scaled_dot_product_attention": "attention",
    "linalg_vector_norm": "norm",
    "_native_multi_head_attention": "attention",
    "constant_pad_nd": "pad",
}
# Weights of these count in the row of the operation; parameters of others have a row of their own.
WEIGHTED = {"linear", "embedding", "prelu", "_prelu_kernel", "bilinear", "matmul", "mm", "addmm", "bmm", "baddbmm", "einsum", "mv", "dot"}
# They move numbers and compute none.
BOOKKEEPING = {"clone", "contiguous", "to", "_to_copy", "type_as", "reshape", "lift_fresh", "copy", "roll", "flip", "index", "index_select"}
BOOKKEEPING |= {
    "gather",
    "repeat",
    "tile",
    "repeat_interleave",
    "expand_as",
    "detach",
    "alias",
    "masked_fill",
    "_reshape_copy",
    "unfold",
    "index_put",
}
# They take no more than the size of a tensor.
OF_A_SIZE = {f"{kind}_like" for kind in ("zeros", "ones", "empty", "full", "rand", "randn", "randint")}
OF_A_SIZE |= {f"new_{kind}" for kind in ("zeros", "ones", "empty", "full", "empty_strided")}


def computes(func: Any, call: Call, layer: Layer | Merge | None) -> bool:
    """Whether the operation makes new numbers, and so has a row: not a view, not a copy, not padding by nothing.

    Stretching an image into a vector has a row, too, as in the nets that are described.
    """
    if isinstance(layer, Flatten):
        return call.sizes != tuple(call.output.shape)
    if call.name in BOOKKEEPING:
        return False
    if call.name in ("pad", "constant_pad_nd") and not any(call["pad"]):
        return False
    returns = func._schema.returns  # noqa: SLF001 - the only place where torch tells what is a view
    return not (returns and all(value.alias_info is not None and not value.alias_info.is_write for value in returns))


def takes_weights(name: str) -> bool:
    """Whether parameters that the operation reads are its weights."""
    return name in WEIGHTED or "conv" in name or name.endswith("norm")


def bind(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by the names of the operation's schema, defaults included."""
    schema = func._schema.arguments  # noqa: SLF001 - the only place where torch tells the names
    bound = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    bound |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
    return bound | dict(kwargs)


def name_of(func: Any) -> str:
    """`relu` for aten.relu_.default."""
    name = func._schema.name.partition("::")[2]  # noqa: SLF001
    return str(name[:-1] if name.endswith("_") and not name.endswith("__") else name)


# ---- layers of ours ----


def layer_of(call: Call, shapes: tuple[Shape, ...]) -> Layer | Merge | None:
    """The layer that does the same on inputs of these shapes (batch left out), or None where we have none."""
    maker = LAYERS.get(call.name)
    if maker is None:
        return None
    try:
        layer = maker(call, shapes)
    except UsageError:  # numbers that our layers do not take, such as a momentum of None
        return None
    output = tuple(call.output.shape[1:])
    try:
        said = None if layer is None else layer.output(shapes) if isinstance(layer, Merge) else layer.output(shapes[0])
    except UsageError:
        return None
    return layer if said == output else None


def _pair(value: Any) -> Pair:
    """A number where height and width agree, else (height, width)."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]) if len(set(values)) == 1 else (int(values[0]), int(values[1]))


def padding_of(call: Call) -> Pair | None:
    """The padding of a convolution; None where one side gets more than the other."""
    padding = call["padding"]
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "valid":
        return 0
    reach = [d * (f - 1) for d, f in zip(_many(call["dilation"], call), call["weight"].shape[2:], strict=True)]
    return None if any(n % 2 for n in reach) else _pair([n // 2 for n in reach])


def _many(value: Any, call: Call) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values if len(values) > 1 else values * (call["weight"].dim() - 2)


def _conv(call: Call, shapes: tuple[Shape, ...]) -> Layer | None:
    weight, padding = call["weight"], padding_of(call)
    if weight.dim() != 4 or len(shapes[0]) != 3 or padding is None or call["transposed"]:
        return None
    numbers = {"kernel": _pair(weight.shape[2:]), "stride": _pair(call["stride"]), "padding": padding, "dilation": _pair(call["dilation"])}
    return Conv(weight.shape[0], **numbers, groups=call["groups"], bias=call["bias"] is not None)


def _pool(call: Call, shapes: tuple[Shape, ...]) -> Layer | None:
    kind = "max" if call.name.startswith("max") else "average"
    if len(shapes[0]) != 3 or call["divisor_override"] is not None or _pair(call["dilation"] or 1) != 1:
        return None
    kernel, stride = _pair(call["kernel_size"]), _pair(call["stride"] or call["kernel_size"])
    counts = True if call["count_include_pad"] is None else bool(call["count_include_pad"])
    return Pool(kind, kernel=kernel, stride=stride, padding=_pair(call["padding"]), ceil=bool(call["ceil_mode"]), count_padding=counts)


def _adaptive_pool(call: Call, shapes: tuple[Shape, ...]) -> Layer | None:
    return AdaptivePool("max" if "max" in call.name else "average", size=_pair(call["output_size"])) if len(shapes[0]) == 3 else None


def _linear(call: Call, shapes: tuple[Shape, ...]) -> Layer | None:
    return Linear(call["weight"].shape[0], bias=call["bias"] is not None) if len(shapes[0]) == 1 else None


def _batch_norm(call: Call, _: tuple[Shape, ...]) -> Layer | None:
    if call["running_mean"] is None:
        return None
    return BatchNorm(eps=call["eps"], momentum=call["momentum"], affine=call["weight"] is not None)


def _flatten(call: Call, _: tuple[Shape, ...]) -> Layer | None:
    return Flatten() if len(call.output.shape) == 2 and call.output.shape[0] == call.sizes[0] else None


def _add(call: Call, shapes: tuple[Shape, ...]) -> Merge | None:
    return Add() if len(shapes) == 2 and (call["alpha"] or 1) == 1 else None


def _concat(call: Call, shapes: tuple[Shape, ...]) -> Merge | None:
    return Concatenate() if len(shapes) == len(call["tensors"]) else None


def _activation(kind: str, **needs: object) -> Callable[[Call, tuple[Shape, ...]], Layer | None]:
    return lambda call, _: Activation(kind) if all(call[name] == value for name, value in needs.items()) else None


LAYERS: dict[str, Callable[[Call, tuple[Shape, ...]], Layer | Merge | None]] = {
    **dict.fromkeys(("conv2d", "convolution", "_convolution"), _conv),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"), _pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool),
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("flatten", "view", "reshape"), _flatten),
    "add": _add,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    **{kind: _activation(kind) for kind in ("relu", "relu6", "silu", "tanh", "sigmoid")},
    "hardtanh": _activation("relu6", min_val=0, max_val=6),
    "leaky_relu": _activation("leaky-relu", negative_slope=0.01),
    "elu": _activation("elu", alpha=1, scale=1, input_scale=1),
    "gelu": _activation("gelu", approximate="none"),
}


# ---- words ----


def text_of(call: Call, layer: Layer | Merge | None) -> str:
    """What it does, in the words of a table cell."""
    if layer is not None:
        return layer.operation()
    if call.name in TEXTS:
        return TEXTS[call.name](call)
    return NAMES.get(call.name, call.name).strip("_").replace("_", " ")


def _conv_text(call: Call) -> str:
    weight = call["weight"]
    transposed = call["transposed"] or "transpose" in call.name
    stride, dilation = _many(call["stride"], call), _many(call["dilation"], call)
    padding = call["padding"] if isinstance(call["padding"], str) else _many(call["padding"], call)
    text = f"{'transposed ' if transposed else ''}conv {'x'.join(map(str, weight.shape[2:]))}"
    text += f", {weight.shape[1] * call['groups'] if transposed else weight.shape[0]}"
    for words, values, default in ((", /", stride, 1), (", pad ", padding, 0), (", dilation ", dilation, 1)):
        if isinstance(values, str):
            text += f"{words}{values}"
        elif any(value != default for value in values):
            text += words + (str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values)))
    return text + (f", groups {call['groups']}" if call["groups"] > 1 else "")


def _with_number(word: str) -> Callable[[Call], str]:
    """`multiply by 0.125` where one side is a number."""

    def text(call: Call) -> str:
        other = call["other"]
        return word if isinstance(other, Tensor) or other is None else f"{word} {'by ' if word in ('multiply', 'divide') else ''}{other:g}"

    return text


def _resize_text(call: Call) -> str:
    kind = call.name.removeprefix("_").removeprefix("upsample_").removesuffix("_aa")[:-2]
    return f"resize to {'x'.join(map(str, call.output.shape[2:]))}, {kind}"


TEXTS: dict[str, Callable[[Call], str]] = {
    **{f"{kind}{n}d": _conv_text for kind in ("conv", "conv_transpose") for n in (1, 2, 3)},
    **dict.fromkeys(("convolution", "_convolution"), _conv_text),
    "linear": lambda call: f"fully connected, {call['weight'].shape[0]}",
    **dict.fromkeys(("addmm", "mm", "matmul", "bmm", "baddbmm", "einsum"), lambda _: "matrix product"),
    "scaled_dot_product_attention": lambda call: f"attention, {call['query'].shape[-3]} heads" if call["query"].dim() > 3 else "attention",
    "group_norm": lambda call: f"group norm, {call['num_groups']} groups",
    **{word: _with_number(text) for word, text in (("add", "add"), ("mul", "multiply"), ("div", "divide"), ("sub", "subtract"))},
    "pow": lambda call: f"power {call['exponent']:g}" if isinstance(call["exponent"], int | float) else "power",
    "leaky_relu": lambda call: f"leaky-relu {call['negative_slope']:g}",
    "hardtanh": lambda call: f"hardtanh {call['min_val']:g} to {call['max_val']:g}",
    **dict.fromkeys(("pad", "constant_pad_nd"), lambda call: "pad " + ",".join(map(str, call["pad"]))),
    **dict.fromkeys([f"upsample_nearest{n}d" for n in (1, 2, 3)], _resize_text),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa"), _resize_text),
}


def is_pointwise(func: Any) -> bool:
    """Whether torch marks the operation as one that works unit by unit."""
    return torch.Tag.pointwise in func.tags
