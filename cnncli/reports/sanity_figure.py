"""How far methods depend on a model's weights, and how well they rank pixels: pictures for print, and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture
from cnncli.reports.signal_figure import magnitude
from cnncli.reports.terminal import Column, print_result, table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

DOTS_PER_INCH = 200
CELL = 0.95  # inches
CURVE = 2.9  # inches
ENTRY = 1.12  # inches, of a method in a legend
# Of a method colour and marker, the same in every picture, whichever others are there. Colours of Paul Tol; with the markers the lines are
# told apart in grey too.
STYLES = {
    "saliency": ("#4477aa", "o"),
    "times-input": ("#ee6677", "s"),
    "smoothgrad": ("#228833", "^"),
    "guided": ("#aa3377", "D"),
    "deconvnet": ("#66ccee", "v"),
    "gradcam": ("#ccbb44", "P"),
    "integrated": ("#332288", "X"),
}
UNORDERED: dict[str, Any] = {"color": "0.45", "linestyle": (0, (4, 2)), "zorder": 1}
SIGNED: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (4, 2)), "alpha": 0.7}
TITLES = ("deletion: smaller is better", "insertion: larger is better")
STAGES = "layers whose weights are random, from the output down to this one"


class Line(NamedTuple):
    """A method. correlation, signed: of each stage with the first one, -1 to 1, mean over the images. deletion, insertion: areas, 0 to 1.

    maps: [stages, H, W], the first image's magnitudes.
    """

    name: str
    correlation: Sequence[float]
    signed: Sequence[float]
    deletion: float
    insertion: float
    maps: np.ndarray


def draw_sanity(path: Path, image: Any, lines: Sequence[Line], stages: Sequence[str], *, name: str, count: int, title: str) -> None:
    """Write a PNG: the curve of each method over the stages, and below each stage the first image's maps. image: uint8 [C, H, W]."""
    from matplotlib.figure import Figure

    aspect = image.shape[1] / image.shape[2]
    columns = 1 + len(stages)
    width = CELL * columns + 0.7
    across = max(1, int((width - CELL - 0.7) / ENTRY))  # methods in a line of the legend
    legend = 0.14 * (math.ceil((len(lines) + 1) / across) + 1)
    size = (width, CURVE + legend + (CELL * aspect + 0.06) * len(lines) + 0.6)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.add_gridspec(1 + len(lines), columns, height_ratios=(CURVE + legend, *[CELL * aspect] * len(lines)))
    corner = figure.add_subplot(grid[0, 0])
    corner.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray" if image.shape[0] == 1 else None, vmin=0, vmax=255)
    corner.set_title("what the net sees", fontsize=7)
    corner.set_xlabel(fitted(Path(name).name, CELL, 6), fontsize=6)
    _bare(corner)
    curves = figure.add_subplot(grid[0, 1:])
    _correlations(curves, lines, stages, count)
    curves.set_xlabel(fitted(STAGES, width - CELL - 0.9, 7.5, lines=3), fontsize=7.5)
    _legend(curves, across)
    for row, line in enumerate(lines, start=1):
        head = figure.add_subplot(grid[row, 0])
        head.axis("off")
        head.text(1, 0.5, line.name, color=STYLES[line.name][0], fontsize=8.5, ha="right", va="center", transform=head.transAxes)
        for column, own in enumerate(line.maps, start=1):
            cell = figure.add_subplot(grid[row, column])
            cell.imshow(magnitude(own[None]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            _bare(cell)
    figure.suptitle(fitted(title, width - 0.3, 9, lines=2), fontsize=9)
    write_picture(path, figure)


def _correlations(axes: Axes, lines: Sequence[Line], stages: Sequence[str], count: int) -> None:
    """A line a method; each stage stands above its column of maps."""
    places = range(len(stages))
    for line in lines:
        colour, marker = STYLES[line.name]
        axes.plot(places, line.signed, color=colour, **SIGNED)
        axes.plot(places, line.correlation, color=colour, marker=marker, markersize=4, linewidth=1.5, label=line.name)
    axes.axhline(0, color="0.6", linewidth=0.7)
    axes.set_xlim(-0.5, len(stages) - 0.5)
    axes.set_xticks(places, [fitted(stage, 1.1, 6) for stage in stages], fontsize=6, rotation=20, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="0.93")
    axes.set_axisbelow(True)
    over = "" if count == 1 else f", mean of {count} images"
    axes.set_ylabel(f"rank correlation{over}", fontsize=7.5)


def _legend(axes: Axes, across: int) -> None:
    """Above the curves, where there is no data. across: entries in a line."""
    from matplotlib.lines import Line2D

    handles = [*axes.get_legend_handles_labels()[0], Line2D([], [], color="0.3", label="with signs", **SIGNED)]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "borderaxespad": 0}
    axes.legend(handles=handles, ncols=across, frameon=False, fontsize=6.5, **place)


def draw_ranking(
    path: Path,
    shares: np.ndarray,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    areas: Mapping[str, Sequence[float]],
    *,
    count: int,
    title: str,
) -> None:
    """Write a PNG: deletion and insertion. shares: [S + 1], of the pixels. curves: of each method both, [S + 1], random order last."""
    from matplotlib.figure import Figure

    width = 7.2
    figure = Figure(figsize=(width, 3.3 + 0.13 * math.ceil(len(curves) / 2)), dpi=DOTS_PER_INCH, layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for side, axes in enumerate(both):
        for name, own in curves.items():
            style = UNORDERED
            if name in STYLES:
                colour, marker = STYLES[name]
                style = {"color": colour, "marker": marker, "markersize": 3.5, "markevery": 4}
            # What is 0 or 1 lies on the frame, and is not to be cut in half.
            axes.plot(shares, own[side], linewidth=1.3, label=f"{name} {areas[name][side]:.3f}", clip_on=False, **style)
        axes.set_title(TITLES[side], fontsize=8.5)
        axes.set_xlabel(("pixels set to the mean colour", "pixels put back into the blurred image")[side], fontsize=8)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="0.93")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.tick_params(labelsize=7.5)
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19), "borderaxespad": 0}
        axes.legend(ncols=2, frameon=False, fontsize=6.5, title="area under the curve", title_fontsize=6.5, **place)
    over = "" if count == 1 else f", mean of {count} images"
    both[0].set_ylabel(f"probability of the class{over}", fontsize=8)
    figure.suptitle(fitted(title, width - 0.3, 9, lines=2), fontsize=9)
    write_picture(path, figure)


def show_sanity(lines: Sequence[Line], unordered: tuple[str, float, float]) -> None:
    """Print a row a method; unordered: the name and the two areas of pixels in random order."""
    columns = (
        Column("method"),
        Column("correlation", number=True),
        Column("signed", number=True),
        Column("deletion", number=True),
        Column("insertion", number=True),
    )
    rows = [
        (line.name, f"{line.correlation[-1]:.3f}", f"{line.signed[-1]:.3f}", f"{line.deletion:.3f}", f"{line.insertion:.3f}")
        for line in lines
    ]
    name, deletion, insertion = unordered
    print_result(table(columns, [*rows, (name, "", "", f"{deletion:.3f}", f"{insertion:.3f}")]))


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(color="0.8", linewidth=0.5)
