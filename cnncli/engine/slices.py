"""Accuracy by a column: on the images of each camera, year or place on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cnncli.engine.intervals import Interval, wilson

MISSING = "(none)"
MOST = 20


@dataclass(frozen=True)
class Slice:
    """The images with one value of a column: how many, the share that was right in 0..1 with its 95 % interval (Wilson's), and the mean
    loss in nats, where losses were given.
    """

    value: str
    count: int
    top1: float
    interval: Interval
    loss: float | None = None


def by_value(
    values: Sequence[str | None],
    hits: Tensor | Sequence[bool],
    losses: Tensor | Sequence[float] | None = None,
    *,
    order: Literal["count", "value"] = "count",
    most: int | None = MOST,
) -> tuple[Slice, ...]:
    """Accuracy for each value of a column; values, hits (whether the guess is right) and losses are of the same N images in one order.

    order: "count", the most images first, or "value", numbers by their size before other texts by the alphabet. Missing and empty values
    are "(none)". Of more than `most` values (None: any number), those with the most images stand alone, and the others are summed up in a
    last slice, "(7 others)"; a single one that would be left over stands alone too. Each interval is of its own slice alone: of twenty
    slices, one is expected to have its true rate outside.
    """
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        groups.setdefault(value or MISSING, []).append(row)
    right, loss = _listed(hits, len(values)), None if losses is None else _listed(losses, len(values))
    kept = sorted(groups, key=lambda value: (-len(groups[value]), _by_size(value)))
    others: list[str] = []
    if most is not None and len(kept) > most + 1:
        kept, others = kept[:most], kept[most:]
    if order == "value":
        kept.sort(key=_by_size)
    slices = [_slice(value, groups[value], right, loss) for value in kept]
    if others:
        slices.append(_slice(f"({len(others)} others)", [row for value in others for row in groups[value]], right, loss))
    return tuple(slices)


def _listed(given: Tensor | Sequence[float], count: int) -> list[float]:
    """As a list: of single numbers it is much faster than a tensor."""
    listed = given.tolist() if isinstance(given, Tensor) else list(given)
    if len(listed) != count:
        raise ValueError(f"{count} values, {len(listed)} hits or losses")
    return listed


def _slice(value: str, rows: list[int], hits: list[float], losses: list[float] | None) -> Slice:
    count, right = len(rows), sum(bool(hits[row]) for row in rows)
    loss = None if losses is None else math.fsum(losses[row] for row in rows) / count
    return Slice(value, count, right / count, wilson(right, count), loss)


def _by_size(value: str) -> tuple[bool, float, str]:
    """A key that sorts numbers by their size and puts them before other texts, which it sorts by the alphabet."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return (False, number, value) if math.isfinite(number) else (True, 0.0, value)
