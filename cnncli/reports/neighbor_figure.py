"""Images and their nearest neighbours in feature space and in pixel space, side by side, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

DOTS_PER_INCH = 200
SIDE = 0.78  # inches of a picture
GAP, PART_GAP = 0.07, 0.26  # inches between pictures, and between the query and each space
BELOW = 0.17  # inches for the class below a picture
HEAD, MARGIN, FOOT = 0.78, 0.14, 0.24
THUMBNAIL = 160  # pixels: SIDE at 200 dots per inch
POINTS = 6.5
CHARACTERS = 14  # of a class that fit below a picture
MOST = 10  # neighbours in the picture; the JSON has all
# Paul Tol's colours, apart for every kind of colour vision; a full and a dashed frame, and a cross, say the same without them.
AGREES, DIFFERS = "#228833", "#cc3311"


class Cell(NamedTuple):
    """A picture. text: its class, "" without. agrees: with the query's class; None where one has none."""

    image: Image | None
    text: str
    agrees: bool | None = None


class Line(NamedTuple):
    """A query and its neighbours, by space."""

    query: Cell
    neighbours: dict[str, tuple[Cell, ...]]


def draw_neighbors(path: Path, lines: Sequence[Line], *, title: str, subtitle: str, headings: dict[str, str]) -> None:
    """Write the figure: a line a query, its picture left, then its nearest in each space. headings: {space: what stands above it}."""
    write_picture(path, neighbor_figure(lines, title=title, subtitle=subtitle, headings=headings))


def neighbor_figure(lines: Sequence[Line], *, title: str, subtitle: str, headings: dict[str, str]) -> Figure:
    """The figure of `draw_neighbors`."""
    from matplotlib.figure import Figure

    most = max((len(cells) for line in lines for cells in line.neighbours.values()), default=1)
    part = most * (SIDE + GAP) - GAP
    width = 2 * MARGIN + SIDE + len(headings) * (PART_GAP + part)
    height = HEAD + len(lines) * (SIDE + BELOW + GAP) + FOOT
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.text(MARGIN / width, 1 - 0.22 / height, fitted(title, width - 2 * MARGIN, 9), fontsize=9)
    figure.text(MARGIN / width, 1 - 0.39 / height, fitted(subtitle, width - 2 * MARGIN, POINTS), fontsize=POINTS, color="0.35")
    lefts = {space: MARGIN + SIDE + PART_GAP + place * (part + PART_GAP) for place, space in enumerate(headings)}
    for left, wide, text in ((MARGIN, SIDE, "query"), *((lefts[space], part, text) for space, text in headings.items())):
        figure.text((left + wide / 2) / width, 1 - (HEAD - 0.09) / height, fitted(text, wide, 7.5), fontsize=7.5, ha="center")
        if wide > SIDE:
            bar = figure.add_axes((left / width, 1 - (HEAD - 0.05) / height, wide / width, 0.01 / height))
            bar.set_facecolor("0.6")
            bar.set(xticks=[], yticks=[])
            bar.spines[:].set_visible(False)
    for number, line in enumerate(lines):
        top = HEAD + number * (SIDE + BELOW + GAP)
        cells = [(MARGIN, line.query)]
        cells += [(lefts[s] + i * (SIDE + GAP), cell) for s in headings for i, cell in enumerate(line.neighbours[s])]
        for left, cell in cells:
            axes = figure.add_axes((left / width, 1 - (top + SIDE) / height, SIDE / width, SIDE / height))
            _show(axes, cell)
    if any(cell.agrees is not None for line in lines for cells in line.neighbours.values() for cell in cells):
        told = "Full green frame: the query's class. Dashed red frame and \N{MULTIPLICATION SIGN}: another class."
        figure.text(MARGIN / width, 0.09 / height, told, fontsize=POINTS, color="0.35")
    return figure


def _show(axes: Axes, cell: Cell) -> None:
    """A picture in its square, framed by what its class says, and the class below."""
    import numpy as np
    from matplotlib.patches import Rectangle

    axes.set_axis_off()
    side = 1
    if cell.image is not None:
        side, wide, high = max(cell.image.size), cell.image.width, cell.image.height
        axes.imshow(np.asarray(cell.image), interpolation="nearest", extent=(0, wide, high, 0))
        axes.set(xlim=((wide - side) / 2, (wide + side) / 2), ylim=((high + side) / 2, (high - side) / 2))
    if cell.agrees is not None:
        look = {"edgecolor": AGREES, "linestyle": "-"} if cell.agrees else {"edgecolor": DIFFERS, "linestyle": (0, (2.2, 1.2))}
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, linewidth=1.5, clip_on=False, **look))
    mark = "\N{MULTIPLICATION SIGN} " if cell.agrees is False else ""
    axes.annotate(
        mark + label(cell.text, CHARACTERS - len(mark)),
        (0.5, 0),
        (0, -2.2),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=POINTS,
        color=DIFFERS if cell.agrees is False else "0.1",
        annotation_clip=False,
    )
