"""A net: its parts, its input, its classes. `walk` derives the facts of every layer from the parts alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from cnncli.arch.blocks import Block, Merge, Part, Step
from cnncli.arch.layers import Layer, Shape, ShapeError
from cnncli.arch.receptive import Field, union
from cnncli.arch.window import Window

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
    numbers. macs: multiply-adds for one image. field: what one unit sees of the input; None where that is not known
    (attention and other operations of traced models). memory: numbers that it must store for one image; 0 where it
    overwrites or reinterprets its input. depth: layers with multiply-adds on the longest path up to here, this one
    included. part and inputs: the layer and the shapes that it reads; None and () where several layers are folded into
    the row, or where a traced operation is no layer of ours.
    """

    name: str
    operation: str
    output: Shape
    params: int
    macs: int
    field: Field | None
    memory: int
    depth: int = 0
    part: Layer | Merge | None = None
    inputs: tuple[Shape, ...] = ()

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """Height and width, in input pixels, of what one unit sees."""
        return None if self.field is None else (self.field.height.size, self.field.width.size)

    @property
    def jump(self) -> tuple[int | float, int | float] | None:
        """Distance, in input pixels, between neighbouring units: down and across."""
        return None if self.field is None else (self.field.height.jump, self.field.width.jump)

    @property
    def start(self) -> tuple[float, float] | None:
        """Centre of the first unit's field, in input pixels from the centre of the first one; padding moves it below 0."""
        return None if self.field is None else (self.field.height.start, self.field.width.start)


class Totals(NamedTuple):
    """Sums over a net, for one image, and its depth: layers with multiply-adds on its longest path. Bytes are for float32."""

    params: int
    macs: int
    activations: int
    depth: int

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
    walker = _Walker()
    walker.visit(root, "", (_Signal(shape, Field(), 0),))
    return tuple(walker.rows)


class _Signal(NamedTuple):
    """What flows between parts: a shape, what a unit of it sees, and how many layers lie behind it."""

    shape: Shape
    field: Field
    depth: int


class _Facts(NamedTuple):
    """What a layer says of itself for inputs of given shapes; the same wherever in the net it stands."""

    operation: str
    output: Shape
    params: int
    macs: int
    memory: int
    windows: tuple[Window, Window] | None
    strides: tuple[float, float] | None


class _Walker:
    """Visits parts in the order in which they run, and writes the rows.

    Deep nets repeat a few parts hundreds of times (the same objects, where the zoo builds them): each is asked once per
    input shape. The parts live as long as the walk, so that their ids stay theirs.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.facts: dict[tuple[int, tuple[Shape, ...]], _Facts] = {}
        self.steps: dict[int, tuple[Step, ...]] = {}

    def visit(self, part: Part, path: str, inputs: tuple[_Signal, ...]) -> _Signal:
        if not isinstance(part, Block):
            return self.layer(part, path, inputs)
        signals = dict(zip(part.sources, inputs, strict=True))
        out = inputs[0]
        steps = self.steps.get(id(part)) or self.steps.setdefault(id(part), part.steps())
        prefix = f"{path}." if path else ""
        for name, inner, sources in steps:
            out = signals[name] = self.visit(inner, prefix + name, tuple([signals[source] for source in sources]))
        return out

    def layer(self, part: Layer | Merge, path: str, inputs: tuple[_Signal, ...]) -> _Signal:
        shapes = tuple([signal.shape for signal in inputs])
        facts = self.facts.get((id(part), shapes))
        if facts is None:
            try:
                facts = self.facts[id(part), shapes] = _ask(part, shapes)
            except ShapeError as error:
                raise ShapeError(f"layer {path}: {error.message}", error.hint, too_small=error.too_small) from None
        field = inputs[0].field if len(inputs) == 1 else union([signal.field for signal in inputs])
        if facts.windows is not None:
            field = field.through(facts.windows, facts.strides)
        depth = max([signal.depth for signal in inputs]) + (facts.macs > 0)
        self.rows.append(Row(path, facts.operation, facts.output, facts.params, facts.macs, field, facts.memory, depth, part, shapes))
        return _Signal(facts.output, field, depth)


def _ask(part: Layer | Merge, shapes: tuple[Shape, ...]) -> _Facts:
    if isinstance(part, Merge):
        output = part.output(shapes)
        return _Facts(part.operation(), output, 0, 0, prod(output), None, None)
    (shape,) = shapes
    output = part.output(shape)
    memory = 0 if part.shares_memory else prod(output)
    return _Facts(part.operation(), output, part.params(shape), part.macs(shape), memory, part.windows(shape), part.strides(shape))


def totals(rows: Iterable[Row], input_shape: Shape) -> Totals:
    """The sums over `rows` (folded or not) of a net with this input."""
    rows = tuple(rows)
    return Totals(
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        activations=prod(input_shape) + sum(row.memory for row in rows),
        depth=max((row.depth for row in rows), default=0),
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
