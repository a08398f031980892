"""The predictions of one image as bars of probability, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnncli.errors import printable
from cnncli.reports.audit import bar
from cnncli.reports.terminal import width

if TYPE_CHECKING:
    from rich.text import Text

WIDEST_BAR = 40  # columns; a longer one says no more
NARROWEST_BAR = 6
INDENT = "  "
PERCENT = len("100.0%")
ACCEPTED, OTHER, DOUBTED = "green", "bright_black", "yellow"


def with_bars(path: str, guesses: Sequence[tuple[str, float]], *, accepted: bool | None = None) -> Text:
    """The path, and below it a line for each class: its name, its probability, and a bar whose full length is 100 %.

    Names stand above their bars where the terminal is too narrow for both. accepted: as in `prediction_line`.
    """
    from rich.cells import cell_len
    from rich.text import Text

    names = [printable(name) for name, _ in guesses]
    longest = max(map(cell_len, names), default=0)
    beside = width() - len(INDENT) - longest - len(INDENT) - PERCENT - len(INDENT)
    stacked = beside < NARROWEST_BAR
    room = width() - 2 * len(INDENT) - PERCENT - len(INDENT) if stacked else beside
    text = Text(printable(path), style="bold", overflow="fold")
    if accepted is False:
        text.append(": uncertain", style=DOUBTED)
    for rank, (name, (_, probability)) in enumerate(zip(names, guesses, strict=True)):
        best = "bold" if rank == 0 else "not bold"
        colour = OTHER if rank else DOUBTED if accepted is False else ACCEPTED
        gap = f"\n{INDENT * 2}" if stacked else " " * (longest - cell_len(name)) + INDENT
        text.append(f"\n{INDENT}{name}{gap}", style=best)
        text.append(f"{probability:{PERCENT}.1%}{INDENT}", style=best)
        text.append(bar(probability, min(WIDEST_BAR, room)), style=f"not bold {colour}")
    return text
