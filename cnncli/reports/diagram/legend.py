"""The legend of a diagram: the colours and signs that it shows, and what each means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnncli.arch.drawing.plan import Drawing, Frame, Item, Parallel, Series, Wiring, boxes
from cnncli.reports.diagram.marks import NOTE, Disc, Line, Mark, Rect, Text, text_width
from cnncli.reports.diagram.pieces import beside

MEANINGS = {
    "conv": "convolution",
    "depthwise": "depthwise or separable convolution",
    "pool": "pooling",
    "fc": "fully connected",
    "norm": "normalisation",
    "activation": "activation",
    "concat": "concatenation",
    "block": "block of layers",
    "cell": "cell",
    "other": "no weights",
    "add": "addition",
    "dashed": "projection shortcut",
    "padded": "shortcut that changes the size, without weights",
    "sheet": "x n: n such in a row",
}
SIGN, LINE = 20.0, 14.0  # a sign and the space behind it; from line to line


def legend(drawing: Drawing, width: float) -> tuple[list[Mark], float]:
    """Its marks, in lines of at most `width`, and its height."""
    marks: list[Mark] = []
    x = y = 0.0
    for sign in _shown(drawing):
        reach = x + SIGN + text_width(MEANINGS[sign], NOTE)
        if x and reach > width:
            x, y, reach = 0.0, y + LINE, reach - x
        marks += [mark.shifted(x, y) for mark in _sign(sign)]
        marks.append(Text(x + SIGN, y + 5, MEANINGS[sign], NOTE, "left"))
        x = reach + LINE
    return marks, y + 10


def _shown(drawing: Drawing) -> list[str]:
    """The keys of MEANINGS that the drawing uses."""
    drawn: list[Item] = [drawing.main, *(panel.wiring for panel in drawing.panels)]
    shown = {box.kind for item in drawn for box in boxes(item)}
    items = [inner for item in drawn for inner in _all_items(item)]
    shortcuts = [branch for item in items if isinstance(item, Parallel) and item.merge.kind == "add" for branch in beside(item)]
    weighted = [any(row.params for box in boxes(branch) for row in box.rows) for branch in shortcuts if branch.items]
    signs = {
        "dashed": any(weighted),
        "padded": not all(weighted),
        "sheet": any(isinstance(item, Frame) and item.times > 1 for item in items),
    }
    return [key for key in MEANINGS if key in shown or signs.get(key, False)]


def _all_items(item: Item) -> Iterator[Item]:
    yield item
    inner: Sequence[Item] = ()
    match item:
        case Series():
            inner = item.items
        case Parallel():
            inner = item.branches
        case Frame():
            inner = (item.item,)
        case Wiring():
            inner = [node.item for node in item.nodes]
    for one in inner:
        yield from _all_items(one)


def _sign(sign: str) -> list[Mark]:
    match sign:
        case "add":
            return [Disc(9, 5)]
        case "dashed" | "padded":
            return [Line(((0, 5), (15, 5)), dashed=True)]
        case "sheet":
            return [Rect(3, 2, 12, 8, "sheet"), Rect(0, 0, 12, 8, "frame")]
    return [Rect(0, 0, 15, 10, sign)]
