"""Nets of two depths, with and without shortcuts: the figure and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.engine.events import EpochDone
from cnncli.errors import printable
from cnncli.reports.pictures import write_picture
from cnncli.reports.terminal import Column, print_result, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Mapping[tuple[str, int], Sequence[EpochDone]]

SHALLOW, DEEP = "#4477aa", "#ee6677"
TITLES = {"plain": "plain nets", "resnet": "residual nets"}


def draw_depths(path: Path, runs: Runs, title: str) -> None:
    """Error against epochs as in He et al. 2015, figure 6: a panel a family, a colour a depth, training dashed, validation solid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    families = list(dict.fromkeys(family for family, _ in runs))
    depths = sorted({depth for _, depth in runs})
    figure = Figure(figsize=(8.4, 3.8), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True)
    for axes, family in zip(panels, families, strict=True):
        for depth, colour in zip(depths, (SHALLOW, DEEP), strict=True):
            _lines(axes, runs[family, depth], colour, f"{depth} layers")
        axes.set(title=TITLES.get(family, family), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    errors = [100 * (1 - epoch.train_accuracy) for epochs in runs.values() for epoch in epochs]
    panels[0].set_ylim(0, min(100.0, 1.05 * max(errors)))
    panels[0].set_ylabel("error (%)")
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    write_picture(path, figure)


def _lines(axes: Axes, epochs: Sequence[EpochDone], colour: str, label: str) -> None:
    numbers = [epoch.epoch for epoch in epochs]
    marker = "o" if len(epochs) < 3 else ""  # a line through one point cannot be seen
    axes.plot(
        numbers, [100 * (1 - e.train_accuracy) for e in epochs], color=colour, linestyle="--", marker=marker, label=f"{label}, training"
    )
    judged = [(e.epoch, 100 * (1 - e.val_accuracy)) for e in epochs if e.val_accuracy is not None]
    if judged:
        axes.plot(*zip(*judged, strict=True), color=colour, linewidth=1.8, marker=marker, label=f"{label}, validation")


def print_depths(runs: Runs, picture: Path) -> None:
    """The errors after the last epoch, net by net, and what depth did to the training error of each family."""
    from rich.console import Group
    from rich.text import Text

    rows = [
        [f"{family}{depth}", str(len(epochs)), _percent(epochs[-1].train_accuracy), _percent(epochs[-1].val_accuracy)]
        for (family, depth), epochs in runs.items()
    ]
    columns = [Column("net")] + [Column(title, number=True) for title in ("epochs", "training error", "validation error")]
    lines = [_sentence(family, runs) for family in dict.fromkeys(family for family, _ in runs)]
    print_result(Group(table(columns, rows), Text("\n" + "\n".join(lines)), Text(printable(picture))))


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * (1 - accuracy):.2f} %"


def _sentence(family: str, runs: Runs) -> str:
    shallow, deep = sorted(depth for name, depth in runs if name == family)
    more = 100 * (runs[family, shallow][-1].train_accuracy - runs[family, deep][-1].train_accuracy)
    kind = TITLES.get(family, family)
    if more > 0:
        return f"{kind}: {deep} layers have a training error {more:.1f} points higher than {shallow}: depth made learning harder"
    return f"{kind}: {deep} layers have a training error {-more:.1f} points lower than {shallow}: depth helped"
