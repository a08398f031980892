"""Nets of cells: a genotype, the conventions of its authors' code, a stem and a number of cells make a graph.

Drop-path and auxiliary heads belong to training, not to the net, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cnncli.arch.blocks import INPUT, Add, Concatenate, Graph, Part
from cnncli.arch.checks import check_number
from cnncli.arch.genotype import BEFORE, LAST, Cell, Genotype
from cnncli.arch.layers import AdaptivePool, Flatten, Linear
from cnncli.arch.operations import OPERATIONS, RELU, REMEMBERED, Conventions, factorized_reduction, fit, projection
from cnncli.arch.pointwise import Dropout

Nodes = list[tuple[str, Part, tuple[str, ...]]]


class State(NamedTuple):
    """An output that cells read: the name of a part of the net, its channels, and how often the image was halved."""

    name: str
    channels: int
    halvings: int


@dataclass(frozen=True)
class Stem:
    """What stands before the cells: named parts in series, and the two states that the first cell reads."""

    parts: tuple[tuple[str, Part], ...]
    before: State
    last: State


def cell_net(
    genotype: Genotype,
    conventions: Conventions,
    stem: Stem,
    *,
    filters: int,
    cells: int,
    classes: int,
    stem_cells: int = 0,
    dropout: float = 0,
    past_reduction: bool = False,
) -> Graph:
    """A net of `cells` cells and a classifier, with two reduction cells among them and `stem_cells` more before them.

    filters: of each node in the first cells after the stem's. dropout: its probability before the classifier.
    past_reduction: the cell behind a reduction cell reads, as its `before`, what the reduction cell reads as its own
    `before`, and not what was reduced.
    """
    check_number("net of cells", "cells", cells, least=3)
    check_number("net of cells", "filters", filters, least=2 * 2**stem_cells)
    nodes: Nodes = []
    for name, part in stem.parts:
        nodes.append((name, part, (nodes[-1][0] if nodes else INPUT,)))
    states = [stem.before, stem.last]
    places = _places(cells, filters, stem_cells)
    for number, place in enumerate(places):
        goes_past = past_reduction and number > stem_cells and places[number - 1].reduces
        before, last = states[-3 if goes_past else -2], states[-1]
        plan = genotype.reduce if place.reduces else genotype.normal
        graph = build_cell(
            plan,
            conventions,
            filters=place.filters,
            stride=2 if place.reduces else 1,
            larger=before.halvings < last.halvings,
            raw_before=before.channels if conventions.raw_start and number == 0 else 0,
        )
        nodes.append((place.name, graph, (before.name, last.name)))
        states.append(State(place.name, place.filters * len(plan.output), last.halvings + place.reduces))
    for name, part in _head(classes, dropout, conventions):
        nodes.append((name, part, (nodes[-1][0],)))
    return Graph(tuple(nodes))


class _Place(NamedTuple):
    """Where a cell stands in a net."""

    name: str
    filters: int
    reduces: bool


def _places(cells: int, filters: int, stem_cells: int) -> list[_Place]:
    """Reduction cells stand at a third and at two thirds, and double the filters; the stem's cells all reduce."""
    places = [_Place(f"stem_cell{number + 1}", filters // 2 ** (stem_cells - number), reduces=True) for number in range(stem_cells)]
    for number in range(cells):
        reduces = number in (cells // 3, 2 * cells // 3)
        filters *= 2 if reduces else 1
        places.append(_Place(f"cell{number + 1}", filters, reduces))
    return places


def _head(classes: int, dropout: float, conventions: Conventions) -> tuple[tuple[str, Part], ...]:
    relu: tuple[tuple[str, Part], ...] = (("relu", RELU),) if conventions.final_relu else ()
    drop: tuple[tuple[str, Part], ...] = (("drop", Dropout(dropout)),) if dropout else ()
    return (*relu, ("pool", AdaptivePool("average")), ("flatten", Flatten()), *drop, ("fc", Linear(classes)))


@lru_cache(REMEMBERED)
def build_cell(plan: Cell, conventions: Conventions, *, filters: int, stride: int, larger: bool, raw_before: int = 0) -> Graph:
    """The cell as a graph with the inputs `before` and `last`; equal arguments give the same object.

    filters: of each node. larger: `before` is twice as large as `last`. raw_before: the channels of `before` where it is read as
    it is; 0 where it is projected to `filters`.
    """
    nodes: Nodes = []
    holders, channels = {BEFORE: BEFORE}, {BEFORE: raw_before}  # state: the part that holds it, and its channels
    if not raw_before:
        project = factorized_reduction(filters, conventions) if larger else projection(filters, 1, conventions)
        nodes.append(("project_before", project, (BEFORE,)))
        holders[BEFORE], channels[BEFORE] = "project_before", filters
    nodes.append(("project_last", projection(filters, 1, conventions), (LAST,)))
    holders[LAST], channels[LAST] = "project_last", filters
    for number, node in enumerate(plan.nodes, start=1):
        name = f"node{number}"
        left, right = (_Use(edge.operation, channels[edge.state], stride if edge.state in (BEFORE, LAST) else 1) for edge in node)
        nodes.append((name, _sum(left, right, filters, conventions), tuple(holders[edge.state] for edge in node)))
        holders[name], channels[name] = name, filters
    for state in (BEFORE, LAST):
        if state in plan.output and (stride > 1 or channels[state] != filters):
            nodes.append((f"fit_{state}", fit(filters, stride, conventions), (holders[state],)))
            holders[state] = f"fit_{state}"
    nodes.append(("concat", Concatenate(), tuple(holders[state] for state in plan.output)))
    return Graph(tuple(nodes), inputs=(BEFORE, LAST))


class _Use(NamedTuple):
    """An operation where it stands: on a state of so many channels, with a stride."""

    operation: str
    channels: int
    stride: int


@lru_cache(REMEMBERED)
def _sum(left: _Use, right: _Use, filters: int, conventions: Conventions) -> Graph:
    """A node: `left` + `right`."""
    nodes: Nodes = []
    summands: list[str] = []
    for side, use in (("left", left), ("right", right)):
        part = OPERATIONS[use.operation](use.channels, filters, use.stride, conventions)
        if part is not None:
            nodes.append((side, part, (f"{side}_input",)))
        summands.append(f"{side}_input" if part is None else side)
    return Graph((*nodes, ("add", Add(), tuple(summands))), inputs=("left_input", "right_input"))
