"""Fewer rows: blocks summed into one row each, and runs of equal blocks into one row for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from cnncli.arch.net import Row
from cnncli.arch.pointwise import DropPath
from cnncli.errors import UsageError

_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.ASCII)


def fold(rows: Iterable[Row], depth: int) -> tuple[Row, ...]:
    """Rows with at most `depth` names in their path: deeper ones are summed into the block they belong to.

    A folded row has the output and the field of its block's last layer, and says how many layers it stands for.
    """
    if depth < 1:
        raise UsageError(f"--depth {depth} should be 1 or more", path="--depth")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
    return tuple(_sum(name, group) for name, group in groups.items())


def fold_repeats(rows: Iterable[Row], depth: int) -> tuple[Row, ...]:
    """As `fold`, and neighbouring blocks that are equal in every layer become one row, named `block2-18`."""
    if depth < 1:
        raise UsageError(f"--depth {depth} should be 1 or more", path="--depth")
    return tuple(_fold_siblings([(row.name.split("."), row) for row in rows], 0, depth))


_Named = tuple[list[str], Row]


def _fold_siblings(rows: list[_Named], level: int, depth: int) -> list[Row]:
    folded: list[Row] = []
    siblings = [(name, list(group)) for name, group in groupby(rows, key=lambda named: named[0][level])]
    for _, run in groupby(siblings, key=lambda sibling: _structure(sibling[1], level)):
        same = list(run)
        prefix = ".".join([*same[0][1][0][0][:level], ""])
        if len(same) > 1:
            everything = [row for _, group in same for _, row in group]
            name = prefix + _range_text(same[0][0], same[-1][0])
            folded.append(_sum(name, everything)._replace(operation=f"{len(same)} x {len(same[0][1])} layers"))
        elif level + 1 < depth and len(same[0][1][0][0]) > level + 1:
            folded += _fold_siblings(same[0][1], level + 1, depth)
        else:
            folded.append(_sum(prefix + same[0][0], [row for _, row in same[0][1]]))
    return folded


def _structure(group: list[_Named], level: int) -> object:
    """Equal for blocks that are equal in every layer, whatever their rates of stochastic depth. A single layer equals nothing."""
    if len(group) == 1 and len(group[0][0]) == level + 1:
        return group[0][0]
    return [(names[level + 1 :], _operation(row), row.output, row.params, row.macs) for names, row in group]


def _operation(row: Row) -> str:
    return "drop path" if isinstance(row.part, DropPath) else row.operation


def _range_text(first: str, last: str) -> str:
    """`block2-18` for block2 and block18; both names where they differ in more than a number."""
    one, other = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    if one and other and one[1] == other[1]:
        return f"{one[1]}{one[2]}-{other[2]}"
    return f"{first}-{last}"


def _sum(name: str, group: Sequence[Row]) -> Row:
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
        depth=max(row.depth for row in group),
    )
