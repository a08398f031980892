"""How well classes can be told by features: a table, JSON, and accuracy by layer as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture
from cnncli.reports.terminal import Column, print_result, table, width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnncli.features.probed import Probed, ProbedSpace, Score

DOTS_PER_INCH = 200
# Paul Tol's high-contrast colours, as in the other charts: apart for every kind of colour vision, and in grey.
LINEAR, KNN = "#004488", "#bb5566"
WIDTH_FOR_SETTINGS = 110  # below, there is no room for what was chosen, which the JSON tells
LEAST_APART = 0.045  # between the labels of lines, as a share of the axis
BASELINES = {"pixels": "pixels", "hog": "HOG", "random": "random weights"}
LEGEND = (
    "linear: logistic regression. kNN: the majority of the k nearest training images. Penalty, k and distance were chosen on validation "
    "images. In brackets: 95 % intervals."
)


class Look(NamedTuple):
    """How a classifier is drawn. shift: to the side, so that two error bars do not cover each other."""

    classifier: str
    colour: str
    marker: str
    shift: float


def probe_json(probed: Probed, *, model: str, data: str) -> dict[str, Any]:
    """The documented JSON of `cnn features probe`."""
    return {
        "model": model,
        "data": data,
        "judged_on": probed.judged_on,
        "train": probed.train,
        "val": probed.val,
        "test": probed.test,
        "classes": probed.classes,
        "spaces": [
            {
                "name": space.name,
                "kind": space.kind,
                "baseline": space.kind != "layer",
                "numbers": space.size,
                "linear": _score_json(space.linear),
                "knn": _score_json(space.knn),
            }
            for space in probed.spaces
        ],
        "notes": list(probed.notes),
    }


def _score_json(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = {
        "accuracy": score.accuracy,
        "interval": [score.interval.low, score.interval.high],
        "setting": score.setting,
        "over_pixels": None,
    }
    if score.difference is not None and score.difference_interval is not None:
        ends = [score.difference_interval.low, score.difference_interval.high]
        found["over_pixels"] = {"difference": score.difference, "interval": ends, "p": score.p}
    return found


def print_probe(probed: Probed, title: str) -> None:
    """A line a space; the layers first, then the baselines."""
    from rich.console import Group
    from rich.text import Text

    columns = [Column("features"), Column("numbers", number=True), Column("linear", number=True), Column("kNN", number=True)]
    if width() >= WIDTH_FOR_SETTINGS:
        columns += [Column("chosen", text=True)]
    ordered = [*_layers(probed), *_baselines(probed)]
    rows = [
        (
            space.name + ("" if space.kind == "layer" else " (baseline)"),
            f"{space.size:,}",
            _cell(space.linear),
            _cell(space.knn),
            f"{space.linear.setting}; {space.knn.setting}",
        )[: len(columns)]
        for space in ordered
    ]
    below = [LEGEND, *(f"Note: {note}." for note in probed.notes)]
    print_result(
        Group(Text(f"{title}: {_told(probed)}"), Text(), table(columns, rows), Text(), *(Text(line, style="dim") for line in below))
    )


def _cell(score: Score) -> str:
    return f"{100 * score.accuracy:.1f}% [{100 * score.interval.low:.1f}, {100 * score.interval.high:.1f}]"


def _told(probed: Probed) -> str:
    return f"trained on {probed.train:,} images, judged on {probed.test:,} ({probed.judged_on}), {probed.classes:,} classes"


def draw_probe(path: Path, probed: Probed, title: str) -> None:
    """Accuracy by layer as a PNG: a line for each classifier over the layers in their order, with 95 % intervals; baselines as levels.

    A layer with random weights is a hollow marker below its layer.
    """
    from matplotlib.figure import Figure

    layers = _layers(probed) or list(probed.spaces)
    figure = Figure(figsize=(max(6.4, 3.2 + 0.55 * len(layers)), 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color="0.92")
    levels: list[tuple[float, str, str]] = []
    for look in (Look("linear", LINEAR, "o", -0.06), Look("kNN", KNN, "s", 0.06)):
        _line(axes, layers, look)
        levels.append((_of(layers[-1], look.classifier).accuracy, look.classifier, look.colour))
        levels += _levels(axes, probed, layers, look)
    axes.set_xticks(range(len(layers)), [label(space.name, 24) for space in layers])
    if len(layers) > 6:
        axes.tick_params(axis="x", rotation=45)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set(xlabel="layer, from input to output", ylabel="accuracy")
    axes.yaxis.set_major_formatter(lambda rate, _: f"{100 * rate:.4g}%")
    _name(axes, levels)
    figure.suptitle(f"{fitted(title, figure.get_figwidth() - 0.3, 9.5)}\n{_told(probed)}; 95 % intervals", fontsize=9.5, linespacing=1.4)
    write_picture(path, figure)


def _line(axes: Axes, layers: Sequence[ProbedSpace], look: Look) -> None:
    classifier, colour, marker, shift = look
    scores = [_of(space, classifier) for space in layers]
    places = [place + shift for place in range(len(layers))]
    heights = [score.accuracy for score in scores]
    errors = [[s.accuracy - s.interval.low for s in scores], [s.interval.high - s.accuracy for s in scores]]
    axes.errorbar(places, heights, yerr=errors, color=colour, marker=marker, markersize=5, linewidth=1.6, elinewidth=1, capsize=2.5)


def _levels(axes: Axes, probed: Probed, layers: Sequence[ProbedSpace], look: Look) -> list[tuple[float, str, str]]:
    """Draw the baselines of a classifier; (height, name, colour) of each that is to be named."""
    classifier, colour, marker, shift = look
    named = []
    dashes = {"pixels": (0, (5, 3)), "hog": (0, (1, 2))}
    for space in _baselines(probed):
        if space in layers:
            continue
        height = _of(space, classifier).accuracy
        if space.kind in dashes:
            axes.axhline(height, color=colour, linewidth=1.1, linestyle=dashes[space.kind], zorder=1)
            named.append((height, f"{BASELINES[space.kind]}, {classifier}", colour))
    drawn = {space.name.removesuffix("@random"): space for space in probed.spaces if space.kind == "random" and space not in layers}
    points = [(place + shift, _of(drawn[s.name], classifier).accuracy) for place, s in enumerate(layers) if s.name in drawn]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, markerfacecolor="white", linewidth=0.8, alpha=0.9)
        named.append((points[-1][1], f"{BASELINES['random']}, {classifier}", colour))
    return named


def _name(axes: Axes, levels: Sequence[tuple[float, str, str]]) -> None:
    """The name of each line right of the axes, at its height or moved where two would cover each other."""
    from cnncli.reports.transfer_curves import apart

    low, high = axes.get_ylim()
    low, high = max(0.0, low), min(1.02, high)
    axes.set_ylim(low, high)
    ordered = sorted(levels)
    heights = apart([(height - low) / (high - low) for height, _, _ in ordered], LEAST_APART)
    for place, (height, name, colour) in zip(heights, ordered, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        axes.annotate(
            *(name, (1.0, (height - low) / (high - low)), (1.03, place)),
            xycoords="axes fraction", textcoords="axes fraction", color=colour, fontsize=8, va="center", arrowprops=leader,
        )  # fmt: skip


def _of(space: ProbedSpace, classifier: str) -> Score:
    return space.linear if classifier == "linear" else space.knn


def _layers(probed: Probed) -> list[ProbedSpace]:
    """The layers asked for: of a net with random weights these are layers too."""
    return [space for space in probed.spaces if space.kind == "layer" or (space.kind == "random" and not space.name.endswith("@random"))]


def _baselines(probed: Probed) -> list[ProbedSpace]:
    layers = _layers(probed)
    return [space for space in probed.spaces if space not in layers]
