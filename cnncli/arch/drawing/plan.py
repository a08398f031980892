"""What a drawing of a net is made of: boxes of one or a few layers, branches that meet again, frames around what repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from cnncli.arch.layers import Shape
from cnncli.arch.net import Net, Row

Kind = Literal["conv", "depthwise", "pool", "fc", "norm", "activation", "add", "concat", "block", "cell", "other"]


@dataclass(frozen=True)
class Box:
    """One or several layers drawn as one box.

    path: the row (or block) that it is named after. label: `3x3 conv, 64, /2`. kind: its colour. before and after:
    what runs in the same box before and after the layer it is named after, ("BN", "ReLU"). rows: all that it stands for,
    those of repeated blocks included; none for an identity.
    """

    path: str
    label: str
    kind: Kind
    rows: tuple[Row, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Items one after the other. An empty one passes its input on: an identity shortcut."""

    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Parallel:
    """Branches from one point, in the order in which the merge reads them, and the merge in which they meet."""

    branches: tuple[Series, ...]
    merge: Box


@dataclass(frozen=True)
class Frame:
    """What is drawn once and stands `times` times in a row. path: of the first of them. name: of all, `block2-18`."""

    path: str
    name: str
    item: Series
    times: int = 1


class Node(NamedTuple):
    """A node of a `Wiring`. reads: names of nodes or sources; one name twice where two outputs of a fold are read."""

    name: str
    item: Item
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Wiring:
    """Nodes that are neither a series nor branches that meet again. Its output is the last node's."""

    sources: tuple[str, ...]
    nodes: tuple[Node, ...]


Item = Box | Series | Parallel | Frame | Wiring


class Panel(NamedTuple):
    """The inside of a cell that the main drawing shows as a box.

    cells: the paths of the cells that look like it, first that of which the wiring is. notes: where some of them differ, in words.
    """

    title: str
    cells: tuple[str, ...]
    wiring: Wiring
    notes: tuple[str, ...] = ()


class Drawing(NamedTuple):
    """A net, its main flow, and the cells drawn beside it."""

    net: Net
    main: Series
    panels: tuple[Panel, ...]


def boxes(item: Item) -> Iterator[Box]:
    """The boxes of an item, in the order in which they run."""
    match item:
        case Box():
            yield item
        case Series():
            yield from chain.from_iterable(map(boxes, item.items))
        case Parallel():
            yield from chain.from_iterable(map(boxes, item.branches))
            yield item.merge
        case Frame():
            yield from boxes(item.item)
        case Wiring():
            yield from chain.from_iterable(boxes(node.item) for node in item.nodes)


def output(item: Item) -> Shape | None:
    """The shape that leaves an item; None for one without layers."""
    with_rows = [box for box in boxes(item) if box.rows]
    return with_rows[-1].rows[-1].output if with_rows else None
