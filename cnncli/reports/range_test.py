"""The picture of a learning rate range test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    from cnncli.engine.range_test import RangeTest


def draw_range_test(path: Path, test: RangeTest, title: str) -> None:
    """Loss against rate on a logarithmic axis: each step's as dots, smoothed as a line, with what is suggested and where it ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, ".", color="0.75", markersize=4, label="each step")
    axes.plot(test.rates, test.smoothed, color="#4477aa", linewidth=1.8, label="smoothed")
    for rate, colour, text in ((test.suggested, "#228833", "suggested"), (test.limit, "#cc6677", "smallest loss")):
        if rate is not None:
            axes.axvline(rate, color=colour, linewidth=1.2, linestyle="--", label=f"{text}: {rate:.2g}")
    # What the loss becomes once it has exploded says nothing: the axis ends a little above where it began.
    start = test.smoothed[min(len(test.smoothed) - 1, 5)]
    low = min(*test.smoothed, *test.losses)
    axes.set_ylim(low - 0.1 * (start - low + 0.1), start + 0.6 * (start - low + 0.1))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.grid(visible=True, color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    write_picture(path, figure)
