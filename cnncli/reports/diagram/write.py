"""A net as the boxes-and-arrows drawing of the papers, as SVG, PNG or PDF."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli import atomic
from cnncli.arch.drawing.builder import draw
from cnncli.arch.net import Net
from cnncli.errors import UsageError, printable
from cnncli.reports.diagram.marks import FONT, Disc, Line, Rect, Text
from cnncli.reports.diagram.page import Page, page
from cnncli.reports.diagram.pieces import RADIUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
PIXELS_PER_INCH = 150  # of a PNG: the smallest letters, of 7 points, are then 15 pixels high
MOST_PIXELS = 2**15  # of a side; matplotlib's own limit is 2**16
# Paul Tol's "light" scheme: told apart by colour-blind readers, and made to be written on in black (personal.sron.nl/~pault). Two
# kinds are grey, of which "block" has the grey of his "bright" scheme.
COLOURS = {
    "conv": "#77aadd",
    "depthwise": "#99ddff",
    "pool": "#ee8866",
    "fc": "#bbcc33",
    "norm": "#eedd88",
    "activation": "#ffaabb",
    "concat": "#44bb99",
    "add": "#ffffff",
    "cell": "#aaaa00",
    "block": "#bbbbbb",
    "other": "#dddddd",
    "input": "#ffffff",
    "frame": "#f6f6f6",
    "sheet": "#ececec",
}
ROUNDING = 3.0
ARROW = 4.0  # length of an arrowhead; it is 3/4 as wide
CURVE = 5.0  # radius of a line's corner


def write_diagram(net: Net, path: Path, *, depth: int | None = None, all_layers: bool = False, overwrite: bool = False) -> None:
    """Draw the net and write the file whose suffix, .svg, .png or .pdf, names its format.

    depth: blocks at this level are closed boxes. all_layers: what repeats is drawn each time, cells are opened in their
    places. UsageError for another suffix, and for a file that exists, without `overwrite`; EnvironmentFault where it cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--diagram {path} should end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}", path="--diagram")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", "--overwrite replaces it", path="--diagram")
    figure = paint(page(draw(net, depth=depth, all_layers=all_layers)))
    import matplotlib as mpl

    # Letters stay letters: they can be searched and edited. One net gives the same bytes each time: no date, ids from its name.
    letters = mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": printable(net.name), "font.family": FONT[:1]})
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with letters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # such letters are drawn as boxes
        atomic.write_with(path, lambda temporary: figure.savefig(temporary, metadata=undated.get(path.suffix.lower())))


def paint(sheet: Page) -> Figure:
    """The marks of a page as a figure of its size."""
    from matplotlib.figure import Figure

    dpi = min(PIXELS_PER_INCH, MOST_PIXELS * 72 / max(sheet.width, sheet.height))
    figure = Figure(figsize=(sheet.width / 72, sheet.height / 72), dpi=dpi, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.set_axis_off()
    for mark in sheet.marks:
        match mark:
            case Rect():
                _rect(axes, mark)
            case Text():
                _text(axes, mark)
            case Line():
                _line(axes, mark)
            case Disc():
                _disc(axes, mark)
    return figure


def _rect(axes: Axes, mark: Rect) -> None:
    from matplotlib.patches import FancyBboxPatch

    outer = mark.kind in ("frame", "sheet")
    rounding = mark.height / 2 if mark.kind == "input" else ROUNDING
    patch = FancyBboxPatch(
        (mark.left, mark.top),
        mark.width,
        mark.height,
        boxstyle=f"round,pad=0,rounding_size={rounding}",
        facecolor=COLOURS[mark.kind],
        edgecolor="#aaaaaa" if outer else "#333333",
        linewidth=0.6,
        zorder=0 if outer else 3,
    )
    if mark.gid:
        patch.set_gid(mark.gid)
    axes.add_artist(patch)


def _text(axes: Axes, mark: Text) -> None:
    # The middle of the small letters and the capitals lies 0.36 of the size above the line they stand on.
    axes.text(
        mark.x,
        mark.y + 0.36 * mark.size,
        mark.text,
        fontsize=mark.size,
        fontfamily=FONT[0],
        fontweight="bold" if mark.bold else "normal",
        color=mark.colour,
        ha=mark.anchor,
        va="baseline",
        parse_math=False,
        zorder=4,
    )


def _line(axes: Axes, mark: Line) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    points = [mark.points[0], *(b for a, b in zip(mark.points, mark.points[1:], strict=False) if a != b)]
    if len(points) < 2:
        return
    (x0, y0), (x1, y1) = points[-2:]
    if mark.curved and y0 != y1:
        x0 = x1  # curves arrive from straight above
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    if mark.arrow:
        base = (x1 - ARROW * ux, y1 - ARROW * uy)
        side = (-uy * ARROW * 0.375, ux * ARROW * 0.375)
        corners = [(x1, y1), (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]
        axes.add_artist(Polygon(corners, closed=True, facecolor="#333333", edgecolor="none", zorder=2))
        points[-1] = base
    vertices, codes = _curves(points) if mark.curved else _corners(points)
    style = (0, (3, 1.8)) if mark.dashed else "-"
    axes.add_artist(PathPatch(Outline(vertices, codes), fill=False, edgecolor="#333333", linewidth=0.8, linestyle=style, zorder=1))


Points = list[tuple[float, float]]


def _corners(points: Points) -> tuple[Points, list[int]]:
    """Straight lines with rounded corners."""
    from matplotlib.path import Path as Outline

    vertices, codes = [points[0]], [int(Outline.MOVETO)]
    for (x0, y0), (x, y), (x1, y1) in zip(points, points[1:], points[2:], strict=False):
        before, behind = abs(x - x0) + abs(y - y0), abs(x1 - x) + abs(y1 - y)
        r0, r1 = min(CURVE, before / 2) / before, min(CURVE, behind / 2) / behind
        vertices += [(x + (x0 - x) * r0, y + (y0 - y) * r0), (x, y), (x + (x1 - x) * r1, y + (y1 - y) * r1)]
        codes += [int(Outline.LINETO), int(Outline.CURVE3), int(Outline.CURVE3)]
    return [*vertices, points[-1]], [*codes, int(Outline.LINETO)]


def _curves(points: Points) -> tuple[Points, list[int]]:
    """From point to point as an S that begins and ends vertically."""
    from matplotlib.path import Path as Outline

    vertices, codes = [points[0]], [int(Outline.MOVETO)]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        vertices += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [int(Outline.CURVE4)] * 3
    return vertices, codes


def _disc(axes: Axes, mark: Disc) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    circle = Circle((mark.x, mark.y), RADIUS, facecolor=COLOURS["add"], edgecolor="#333333", linewidth=0.8, zorder=3)
    if mark.gid:
        circle.set_gid(mark.gid)
    axes.add_artist(circle)
    arm = 0.55 * RADIUS
    for dx, dy in ((arm, 0.0), (0.0, arm)):
        axes.add_artist(Line2D((mark.x - dx, mark.x + dx), (mark.y - dy, mark.y + dy), color="#333333", linewidth=0.9, zorder=4))
