"""The arithmetic of each layer with its numbers in place: the lecture's formulas, worked.

size     (N - F + 2P)/S + 1                  weights  F*F*C*K + K (K filters on C channels, one bias each)
cost     weights * output pixels             field    r + (F - 1)*j, jump j*S, start s + ((F - 1)/2 - P)*j
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from cnncli.arch.blocks import Add, Concatenate
from cnncli.arch.fit import consequence, decimal, misfits, remedy, size_arithmetic
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pool, SubsamplePad, pair, size_text
from cnncli.arch.net import Row
from cnncli.arch.pointwise import Activation, BatchNorm
from cnncli.arch.window import Window


class Explanation(NamedTuple):
    """The lines of one layer, in order: (what the line is about, the arithmetic)."""

    name: str
    operation: str
    lines: tuple[tuple[str, str], ...]


def explain(row: Row) -> Explanation:
    """The arithmetic behind a row; no lines for a row that stands for several layers, or that only keeps its shape."""
    part = row.part
    lines: list[tuple[str, str]] = []
    if isinstance(part, Conv):
        lines += [*_sizes(row), ("weights", _conv_weights(part, row.inputs[0])), ("cost", _conv_cost(part, row))]
    elif isinstance(part, Pool):
        lines += _sizes(row)
    elif isinstance(part, AdaptivePool):
        lines.append(("size", f"{size_text_of(row.inputs[0][1:])} to {size_text(part.size)}: {_adaptive_window(row)}"))
    elif isinstance(part, Linear) and len(row.inputs[0]) == 1:
        lines += [("weights", _linear_weights(part, row)), ("cost", f"{row.inputs[0][0]}*{part.features} = {row.macs:,} MACs")]
    elif isinstance(part, BatchNorm) and row.params:
        lines.append(("weights", f"2*{row.inputs[0][0]} = {row.params:,}: a scale and a shift for each channel"))
    elif isinstance(part, Flatten) and len(row.inputs[0]) > 1:
        lines.append(("size", f"{'*'.join(map(str, row.inputs[0]))} = {row.output[0]}"))
    elif isinstance(part, SubsamplePad):
        lines.append(("size", f"every {_ordinal(part.stride)} pixel, {part.filters - row.inputs[0][0]} channels of zeros added"))
    elif isinstance(part, Concatenate):
        lines.append(("size", f"{' + '.join(str(shape[0]) for shape in row.inputs)} = {row.output[0]} channels"))
    elif isinstance(part, Add):
        lines.append(("size", f"{len(row.inputs)} inputs of {size_text_of(row.output)}, unit by unit"))
    if isinstance(part, Layer) and (windows := part.windows(row.inputs[0])) and part.strides(row.inputs[0]) is None:
        lines += _fields(row, windows)
    return Explanation(row.name, row.operation, tuple(lines))


def size_text_of(shape: Sequence[int]) -> str:
    """`96x55x55`."""
    return "x".join(map(str, shape))


def _sizes(row: Row) -> list[tuple[str, str]]:
    assert isinstance(row.part, Conv | Pool)
    _, height, width = row.inputs[0]
    down, across = row.part.windows(row.inputs[0])
    if (height, down) == (width, across):
        lines = [("size", size_arithmetic(height, down))]
    else:
        lines = [("height", size_arithmetic(height, down)), ("width", size_arithmetic(width, across))]
    for misfit in misfits(row):
        fixes = remedy(misfit)
        lines.append(("misfit", f"{consequence(misfit)}{'; ' + fixes if fixes else ''}"))
    return lines


def _conv_weights(part: Conv, shape: Sequence[int]) -> str:
    height, width = pair(part.kernel)
    channels = shape[0] // part.groups
    formula = f"{height}*{width}*{channels}*{part.filters}" + (f" + {part.filters}" if part.bias else "")
    total = height * width * channels * part.filters + (part.filters if part.bias else 0)
    note = f": each filter sees {shape[0]}/{part.groups} = {channels} channel{'s' if channels > 1 else ''}" if part.groups > 1 else ""
    return f"{formula} = {total:,}{note}"


def _conv_cost(part: Conv, row: Row) -> str:
    _, height, width = row.output
    kernel_height, kernel_width = pair(part.kernel)
    channels = row.inputs[0][0] // part.groups
    return f"{height}*{width}*{part.filters} outputs * {kernel_height}*{kernel_width}*{channels} = {row.macs:,} MACs"


def _linear_weights(part: Linear, row: Row) -> str:
    bias = f" + {part.features}" if part.bias else ""
    return f"{row.inputs[0][0]}*{part.features}{bias} = {row.params:,}"


def _adaptive_window(row: Row) -> str:
    assert isinstance(row.part, AdaptivePool)
    windows = row.part.windows(row.inputs[0])
    many = "" if pair(row.part.size) == (1, 1) else "at most " if row.part.strides(row.inputs[0]) else ""
    return f"each output looks at {many}{windows[0].kernel}x{windows[1].kernel} inputs"


def _fields(row: Row, windows: tuple[Window, Window]) -> list[tuple[str, str]]:
    """The receptive field's step, from what came out of it: r = r' - (F - 1)*j with j = j'/S."""
    if row.field is None:
        return []
    axes = list(zip(("field height", "field width"), (row.field.height, row.field.width), windows, strict=True))
    if axes[0][1:] == axes[1][1:]:
        axes = [("field", *axes[0][1:])]
    lines = []
    for name, axis, window in axes:
        jump = axis.jump / window.stride
        before = axis.size - (window.span - 1) * jump
        start = axis.start - ((window.span - 1) / 2 - window.padding) * jump
        kernel = str(window.kernel) if window.dilation == 1 else f"({window.dilation}*({window.kernel} - 1) + 1)"
        line = f"{decimal(before)} + ({kernel} - 1)*{decimal(jump)} = {axis.size} input pixels"
        if window.stride > 1:
            line += f", jump {decimal(jump)}*{window.stride} = {decimal(axis.jump)}"
        padding = f"- {window.padding}" if window.padding >= 0 else f"+ {-window.padding}"  # a shift pads less than nothing
        centre = f"{decimal(start)} + (({kernel} - 1)/2 {padding})*{decimal(jump)} = {decimal(axis.start)}"
        lines.append((name, f"{line}, first centre {centre}"))
    return lines


def _ordinal(number: int) -> str:
    return {1: "", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


class Stack(NamedTuple):
    """Convolutions in series, and the one convolution that sees as much.

    kernel: side of that one. weights, single: their weights without biases. activations: activation functions between and behind them;
    behind: those behind the last alone, which the one convolution would have, too.
    """

    names: tuple[str, ...]
    side: int
    kernel: int
    weights: int
    single: int
    activations: int
    behind: int


def stacks(rows: Sequence[Row]) -> tuple[Stack, ...]:
    """Runs of two or more square convolutions of one size and stride 1 with nothing but pointwise layers between them.

    VGG's argument (Simonyan & Zisserman 2014, section 2.3): three 3x3 convolutions see 7x7 with 27 C^2 weights in the place
    of 49 C^2, and with three rectifiers in the place of one.
    """
    found: list[Stack] = []
    run: list[Row] = []
    between = behind = 0
    for row in (*rows, None):
        if row is not None and run and _continues(run[0], run[-1], row):
            run.append(row)
            between, behind = between + behind, 0
            continue
        if row is not None and run and _pointwise(row):
            behind += isinstance(row.part, Activation)
            continue
        if len(run) > 1:
            found.append(_stack(run, between, behind))
        run, between, behind = ([row] if row is not None and _stackable(row) else []), 0, 0
    return tuple(found)


def _stackable(row: Row) -> bool:
    part = row.part
    if not isinstance(part, Conv) or part.groups > 1:
        return False
    height, width = pair(part.kernel)
    return height == width > 1 and pair(part.stride) == (1, 1) and pair(part.dilation) == (1, 1)


def _continues(first: Row, last: Row, row: Row) -> bool:
    if not _stackable(row) or row.inputs[0] != last.output or row.name.split(".")[:-1] != first.name.split(".")[:-1]:
        return False
    assert isinstance(row.part, Conv)
    assert isinstance(first.part, Conv)
    return pair(row.part.kernel) == pair(first.part.kernel)


def _pointwise(row: Row) -> bool:
    return isinstance(row.part, Layer) and row.output == row.inputs[0] and row.part.windows(row.inputs[0]) is None


def _stack(run: list[Row], between: int, behind: int) -> Stack:
    first = run[0].part
    assert isinstance(first, Conv)
    side = pair(first.kernel)[0]
    kernel = len(run) * (side - 1) + 1
    weights = sum(side * side * row.inputs[0][0] * row.output[0] for row in run)
    single = kernel * kernel * run[0].inputs[0][0] * run[-1].output[0]
    return Stack(tuple(row.name for row in run), side, kernel, weights, single, between + behind, behind)


class Equivalent(NamedTuple):
    """A convolution and the fully connected layer that would compute the same outputs from the same inputs.

    weights: of the convolution, biases left out. connected: one weight for every pair of an input and an output.
    """

    row: Row
    weights: int
    connected: int


def equivalents(rows: Sequence[Row]) -> tuple[Equivalent, ...]:
    """Every convolution beside its fully connected equivalent: the lecture's 43.7e9 for AlexNet's first layer at 224 with pad 2."""
    return tuple(
        Equivalent(row, row.part.params(row.inputs[0]) - (row.part.filters if row.part.bias else 0), prod(row.inputs[0]) * prod(row.output))
        for row in rows
        if isinstance(row.part, Conv)
    )
