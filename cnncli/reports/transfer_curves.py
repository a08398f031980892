"""What finetuning is compared with, as a picture: accuracy against training images of a class, or a line a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.reports.confusion import label
from cnncli.reports.curves import RUN_COLOURS
from cnncli.reports.lettering import fitted
from cnncli.reports.live import duration
from cnncli.reports.pictures import write_picture
from cnncli.reports.shape import compact

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnncli.transfer.comparison import Comparison, Outcome

DOTS_PER_INCH = 200
MARKERS = ("o", "s", "^", "D", "v", "P")  # with the colours, so that lines are told apart in grey too
LEAST_APART = 0.062  # between labels at the ends of lines, as a share of the axis
WIDTH_OF_ALL = 0.15  # of the axis, that the label of all images needs beside another one
HIGHEST = 1.02  # that the axis shows, so that a marker at 100 % is whole


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Accuracy of each method with its 95 % interval, as a PNG.

    Of several numbers of images: a line a method over the training images of a class, with a band of the interval; all images there are
    stand at their mean number. Of one number: a dot a method, with how long it took and how many parameters learned.
    """
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(o.method for o in comparison.outcomes))
    by_method = {method: [o for o in comparison.outcomes if o.method == method] for method in methods}
    several = len({o.per_class for o in comparison.outcomes}) > 1
    figure = Figure(figsize=(6.4, 4.0 if several else 1.25 + 0.36 * len(methods)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="both" if several else "x", color="0.92")
    if several:
        _curves(axes, by_method, comparison)
    else:
        _dots(axes, [found[0] for found in by_method.values()])
    (axes.yaxis if several else axes.xaxis).set_major_formatter(lambda rate, _: f"{100 * rate:.4g}%")
    tested = max(o.tested for o in comparison.outcomes)
    how = f"{comparison.folds}-fold cross-validation, {tested:,} images" if comparison.folds > 1 else f"{tested:,} test images"
    title = fitted(f"{comparison.model} on {comparison.data}", figure.get_figwidth() - 0.3, 9.5)
    figure.suptitle(f"{title}\n{how}; 95 % intervals", fontsize=9.5, linespacing=1.4)
    write_picture(path, figure)


def mean_per_class(comparison: Comparison) -> float | None:
    """Training images of a class where all there are were taken, in the mean over classes; None where nothing tells how many classes are.

    With k images of a class, there are k times as many images as classes, or fewer where a class has fewer: the largest quotient is the
    number of classes.
    """
    classes = max((o.images / o.per_class for o in comparison.outcomes if o.per_class), default=None)
    everything = next((o.images for o in comparison.outcomes if o.per_class is None), None)
    return None if not classes or everything is None else everything / classes


def _curves(axes: Axes, by_method: dict[str, list[Outcome]], comparison: Comparison) -> None:
    mean = mean_per_class(comparison) or 1.0
    ends = []
    for number, (method, found) in enumerate(by_method.items()):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        points = sorted((o.per_class or mean, o.accuracy, o.interval.low, o.interval.high) for o in found)
        places, values, low, high = zip(*points, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.14, linewidth=0)
        axes.plot(places, values, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=4.5, linewidth=1.6, label=method)
        ends.append(((places[-1], values[-1]), method, colour))
    axes.set_xscale("log")
    ticks = {float(o.per_class): f"{o.per_class:,}" for o in comparison.outcomes if o.per_class}
    if any(o.per_class is None for o in comparison.outcomes):
        logarithms = [math.log(place) for place in {*ticks, mean}]
        room = min((abs(math.log(place / mean)) for place in ticks), default=math.inf) / (max(logarithms) - min(logarithms) or 1)
        told = f"all ({mean:,.3g})" if mean < 1000 else f"all ({mean:,.0f})"
        ticks[mean] = told if room > WIDTH_OF_ALL else f"{ticks.get(mean, '')}\n{told}"  # a line lower, below its neighbour
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set(xlabel="training images of a class", ylabel="accuracy")
    _label_ends(axes, ends)


def _label_ends(axes: Axes, ends: Sequence[tuple[tuple[float, float], str, str]]) -> None:
    """The name of each line right of the axes, at the height of its last point, or moved where two would cover each other."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, HIGHEST))
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[0][1])
    heights = apart([(point[1] - low) / (high - low) for point, _, _ in ordered], LEAST_APART)
    for height, (point, method, colour) in zip(heights, ordered, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
        axes.annotate(
            *(label(method, 30), point, (1.035, height)),
            xycoords="data", textcoords="axes fraction", color=colour, fontsize=8.5, va="center", arrowprops=leader,
        )  # fmt: skip


def apart(values: Sequence[float], least: float) -> list[float]:
    """Rising values in 0..1, each moved as little as gaps of `least` ask for: what is too close is spread about its middle."""
    clusters: list[list[float]] = []
    for value in values:
        clusters.append([value])
        while len(clusters) > 1 and _spread(clusters[-1], least)[0] - _spread(clusters[-2], least)[-1] < least:
            last = clusters.pop()
            clusters[-1] += last
    return [place for cluster in clusters for place in _spread(cluster, least)]


def _spread(cluster: Sequence[float], least: float) -> list[float]:
    middle, half = sum(cluster) / len(cluster), least * (len(cluster) - 1) / 2
    return [middle - half + least * place for place in range(len(cluster))]


def _dots(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    for place, o in enumerate(outcomes):
        colour = RUN_COLOURS[place % len(RUN_COLOURS)]
        axes.plot((o.interval.low, o.interval.high), (place, place), color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([o.accuracy], [place], marker=MARKERS[place % len(MARKERS)], color=colour, markersize=6)
        trained = compact(o.trained) if o.trained >= 10**6 else f"{o.trained:,}"
        told = f"{o.accuracy:.1%}   {duration(o.seconds)}, {trained} parameters"
        axes.annotate(told, (1.02, place), xycoords=("axes fraction", "data"), fontsize=8, va="center", color="0.25")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(outcomes)), [label(o.method, 30) for o in outcomes])
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("accuracy")
