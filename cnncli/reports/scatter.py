"""Projections as a picture: a point an image, a colour a class, a panel for each kind of numbers."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.reports.confusion import label
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from cnncli.features.projected import Projection

TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}  # of projections
DOTS_PER_INCH = 200
PANEL = 4.2  # inches a side
MOST_ACROSS = 3  # panels; in more, words are too small on a printed page
# Up to ten classes: Paul Tol's bright and muted colours, far from each other for every kind of colour vision.
FEW = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#332288", "#999933", "#777777")
MOST_IN_LEGEND = 30  # classes; of more, a legend of colours cannot be told apart, and names stand in the picture
MOST_NAMED = 120
UNKNOWN = "#9a9a9a"


def colours(count: int) -> tuple[str, ...]:
    """#rrggbb for so many classes; of more than ten, hues a golden angle apart in three shades."""
    if count <= len(FEW):
        return FEW[:count]
    made = []
    for number in range(count):
        lightness, saturation = ((0.45, 0.75), (0.62, 0.6), (0.33, 0.6))[number % 3]
        red, green, blue = colorsys.hls_to_rgb(number * 0.618034 % 1, lightness, saturation)
        made.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return tuple(made)


def draw_scatter(
    path: Path, panels: Sequence[Projection], labels: npt.NDArray[np.int64], classes: Sequence[str], *, title: str, seed: int = 0
) -> None:
    """Write the panels, up to three in a row, as a PNG. labels: [N], -1 for an image without a class. title: the model and the images."""
    import numpy as np
    from matplotlib.figure import Figure

    present = [number for number in range(len(classes)) if (labels == number).any()]
    legend = 0 < len(present) <= MOST_IN_LEGEND
    columns = 1 if len(present) <= 16 else 2
    across = 2 if len(panels) == 4 else min(len(panels), MOST_ACROSS)
    down = -(-len(panels) // across)
    width = PANEL * across + (0.5 + 1.15 * columns if legend else 0.2)
    figure = Figure(figsize=(width, PANEL * down + 0.75), dpi=DOTS_PER_INCH, layout="constrained")
    shades = np.array([*colours(len(classes)), UNKNOWN])
    order = np.random.default_rng(seed).permutation(len(labels))  # so that no class lies on top of all others
    size = float(np.clip(9000 / max(len(labels), 1), 2.0, 22))
    all_axes = figure.subplots(down, across, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(all_axes[: len(panels)], panels, strict=True):
        x, y = panel.points[order].T
        axes.scatter(x, y, s=size, c=shades[labels[order]], alpha=0.75 if len(labels) > 500 else 0.9, linewidths=0)
        _dress(axes, panel)
        if len(present) > MOST_IN_LEGEND:
            _name_clusters(axes, panel.points, labels, classes, present)
    if legend:
        _legend(figure, present, classes, columns, unknown=bool((labels < 0).any()))
    figure.suptitle(_wrapped(title, int(width * 11)), fontsize=10)
    write_picture(path, figure)


def panel_title(panel: Projection) -> str:
    """`fc7, t-SNE (perplexity 30)`."""
    name = f"{panel.space} (random weights)" if panel.kind == "random" else f"raw {panel.space}" if panel.kind == "pixels" else panel.space
    perplexity = f" (perplexity {panel.perplexity:g})" if panel.perplexity is not None else ""
    return f"{label(name, 40)}, {TITLES[panel.method]}{perplexity}"


def _dress(axes: Axes, panel: Projection) -> None:
    told = "" if panel.kept is None else f"\n{panel.kept:.0%} of the 10 nearest neighbours kept"
    axes.set_title(panel_title(panel) + told, fontsize=8.5, linespacing=1.4)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.method == "pca":
        for set_label, number in ((axes.set_xlabel, 0), (axes.set_ylabel, 1)):
            share = panel.explained[number] if number < len(panel.explained) else 0.0
            set_label(f"component {number + 1} ({share:.1%} of the variance)", fontsize=8)
        axes.tick_params(labelsize=7)
        return
    axes.set_xticks([])  # distances along an axis mean nothing
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_color("0.8")
    axes.set_aspect("equal", adjustable="datalim")


def _legend(figure: Any, present: Sequence[int], classes: Sequence[str], columns: int, *, unknown: bool) -> None:
    from matplotlib.lines import Line2D

    shades = colours(len(classes))
    named = [(label(classes[number], 18), shades[number]) for number in present] + ([("no class", UNKNOWN)] if unknown else [])
    marks = [Line2D([], [], linestyle="", marker="o", markersize=5, color=shade, label=name) for name, shade in named]
    figure.legend(handles=marks, loc="outside right center", ncols=columns, frameon=False, fontsize=8, handletextpad=0.1, columnspacing=0.8)


def _name_clusters(
    axes: Axes, points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], classes: Sequence[str], present: Sequence[int]
) -> None:
    """The name of each class near the middle of its points, moved where two would cover each other."""
    import numpy as np
    import textalloc
    from matplotlib.patheffects import withStroke

    shades = colours(len(classes))
    by_size = sorted(present, key=lambda number: -int((labels == number).sum()))[:MOST_NAMED]
    middles = np.array([np.median(points[labels == number], axis=0) for number in by_size])
    names = [label(classes[number], 16) for number in by_size]
    texts = textalloc.allocate(
        axes,
        middles[:, 0],
        middles[:, 1],
        names,
        textsize=5.5,
        min_distance=0.001,
        max_distance=0.08,
        linecolor="0.5",
        linewidth=0.4,
        textcolor=[shades[number] for number in by_size],
    )[2]
    for text in (text for text in texts if text is not None):
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])  # type: ignore[attr-defined]


def _wrapped(text: str, columns: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label(text, 200), max(columns, 30)))
