"""Whether a net that was made of labels fits its input; if not, which label does not, and from which size on it would.

`walk` answers the same for any net. Here an answer names the place in the text, and takes two passes over the net instead
of thirty, so that ten thousand layers are refused in a blink.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnncli.arch.blocks import Block, Chain, Merge, Part, Residual
from cnncli.arch.checks import LARGEST_NUMBER
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool, Shape, ShapeError, SubsamplePad
from cnncli.arch.net import Net
from cnncli.arch.notation.labels import Label
from cnncli.arch.notation.tree import Braces
from cnncli.arch.window import Window
from cnncli.errors import printable

SIDES_TRIED = 8  # inputs from the smallest that could fit: branches with strides may meet only at even sizes

Places = Mapping[tuple[int, str], Label | Braces]  # (id of a block, name of its step): what it was made of


def check(net: Net, places: Places) -> Shape:
    """The net's output. ShapeError that names the layer, its label and the smallest square input that would fit."""
    try:
        return _Outputs(places).of(net.root, (net.input,), None)
    except ShapeError as error:
        if not error.too_small:
            raise
        side = smallest_side(net)
        size = f"{net.input[0]}x{side}x{side}"
        hint = f"the smallest input that fits is {size}: --input {size}" if side else "no square input of a sensible size fits it"
        raise ShapeError(error.message, hint, too_small=True) from None


class _Outputs:
    """Outputs of parts. `row` is the row of the table of `cnn shape` where the layer stands that was asked last."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.row = 0

    def of(self, part: Part, inputs: tuple[Shape, ...], origin: Label | Braces | None) -> Shape:
        """The output of a part that was made of `origin`."""
        if not isinstance(part, Block):
            self.row += 1
            try:
                return part.output(inputs) if isinstance(part, Merge) else part.output(inputs[0])
            except ShapeError as error:
                where = f"layer {self.row}" + (f", {place_of(origin)}" if origin else "")
                raise ShapeError(f"notation: {where}: {error.message}", error.hint, too_small=error.too_small) from None
        shapes = dict(zip(part.sources, inputs, strict=True))
        output = inputs[0]
        for step in part.steps():
            read = tuple([shapes[name] for name in step.inputs])
            output = shapes[step.name] = self.of(step.part, read, self.places.get((id(part), step.name), origin))
        return output


def place_of(item: Label | Braces) -> str:
    """`"conv5-16/s2" at character 23`."""
    label = item.place if isinstance(item, Braces) else item
    text = printable(" ".join(label.text.split()))
    return f'"{text if len(text) <= 40 else text[:37] + "..."}" at character {label.start + 1}'


def smallest_side(net: Net) -> int | None:
    """The side of the smallest square input that fits; None where branches do not meet at the first few sizes, or none is allowed."""
    least = max(_needed(net.root, (1, 1)))
    if least > LARGEST_NUMBER:  # many strides: a number of a thousand digits helps nobody
        return None
    for side in range(least, least + SIDES_TRIED):
        try:
            _Outputs({}).of(net.root, ((net.input[0], side, side),), None)
        except ShapeError:
            continue
        return side
    return None


def _needed(part: Part, output: tuple[int, int]) -> tuple[int, int]:
    """The smallest (height, width) of an input from which a part makes an output of at least this size."""
    if isinstance(part, Chain):
        for _, inner in reversed(part.parts):
            output = _needed(inner, output)
        return output
    if isinstance(part, Block):
        branches = [part.body, part.shortcut or Chain()] if isinstance(part, Residual) else [step.part for step in part.steps()]
        sizes = [_needed(branch, output) for branch in branches]
        return max(height for height, _ in sizes), max(width for _, width in sizes)
    if isinstance(part, Conv | Pool | SubsamplePad):
        height, width = part.windows((1, 1, 1))
        return smallest_input(height, output[0]), smallest_input(width, output[1])
    return (1, 1) if isinstance(part, AdaptivePool | Flatten | Linear) else output


def smallest_input(window: Window, size: int) -> int:
    """The smallest N along one axis with (N - F + 2P)/S + 1 of at least `size`, rounded as the window rounds."""
    first_to_last = (size - 1) * window.stride
    least = max(1, first_to_last + window.span - 2 * window.padding)
    if not window.ceil:
        return least
    # Rounded up, the last window may reach past the end, but starts before the right padding.
    return max(1, least - (window.stride - 1), first_to_last - window.padding + 1)
