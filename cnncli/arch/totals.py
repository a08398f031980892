"""The totals of a net without its rows: each part is asked once per input shape, however often and deep it repeats.

`totals(walk(net), net.input)` gives the same numbers in time that grows with the rows, 4,208 of them in resnet1202; here a
repeated block costs one addition, which is what makes a list of the whole zoo quick.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from cnncli.arch.blocks import Block, Merge, Part
from cnncli.arch.layers import Layer, Shape
from cnncli.arch.net import Net, Totals

UNREACHED = -(10**12)  # the length of a path that does not exist: stays negative whatever is added, so that max() passes it over


class _Sums(NamedTuple):
    """A part for inputs of given shapes.

    through: layers with multiply-adds on the longest path from each input to the output. deepest: the same from each
    input to any layer inside, since a branch that the output does not read may be the longest.
    """

    output: Shape
    params: int
    macs: int
    memory: int
    through: tuple[int, ...]
    deepest: tuple[int, ...]


def totals_of(net: Net) -> Totals:
    """The totals of a net for one image; ShapeError when the net does not take its input (`walk` names the layer)."""
    sums = _Adder().part(net.root, (net.input,))
    return Totals(params=sums.params, macs=sums.macs, activations=prod(net.input) + sums.memory, depth=max(0, *sums.deepest))


class _Adder:
    """Remembers what each part came to. A part and the steps made of it live as long as this, so that their ids stay theirs."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, tuple[Shape, ...]], _Sums] = {}
        self.kept: list[object] = []

    def part(self, part: Part, shapes: tuple[Shape, ...]) -> _Sums:
        sums = self.known.get((id(part), shapes))
        if sums is None:
            sums = self.known[id(part), shapes] = self.block(part, shapes) if isinstance(part, Block) else _layer(part, shapes)
        return sums

    def block(self, block: Block, shapes: tuple[Shape, ...]) -> _Sums:
        steps = block.steps()
        self.kept.append(steps)
        count = range(len(shapes))
        outputs = dict(zip(block.sources, shapes, strict=True))
        # For each step, the longest path from each input of the block to it.
        paths = {source: tuple(0 if i == k else UNREACHED for i in count) for k, source in enumerate(block.sources)}
        output, through, deepest = shapes[0], paths[block.sources[0]], tuple(0 for _ in count)
        params = macs = memory = 0
        for name, inner, sources in steps:
            sums = self.part(inner, tuple([outputs[source] for source in sources]))
            before = [paths[source] for source in sources]
            output = outputs[name] = sums.output
            through = paths[name] = _longest(before, sums.through)
            deepest = tuple(map(max, deepest, _longest(before, sums.deepest)))
            params, macs, memory = params + sums.params, macs + sums.macs, memory + sums.memory
        return _Sums(output, params, macs, memory, through, deepest)


def _longest(before: list[tuple[int, ...]], lengths: tuple[int, ...]) -> tuple[int, ...]:
    """From each input of a block, the longest path to what its step reads and on through the step."""
    return tuple([max([path + length for path, length in zip(paths, lengths, strict=True)]) for paths in zip(*before, strict=True)])


def _layer(part: Layer | Merge, shapes: tuple[Shape, ...]) -> _Sums:
    if isinstance(part, Merge):
        output = part.output(shapes)
        none = (0,) * len(shapes)
        return _Sums(output, 0, 0, prod(output), none, none)
    (shape,) = shapes
    output, macs = part.output(shape), part.macs(shape)
    weighted = (int(macs > 0),)
    return _Sums(output, part.params(shape), macs, 0 if part.shares_memory else prod(output), weighted, weighted)
