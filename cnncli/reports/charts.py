"""Charts of the zoo and of the ImageNet challenge, for a page of print: PNG at 200 dots per inch, or SVG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10, pi, sqrt
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.arch.zoo.accuracy import IMAGENET, ONE_CROP, is_searched
from cnncli.arch.zoo.ilsvrc import ENTRIES, HUMAN_ERROR
from cnncli.reports.models import Listed
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200
# Paul Tol's high-contrast colours: apart for every kind of colour vision, and in grey.
DARK, LIGHT = "#004488", "#ddaa33"
AREA_PER_PARAMETER = 2.4e-6  # square points: vgg19, the largest, is 0.3 inch wide
SIZES_IN_LEGEND = (5, 25, 100)  # millions of parameters
OTHER_VIEW_MARK = "\N{DAGGER}"
LABEL_POINTS = 6.5
CHARACTERS_OF_NOTE = 150  # that fit the width of a figure

DEPTH_NOTE = (
    "Winners of ImageNet's classification challenge (ILSVRC), and VGG, second in 2014: error on the test images. Entries of nets average "
    "several nets; AlexNet's is without additional images. Depths are those of the papers; Clarifai's is that of its founder's ZFNet, "
    "SENet's that of SENet-154. Errors to 2014 and the person's: Russakovsky et al. 2015; 2015: He et al. 2015; 2016: the challenge's "
    "results; 2017: Hu et al. 2017."
)
COST_NOTE = (
    "Published accuracy on ImageNet's validation images, one net, one crop: of torchvision's IMAGENET1K_V1 weights where it has the net, "
    "else of the paper's or its authors' net. They were not trained alike: searched nets longer, and with more regularisation."
)


class Point(NamedTuple):
    """What the chart of accuracy against cost shows of a net. top1: percent. area: square points."""

    label: str
    macs: int
    top1: float
    area: float
    searched: bool
    view: str

    @property
    def reach(self) -> float:
        """Points from the centre of the bubble to its farthest edge."""
        return sqrt(self.area / 2) if self.searched else sqrt(self.area / pi)  # half a square's diagonal, or a circle's radius


def points_of(listed: Sequence[Listed]) -> tuple[Point, ...]:
    """The nets that have a published top-1 accuracy on ImageNet, the largest first, so that no bubble hides a smaller one."""
    points = []
    for entry in sorted(listed, key=lambda entry: -entry.totals.params):
        accuracy = entry.accuracy
        if accuracy is not None and accuracy.data == IMAGENET and accuracy.top1 is not None:
            label = entry.net.name + ("" if accuracy.source.view == ONE_CROP else OTHER_VIEW_MARK)
            area = entry.totals.params * AREA_PER_PARAMETER
            points.append(Point(label, entry.totals.macs, accuracy.top1, area, is_searched(entry.net.name), accuracy.source.view))
    return tuple(points)


def draw_cost(path: Path, points: Sequence[Point]) -> None:
    """Top-1 accuracy against MACs (logarithmic), a bubble a net whose area is its parameters, as a PNG, SVG or PDF."""
    write_picture(path, cost_figure(points))


def draw_depth(path: Path) -> None:
    """Error (bars) and depth (line) of the ImageNet challenge's winners over the years, as a PNG, SVG or PDF."""
    write_picture(path, depth_figure())


def cost_figure(points: Sequence[Point]) -> Figure:
    """The chart of `draw_cost`. The texts of its axes are the nets' names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.6), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.075, 0.165, 0.905, 0.765))
    for searched in (False, True):
        group = [point for point in points if point.searched == searched]
        places = [point.macs for point in group], [point.top1 for point in group]
        axes.scatter(*places, s=[_marker_size(point.area, searched=searched) for point in group], **_look(searched=searched))
        axes.scatter(*places, s=1.5, color="black", linewidth=0, zorder=3)  # tells bubbles apart that lie over one another
    _style(axes)
    axes.set_xscale("log")
    _set_limits(axes, points)
    axes.xaxis.set_major_formatter(_macs_tick)
    axes.xaxis.set_minor_formatter(_minor_macs_tick)
    axes.set_xlabel("multiply-adds (MACs) for one image", fontsize=9)
    axes.set_ylabel("top-1 accuracy on ImageNet (%)", fontsize=9)
    _place_labels(axes, points)
    _cost_legend(figure, axes, {point.searched for point in points})
    _write_note(figure, _cost_note(points))
    return figure


def _set_limits(axes: Axes, points: Sequence[Point]) -> None:
    """Room for labels around the points, and at least a decade of MACs and ten points of accuracy, so that the axes have numbers."""
    logs = [log10(point.macs) for point in points]
    accuracies = [point.top1 for point in points]
    for values, least, set_limits in (
        (logs, 1.0, lambda *ends: axes.set_xlim(*(10**end for end in ends))),
        (accuracies, 10.0, axes.set_ylim),
    ):
        middle, half = (min(values) + max(values)) / 2, max(max(values) - min(values), least) / 2
        set_limits(middle - 1.18 * half, middle + 1.18 * half)


def _look(*, searched: bool) -> dict[str, Any]:
    opacity = "99"  # bubbles lie over one another
    return {
        "facecolor": (LIGHT if searched else DARK) + opacity,
        "edgecolor": "black",
        "linewidth": 0.5,
        "marker": "D" if searched else "o",
    }


def _marker_size(area: float, *, searched: bool) -> float:
    """What matplotlib calls s: the square of a circle's diameter, or of a diamond's side, in points."""
    return area if searched else area * 4 / pi


def _place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Every net's name beside its bubble, over no other name or bubble, with a thin line to the centre."""
    import textalloc

    pixels: Any = [point.reach * DOTS_PER_INCH / 72 for point in points]  # a number a bubble, whatever textalloc's annotation says
    macs, top1 = [float(point.macs) for point in points], [point.top1 for point in points]
    textalloc.allocate(
        axes,
        macs,
        top1,
        [point.label for point in points],
        x_scatter=macs,
        y_scatter=top1,
        scatter_sizes=pixels,
        text_scatter_sizes=pixels,
        textsize=LABEL_POINTS,
        linecolor="0.35",
        linewidth=0.5,
        # Distances are shares of the axes.
        margin=0.004,
        min_distance=0.004,
        max_distance=0.3,
        nbr_candidates=1000,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
    )


def _cost_legend(figure: Figure, axes: Axes, kinds: set[bool]) -> None:
    names = {False: "designed by hand", True: "found by architecture search"}
    handles = [axes.scatter([], [], s=35, label=names[searched], **_look(searched=searched)) for searched in sorted(kinds)]
    for millions in SIZES_IN_LEGEND:
        size = _marker_size(millions * 1e6 * AREA_PER_PARAMETER, searched=False)
        label = f"{millions} M parameters"
        handles.append(axes.scatter([], [], s=size, label=label, facecolor="none", edgecolor="black", linewidth=0.5))
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles), frameon=False, fontsize=7, columnspacing=1.4
    )


def _cost_note(points: Sequence[Point]) -> str:
    views = sorted({point.view for point in points} - {ONE_CROP})
    return COST_NOTE + (f" {OTHER_VIEW_MARK} averaged over {' or '.join(views)}: about two points better than one crop." if views else "")


def _write_note(figure: Figure, note: str) -> None:
    figure.text(0.015, 0.015, fill(note, CHARACTERS_OF_NOTE), fontsize=6.5, color="0.3", linespacing=1.35)


def _macs_tick(macs: float, _: object = None) -> str:
    return f"{macs / 1e9:g} G" if macs >= 1e9 else f"{macs / 1e6:g} M"


def _minor_macs_tick(macs: float, _: object = None) -> str:
    return _macs_tick(macs) if f"{macs:e}"[0] in "25" else ""


def depth_figure() -> Figure:
    """The chart of `draw_depth`: the depths over the errors, a column a winner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=DOTS_PER_INCH)
    depths = figure.add_axes((0.08, 0.70, 0.905, 0.27))
    errors = figure.add_axes((0.08, 0.25, 0.905, 0.40), sharex=depths)
    for axes in (depths, errors):
        _style(axes)
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
    _depth_line(depths)
    _error_bars(errors)
    figure.align_ylabels((depths, errors))
    _write_note(figure, DEPTH_NOTE)
    return figure


def _depth_line(axes: Axes) -> None:
    known = [(place, entry.layers) for place, entry in enumerate(ENTRIES) if entry.layers is not None]
    axes.plot(*zip(*known, strict=True), color=DARK, marker="o", markersize=5, linewidth=1.5)
    for place, entry in enumerate(ENTRIES):
        if entry.layers is not None:
            axes.annotate(str(entry.layers), (place, entry.layers), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        else:
            axes.annotate(entry.kind, (place, 5), ha="center", fontsize=8, color="0.3", style="italic")
    axes.set_yscale("log")
    axes.set_ylim(4, 300)
    axes.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelbottom=False)
    axes.set_ylabel("layers with weights", fontsize=9)


def _error_bars(axes: Axes) -> None:
    places = range(len(ENTRIES))
    errors = [entry.error for entry in ENTRIES]
    bars = axes.bar(places, errors, width=0.62, color=LIGHT, edgecolor="black", linewidth=0.5)
    cover = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # hides the line of the human error behind a number
    axes.bar_label(bars, [f"{error:.3g}" for error in errors], padding=3, fontsize=8, bbox=cover)
    axes.axhline(HUMAN_ERROR, color="black", linewidth=0.8, linestyle=(0, (5, 4)), zorder=0.9)
    axes.text(len(ENTRIES) - 0.55, HUMAN_ERROR + 1.7, f"a trained person: {HUMAN_ERROR}", fontsize=8, ha="right", va="bottom")
    names = [
        (entry.name.replace("-", "-\n") if len(entry.name) > 12 else entry.name) + ("" if entry.place == 1 else f"\n(place {entry.place})")
        for entry in ENTRIES
    ]
    axes.set_xticks(places, [f"{entry.year}\n{name}" for entry, name in zip(ENTRIES, names, strict=True)], fontsize=8)
    axes.set_ylabel("top-5 error (%)", fontsize=9)
    axes.set_ylim(0, 33)


def _style(axes: Axes) -> None:
    axes.grid(visible=True, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8, length=3.5)  # ticks of one length keep their numbers in line
