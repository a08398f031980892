"""Nets with another rate of dropout, or with stochastic depth. Both add no parameters and rename nothing: weights fit as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, count

from cnncli.arch.blocks import Chain, Concat, Dense, Graph, Part, Residual
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Dropout, DropPath
from cnncli.errors import UsageError

STEP = "drop_path"  # the name of the step that drops a residual block's body


def with_dropout(net: Net, rate: float) -> Net:
    """The net, each of its dropout layers with probability `rate`, 0..1. UsageError when it has none."""
    found = 0

    def change(part: Part) -> Part:
        nonlocal found
        if not isinstance(part, Dropout):
            return part
        found += 1
        return Dropout(rate)

    changed = replace(net, root=mapped(net.root, change))
    if not found:
        raise UsageError(f"{net.name} has no dropout layer", "leave --dropout out", path="--dropout")
    return changed


def with_stochastic_depth(net: Net, rate: float) -> Net:
    """The net, the body of its l-th of L residual blocks dropped with probability l/L * rate (Huang et al. 2016, equation 4).

    rate: 0..1, that of the last block; the first has rate/L, as in the paper, where 0 belongs to the input. Blocks are counted as
    they end when the net runs, an inner one thus before the one that it is in. Layers that drop paths in a chain are taken out first,
    so a rate of 0 removes them. UsageError when the net has no residual block.
    """
    blocks = _residual_blocks(net.root)
    if not blocks:
        raise UsageError(f"{net.name} has no residual block", "leave --stochastic-depth out", path="--stochastic-depth")
    numbers = count(1)

    def change(part: Part) -> Part:
        if isinstance(part, Chain):
            return Chain(tuple((name, inner) for name, inner in part.parts if not isinstance(inner, DropPath)))
        if isinstance(part, Residual):
            number = next(numbers)
            return _dropped(part, number * rate / blocks) if rate else part
        return part

    return replace(net, root=mapped(net.root, change))


def _dropped(block: Residual, rate: float) -> Residual:
    names = {step.name for step in block.steps()}
    name = next(name for name in chain((STEP,), (f"{STEP}{number}" for number in count(2))) if name not in names)
    return replace(block, body=Chain((*block.body.parts, (name, DropPath(rate)))))


def _residual_blocks(root: Part) -> int:
    found = 0

    def look(part: Part) -> Part:
        nonlocal found
        found += isinstance(part, Residual)
        return part

    mapped(root, look)
    return found


def mapped(part: Part, change: Callable[[Part], Part]) -> Part:
    """`part` with `change` applied to everything in it, in the order in which it runs, and then to itself."""
    if isinstance(part, Chain):
        part = Chain(tuple((name, mapped(inner, change)) for name, inner in part.parts))
    elif isinstance(part, Residual):
        body = mapped(part.body, change)
        assert isinstance(body, Chain)
        part = replace(part, body=body, shortcut=None if part.shortcut is None else mapped(part.shortcut, change))
    elif isinstance(part, Concat):
        part = Concat(tuple((name, mapped(inner, change)) for name, inner in part.branches))
    elif isinstance(part, Dense):
        part = Dense(tuple((name, mapped(inner, change)) for name, inner in part.layers))
    elif isinstance(part, Graph):
        part = replace(part, nodes=tuple((name, mapped(inner, change), reads) for name, inner, reads in part.nodes))
    return change(part)
