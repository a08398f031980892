"""How a model does on parts of the images: those with one value in a column of their list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli import atomic
from cnncli.errors import printable
from cnncli.reports.spreadsheet import csv_text
from cnncli.reports.terminal import Column, print_result, table

if TYPE_CHECKING:
    from cnncli.engine.slices import Slice

    Slices = Mapping[str, Sequence[Slice]]  # {column: a slice for each of its values}

MOST_VALUES = 30  # in a table; of more, the worst are shown
WORST = 10
HEAD = ("column", "value", "images", "top1", "top1_low", "top1_high", "loss")


def slices_json(slices: Slices) -> dict[str, list[dict[str, Any]]]:
    """{column: [{"value", "count", "top1", "top1_interval", "loss"}, ...]}."""
    return {
        column: [
            {"value": s.value, "count": s.count, "top1": s.top1, "top1_interval": [s.interval.low, s.interval.high], "loss": s.loss}
            for s in found
        ]
        for column, found in slices.items()
    }


def print_slices(slices: Slices) -> None:
    """A table a column of the list, a line a value; of many values, those with the lowest accuracy."""
    from rich.text import Text

    for column, found in slices.items():
        shown = found if len(found) <= MOST_VALUES else sorted(found, key=lambda s: (s.top1, -s.count))[:WORST]
        told = "" if len(shown) == len(found) else f", the {len(shown)} of {len(found):,} values with the lowest top-1"
        print_result(Text(f"\nby {printable(column)}{told}", overflow="fold"))
        columns = (
            *(Column("value"), Column("images", number=True), Column("top-1", number=True)),
            *(Column("95 % interval", number=True), Column("loss", number=True)),
        )
        rows = [
            (s.value, f"{s.count:,}", f"{s.top1:.1%}", f"{100 * s.interval.low:.1f} to {s.interval.high:.1%}", f"{s.loss:.3f}")
            for s in shown
        ]
        print_result(table(columns, rows))


def write_slices(path: Path, slices: Slices) -> None:
    """A line a value, as CSV."""
    rows = [(column, s.value, s.count, s.top1, s.interval.low, s.interval.high, s.loss) for column, found in slices.items() for s in found]
    atomic.write_text(path, csv_text(HEAD, rows))
