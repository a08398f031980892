"""How trainings went, as pictures: the curves of one run, and those of several over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.engine.events import EpochDone
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
TRAINING, VALIDATION, RATE = "#4477aa", "#cc6677", "#555555"
# Paul Tol's bright colours without the grey: apart for every kind of colour vision.
RUN_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44")
RUN_MARKERS = ("", "o", "s", "^", "D")  # for more runs than colours
LINEAR_RANGE = 30  # between losses; more, and the smallest would be less than a tenth of an inch above the axis
CHARACTERS_OF_LEGEND = 110  # that fit the width of the comparison


def draw_curves(path: Path, epochs: Sequence[EpochDone], title: str) -> None:
    """Loss, accuracy and learning rate over the epochs, training and validation, the best epoch marked, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    with_rate = any(math.isfinite(e.lr) for e in epochs)
    grid = figure.add_gridspec(1, 3 if with_rate else 2, width_ratios=(1, 1, 0.5) if with_rate else (1, 1))
    loss_axes, accuracy_axes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    best = next((e for e in reversed(epochs) if e.best), None)
    for axes, figure_name in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
        _plot(axes, _series(epochs, f"train_{figure_name}"), color=TRAINING, label="training")
        _plot(axes, _series(epochs, f"val_{figure_name}"), color=VALIDATION, label="validation", sparse=len(epochs))
        if best is not None:
            axes.axvline(best.epoch, color="0.6", linewidth=0.8, linestyle="--", zorder=1, label=f"best: epoch {best.epoch}")
    _dress(loss_axes, accuracy_axes)
    _limit_loss(loss_axes, epochs)
    if accuracy_axes.lines:
        accuracy_axes.legend(frameon=False, loc="best", fontsize=9)
    if with_rate:
        rate_axes = figure.add_subplot(grid[2])
        _plot(rate_axes, _series(epochs, "lr"), color=RATE)
        _style(rate_axes, "learning rate")
        rate_axes.set_ylim(bottom=0)
    figure.suptitle(_plain(title), fontsize=11)
    write_picture(path, figure)


def draw_comparison(path: Path, runs: Sequence[tuple[str, Sequence[EpochDone]]]) -> None:
    """Loss and accuracy of several runs over their epochs, a colour a run, training dashed, validation solid, a dot at the best epoch."""
    write_picture(path, comparison_figure(runs))


def comparison_figure(runs: Sequence[tuple[str, Sequence[EpochDone]]]) -> Figure:
    """The picture of `draw_comparison`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    handles = []
    for number, (name, epochs) in enumerate(runs):
        color = RUN_COLOURS[number % len(RUN_COLOURS)]
        marker = RUN_MARKERS[number // len(RUN_COLOURS) % len(RUN_MARKERS)]
        for axes, figure_name in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
            _plot(axes, _series(epochs, f"train_{figure_name}"), color=color, linestyle=(0, (4, 2)), linewidth=1, alpha=0.8)
            val = _series(epochs, f"val_{figure_name}")
            _plot(axes, val, color=color, linewidth=1.6, marker=marker, markevery=max(len(val) // 8, 1), markersize=4)
            _mark_best(axes, epochs, figure_name, color)
        handles.append(_key(_plain(name), color=color, linewidth=2, marker=marker, markersize=4))
    _dress(loss_axes, accuracy_axes)
    _limit_loss(loss_axes, [row for _, epochs in runs for row in epochs])
    kinds = [
        _key("training", color="0.3", linestyle=(0, (4, 2)), linewidth=1),
        _key("validation", color="0.3", linewidth=1.6),
        _key("best epoch", color="0.3", linestyle="", marker="o", markersize=5),
    ]
    accuracy_axes.legend(handles=kinds, frameon=False, loc="best", fontsize=8.5)
    longest = max((len(name) for name, _ in runs), default=1)
    columns = max(min(CHARACTERS_OF_LEGEND // (longest + 8), len(runs)), 1)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _key(label: str, **look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def _series(epochs: Sequence[EpochDone], name: str) -> list[tuple[int, float]]:
    """(epoch, value) where there is one; what is not finite breaks the line."""
    pairs = [(e.epoch, getattr(e, name)) for e in epochs]
    return [(epoch, value if math.isfinite(value) else math.nan) for epoch, value in pairs if value is not None]


def _plot(axes: Axes, points: Sequence[tuple[int, float]], *, sparse: int = 0, **look: Any) -> None:
    """A line through the points, each with a mark where a line could not be seen, or joins points between which nothing was known."""
    finite = sum(not math.isnan(value) for _, value in points)
    if not finite:
        return
    if finite < 3:
        look |= {"marker": "o", "markersize": 5}
    elif finite < sparse:
        look |= {"marker": "o", "markersize": 3}
    axes.plot(*zip(*points, strict=True), **look)


def _mark_best(axes: Axes, epochs: Sequence[EpochDone], name: str, color: str) -> None:
    best = next((e for e in reversed(epochs) if e.best), None)
    if best is None:
        return
    val = getattr(best, f"val_{name}")
    axes.plot(best.epoch, getattr(best, f"train_{name}") if val is None else val, "o", color=color, markeredgecolor="white", markersize=7)


def _dress(loss_axes: Axes, accuracy_axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    _style(loss_axes, "cross-entropy loss")
    _style(accuracy_axes, "accuracy")
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _style(axes: Axes, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=label)
    axes.grid(visible=True, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _limit_loss(axes: Axes, epochs: Sequence[EpochDone]) -> None:
    """From 0, where the losses are of one size; on a logarithmic scale where the smallest would lie on the axis."""
    values = [value for name in ("train_loss", "val_loss") for e in epochs if (value := getattr(e, name)) is not None and value > 0]
    finite = [value for value in values if math.isfinite(value)]
    if finite and max(finite) > LINEAR_RANGE * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_decade)
        axes.yaxis.set_minor_formatter(_between_decades)
        axes.tick_params(axis="y", which="minor", labelsize=7)
    else:
        axes.set_ylim(bottom=0)


def _decade(value: float, _: object = None) -> str:
    return f"{value:g}"


def _between_decades(value: float, _: object = None) -> str:
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _plain(text: str) -> str:
    """The text as it is: a dollar sign in a name begins no formula."""
    return text.replace("$", r"\$")
