"""Genotypes: what an architecture search writes.

A cell reads the outputs of the two cells before it, `before` and `last`. Each of its nodes is the sum of two earlier states,
each behind an operation; its output concatenates some of the states. A genotype is two cells: one keeps the size of the
image, one halves it (Zoph et al. 2017, "Learning transferable architectures for scalable image recognition", section 3.1).

A genotype prints as text, and `cell` reads the lines of that text:

    node1 = sep3x3(before) + skip(last)
    node2 = max3x3(node1) + sep5x5(last)
    output = node2
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from cnncli.arch.checks import check_choice
from cnncli.arch.operations import OPERATIONS
from cnncli.errors import UsageError

BEFORE, LAST = "before", "last"
_NODE = re.compile(r"(\w+)\((\w+)\) \+ (\w+)\((\w+)\)", re.ASCII)


class Edge(NamedTuple):
    """An operation (a key of OPERATIONS) on a state: `before`, `last`, or an earlier node, `node1`, `node2`, ..."""

    operation: str
    state: str

    def __str__(self) -> str:
        return f"{self.operation}({self.state})"


class Node(NamedTuple):
    """A hidden state: the sum of two edges."""

    left: Edge
    right: Edge

    def __str__(self) -> str:
        return f"{self.left} + {self.right}"


@dataclass(frozen=True)
class Cell:
    """Nodes, each of which reads states before it, and the states that the output concatenates, in this order."""

    nodes: tuple[Node, ...]
    output: tuple[str, ...]

    def __post_init__(self) -> None:
        for number, node in enumerate(self.nodes, start=1):
            for edge in node:
                check_choice(f"node{number}", "operation", edge.operation, tuple(OPERATIONS))
                check_choice(f"node{number}", "state", edge.state, readable(number))
        for state in self.output:
            check_choice("cell", "output", state, readable(len(self.nodes) + 1))
        if not self.output or len(set(self.output)) < len(self.output):
            raise UsageError(f"cell: output={' '.join(self.output)!r} should name states, each once")

    def __str__(self) -> str:
        lines = [f"node{number} = {node}" for number, node in enumerate(self.nodes, start=1)]
        return "\n".join([*lines, f"output = {' '.join(self.output)}"])


@dataclass(frozen=True)
class Genotype:
    """The cell that keeps the size of the image and the cell that halves it."""

    normal: Cell
    reduce: Cell

    def __str__(self) -> str:
        return f"normal cell\n{self.normal}\nreduction cell\n{self.reduce}"


def readable(number: int) -> tuple[str, ...]:
    """The states that node `number` (from 1) may read."""
    return (BEFORE, LAST, *(f"node{earlier}" for earlier in range(1, number)))


def cell(*nodes: str, output: str = "") -> Cell:
    """A cell from the lines that it prints, without `node1 = ` in front. UsageError naming the line for anything else.

    Without `output` it is every node that no other node reads (Zoph et al. 2017, section 3.1).
    """
    read: list[Node] = []
    for number, line in enumerate(nodes, start=1):
        match = _NODE.fullmatch(line)
        if match is None:
            raise UsageError(f"node{number}: {line!r} should read like `sep3x3(before) + skip(last)`")
        read.append(Node(Edge(match[1], match[2]), Edge(match[3], match[4])))
    used = {edge.state for node in read for edge in node}
    unread = tuple(state for state in readable(len(read) + 1)[2:] if state not in used)
    return Cell(tuple(read), tuple(output.split()) or unread)
