"""A net: its parts, its input, its classes. `walk` derives the facts of every layer from the parts alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from cnncli.arch.blocks import INPUT, Block, Merge, Part
from cnncli.arch.layers import Layer, Shape, ShapeError
from cnncli.arch.receptive import Field, union
from cnncli.errors import UsageError

BYTES_PER_NUMBER = 4  # float32
LARGEST_SIDE = 2**16  # where the search for an input that fits gives up


@dataclass(frozen=True)
class Net:
    """The description of a network.

    input: (channels, height, width). classes: outputs of the last layer. paper: where it was published.
    """

    name: str
    root: Part
    input: tuple[int, int, int]
    classes: int
    paper: str = ""


class Row(NamedTuple):
    """The facts of one layer.

    name: the path, which is also the path of the torch module. output: (C, H, W) or (features,). params: learnable
    numbers. macs: multiply-adds for one image. field: what one unit sees of the input. memory: numbers that it must
    store for one image; 0 where it overwrites or reinterprets its input.
    """

    name: str
    operation: str
    output: Shape
    params: int
    macs: int
    field: Field
    memory: int

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Height and width, in input pixels, of what one unit sees."""
        return self.field.height.size, self.field.width.size

    @property
    def jump(self) -> tuple[int | float, int | float]:
        """Distance, in input pixels, between neighbouring units: down and across."""
        return self.field.height.jump, self.field.width.jump


class Totals(NamedTuple):
    """Sums over a net, for one image. Bytes are for float32."""

    params: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two."""
        return 2 * self.macs

    @property
    def weight_bytes(self) -> int:
        """Memory of the parameters."""
        return self.params * BYTES_PER_NUMBER

    @property
    def activation_bytes(self) -> int:
        """Memory of the input and of every output that is stored."""
        return self.activations * BYTES_PER_NUMBER


class _Signal(NamedTuple):
    """What flows between parts: a shape, and what a unit of it sees."""

    shape: Shape
    field: Field


def walk(net: Net) -> tuple[Row, ...]:
    """The rows of a net, in the order in which its layers run.

    Raises ShapeError naming the layer that does not fit, and the smallest square input that would.
    """
    try:
        return _rows(net.root, net.input)
    except ShapeError as error:
        if not error.too_small:
            raise
        side = smallest_side(net)
        size = f"{net.input[0]}x{side}x{side}"
        hint = f"the smallest input that fits is {size}: --input {size}" if side else "no square input fits it"
        raise ShapeError(f"{net.name}: {error.message}", hint, too_small=True) from None


def _rows(root: Part, shape: Shape) -> tuple[Row, ...]:
    rows: list[Row] = []
    _visit(root, "", (_Signal(shape, Field()),), rows)
    return tuple(rows)


def _visit(part: Part, path: str, inputs: tuple[_Signal, ...], rows: list[Row]) -> _Signal:
    if isinstance(part, Block):
        signals = {INPUT: inputs[0]}
        out = inputs[0]
        for step in part.steps():
            step_path = f"{path}.{step.name}" if path else step.name
            out = signals[step.name] = _visit(step.part, step_path, tuple(signals[name] for name in step.inputs), rows)
        return out
    try:
        row = _merge_row(part, path, inputs) if isinstance(part, Merge) else _layer_row(part, path, inputs[0])
    except ShapeError as error:
        raise ShapeError(f"layer {path}: {error.message}", error.hint, too_small=error.too_small) from None
    rows.append(row)
    return _Signal(row.output, row.field)


def _layer_row(layer: Layer, path: str, before: _Signal) -> Row:
    output = layer.output(before.shape)
    return Row(
        name=path,
        operation=layer.operation(),
        output=output,
        params=layer.params(before.shape),
        macs=layer.macs(before.shape),
        field=before.field.through(layer.windows(before.shape), layer.strides(before.shape)),
        memory=0 if layer.shares_memory else prod(output),
    )


def _merge_row(merge: Merge, path: str, inputs: tuple[_Signal, ...]) -> Row:
    output = merge.output(tuple(signal.shape for signal in inputs))
    field = union([signal.field for signal in inputs])
    return Row(path, merge.operation(), output, params=0, macs=0, field=field, memory=prod(output))


def totals(rows: Iterable[Row], input_shape: Shape) -> Totals:
    """The sums over `rows` (folded or not) of a net with this input."""
    rows = tuple(rows)
    return Totals(
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        activations=prod(input_shape) + sum(row.memory for row in rows),
    )


def fold(rows: Iterable[Row], depth: int) -> tuple[Row, ...]:
    """Rows with at most `depth` names in their path: deeper ones are summed into the block they belong to.

    A folded row has the output and the field of its block's last layer, and says how many layers it stands for.
    """
    if depth < 1:
        raise UsageError(f"--depth {depth} should be 1 or more")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
    return tuple(_folded(name, group) for name, group in groups.items())


def _folded(name: str, group: list[Row]) -> Row:
    last = group[-1]
    if len(group) == 1 and last.name == name:
        return last
    return Row(
        name=name,
        operation=f"{len(group)} layers" if len(group) > 1 else last.operation,
        output=last.output,
        params=sum(row.params for row in group),
        macs=sum(row.macs for row in group),
        field=last.field,
        memory=sum(row.memory for row in group),
    )


def smallest_side(net: Net) -> int | None:
    """The side of the smallest square input that fits the net, or None when none up to LARGEST_SIDE does."""

    def fits(side: int) -> bool:
        try:
            _rows(net.root, (net.input[0], side, side))
        except ShapeError:
            return False
        return True

    high = 1
    while not fits(high):
        high *= 2
        if high > LARGEST_SIDE:
            return None
    low = high // 2  # does not fit (or is 0); what fits is monotone in the side, as every layer's output is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
