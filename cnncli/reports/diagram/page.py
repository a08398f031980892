"""The page of a diagram: title, columns of the main flow, cells beside them, legend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from math import log
from typing import NamedTuple

from cnncli.arch.drawing.plan import Box, Drawing, Panel, boxes, output
from cnncli.arch.layers import Shape
from cnncli.arch.net import totals
from cnncli.errors import printable
from cnncli.reports.diagram.legend import legend
from cnncli.reports.diagram.marks import NOTE, TITLE, Line, Mark, Piece, Rect, Text, text_width
from cnncli.reports.diagram.pieces import FRAME_HEAD, FRAME_PAD, GAP, GREY, PAD, box_width, piece, size_note, size_note_width
from cnncli.reports.shape import compact, size_text

MARGIN = 14.0
GUTTER = 30.0  # between columns: the line that leads from one to the next runs in it
ASPECT = 1.4  # width to height that the page should come near to: a landscape page or a slide
EMPTINESS = 0.5  # what empty paper weighs against another aspect
MOST_COLUMNS = 400
HEADLINE, BYLINE = 13.0, 8.0
HEADLINE_STEP, BYLINE_STEP, NOTE_STEP = 17.0, 11.0, 10.0  # from line to line
WIDEST_HEAD = 600.0  # the longest title of a paper in the zoo needs 573
MOST_HEAD_LINES = 6
LONGEST_WORD = 30  # letters that stay together
SHORTEST_NOTE = 150.0  # a line of a note under a narrow cell may be so long


class Page(NamedTuple):
    """All marks, and the size of the paper."""

    width: float
    height: float
    marks: tuple[Mark, ...]


def page(drawing: Drawing) -> Page:
    """The drawing on one page, in as many columns as give it about the shape of a page."""
    flow = _flow(drawing)
    panels = [_panel(panel) for panel in drawing.panels]
    head = _head(drawing)
    head_width = max(text.left + text_width(text.text, text.size, bold=text.bold) for text in head) - MARGIN
    top = head[-1].y + 13
    columns, panel_columns = _arrangement(flow, panels, head_width, top + 60)
    marks, width, height = _body(flow, columns, panels, panel_columns)
    width = max(width, head_width)
    legend_marks, legend_height = legend(drawing, width)
    body = [mark.shifted(MARGIN, top) for mark in marks]
    foot = [mark.shifted(MARGIN, top + height + GAP) for mark in legend_marks]
    return Page(width + 2 * MARGIN, top + height + GAP + legend_height + MARGIN, (*body, *head, *foot))


def _head(drawing: Drawing) -> list[Text]:
    """Name, facts and paper, line by line. A net in notation has its text as its name, and a name in a file may be of any length."""
    net = drawing.net
    sums = totals((row for box in boxes(drawing.main) for row in box.rows), net.input)
    facts = f"input {size_text(net.input)}  ·  {sums.params:,} parameters  ·  {compact(sums.macs)} multiply-adds  ·  depth {sums.depth}"
    title = _cut(_wrapped(printable(net.name), WIDEST_HEAD, HEADLINE, bold=True))
    byline = [facts, *(_cut(_wrapped(printable(net.paper), WIDEST_HEAD, BYLINE)) if net.paper else [])]
    y = MARGIN + 7
    lines = [Text(MARGIN, y + HEADLINE_STEP * i, line, HEADLINE, "left", bold=True) for i, line in enumerate(title)]
    y = lines[-1].y + 15
    return [*lines, *(Text(MARGIN, y + BYLINE_STEP * i, line, BYLINE, "left", colour=GREY) for i, line in enumerate(byline))]


def _cut(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MOST_HEAD_LINES else [*lines[: MOST_HEAD_LINES - 1], "…"]


class _Flow(NamedTuple):
    """The main flow, the input first, and behind each piece the size that leaves it where that is news."""

    pieces: list[Piece]
    sizes: list[Shape | None]

    def right(self, i: int) -> float:
        """How far a piece and the size behind it reach right of the axis."""
        size = self.sizes[i]
        return max(self.pieces[i].right, 0.0 if size is None else size_note_width(size))


def _flow(drawing: Drawing) -> _Flow:
    items = drawing.main.items
    text = f"input {size_text(drawing.net.input)}"
    width = max([text_width(text, TITLE) + 2 * PAD, *(box_width(item, "") for item in items if isinstance(item, Box))])
    entry = Piece(width / 2, width / 2, 16.0, (Rect(-width / 2, 0, width, 16.0, "input"), Text(0, 8, text, TITLE)))
    pieces = [entry, *(piece(item, "", width=width) for item in items)]
    sizes: list[Shape | None] = [None]
    known: Shape = drawing.net.input
    for i, item in enumerate(items):
        size = output(item) or known
        sizes.append(size if size != known and i + 1 < len(items) else None)
        known = size
    return _Flow(pieces, sizes)


def _arrangement(flow: _Flow, panels: Sequence[Piece], least_width: float, extra_height: float) -> tuple[list[range], list[range]]:
    """Columns of the flow, and columns of the panels beside it, that make the best page."""
    flow_heights, panel_heights = [drawn.height for drawn in flow.pieces], [panel.height for panel in panels]
    beside = [_columns(panel_heights, count, GUTTER / 2) for count in range(1, len(panels) + 1)] or [[]]
    best: tuple[float, list[range], list[range]] | None = None
    for count in range(1, min(len(flow_heights), MOST_COLUMNS) + 1):
        columns = _columns(flow_heights, count, GAP)
        badness = []
        for panel_columns in beside:
            width, height = _extent(flow, columns, panels, panel_columns)
            whole, high = max(width, least_width), height + extra_height
            badness.append(abs(log(whole / high / ASPECT)) + EMPTINESS * log(whole * high))
            if best is None or badness[-1] < best[0]:
                best = (badness[-1], columns, panel_columns)
        if best is not None and count > 8 and min(badness) > best[0] + 1:
            break  # ever flatter
    assert best is not None
    return best[1], best[2]


def _columns(heights: Sequence[float], count: int, gap: float) -> list[range]:
    """Pieces of these heights in at most `count` columns, the tallest of which is as low as can be."""
    sums = [0.0, *accumulate(height + gap for height in heights)]

    def filled(limit: float) -> list[range]:
        columns, begin = [], 0
        for i in range(1, len(heights)):
            if sums[i + 1] - sums[begin] > limit:
                columns.append(range(begin, i))
                begin = i
        return [*columns, range(begin, len(heights))]

    low, high = max(heights), sums[-1]
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if len(filled(middle)) <= count else (middle, high)
    return filled(high)


def _extent(flow: _Flow, columns: Sequence[range], panels: Sequence[Piece], panel_columns: Sequence[range]) -> tuple[float, float]:
    """Width and height of what `_body` draws."""
    widths = [max(flow.pieces[i].left for i in column) + max(flow.right(i) for i in column) for column in columns]
    heights = [sum(flow.pieces[i].height + GAP for i in column) + GAP for column in columns]
    widths += [max(panels[i].width for i in column) for column in panel_columns]
    heights += [sum(panels[i].height + GUTTER / 2 for i in column) for column in panel_columns]
    return sum(widths) + GUTTER * (len(widths) - 1), max(heights)


def _body(
    flow: _Flow, columns: Sequence[range], panels: Sequence[Piece], panel_columns: Sequence[range]
) -> tuple[list[Mark], float, float]:
    """The columns side by side, joined by lines, and the panels behind them; their width and height."""
    marks: list[Mark] = []
    x = height = 0.0
    leaving: tuple[float, float] | None = None
    for column in columns:
        axis = x + max(flow.pieces[i].left for i in column)
        y = 0.0 if len(columns) == 1 else GAP
        if leaving is not None:
            gutter, below = x - GUTTER / 2, leaving[1] + GAP
            points = (leaving, (leaving[0], below), (gutter, below), (gutter, 0), (axis, 0), (axis, y))
            marks.append(Line(points, arrow=flow.pieces[column[0]].head))
            height = max(height, below)
        for i in column:
            if i > column[0]:
                marks.append(Line(((axis, y), (axis, y + GAP)), arrow=flow.pieces[i].head))
                y += GAP
            marks += flow.pieces[i].at(axis, y)
            y += flow.pieces[i].height
            size = flow.sizes[i]
            if size is not None:
                marks.append(size_note(size, y).shifted(axis, 0))
        leaving = (axis, y)
        height = max(height, y)
        x = axis + max(flow.right(i) for i in column) + GUTTER
    for column in panel_columns:
        y = 0.0
        for i in column:
            marks += panels[i].at(x + panels[i].left, y)
            height = max(height, y + panels[i].height)
            y += panels[i].height + GUTTER / 2
        x += max(panels[i].width for i in column) + GUTTER
    return marks, x - GUTTER, height


def _panel(panel: Panel) -> Piece:
    """A cell with its title and its notes."""
    inner = piece(panel.wiring, panel.cells[0])
    lines = [line for note in panel.notes for line in _wrapped(note, max(inner.width, SHORTEST_NOTE), NOTE)]
    title_width = text_width(panel.title, BYLINE + 1, bold=True)
    least = 2 * FRAME_PAD + max([title_width, *(text_width(line, NOTE) for line in lines)])
    left = inner.left + FRAME_PAD
    right = max(inner.right + FRAME_PAD, least - left)
    top = FRAME_HEAD + 8
    height = top + inner.height + FRAME_PAD + NOTE_STEP * len(lines)
    marks: list[Mark] = [Rect(-left, 0, left + right, height, "frame", panel.title.replace(" ", "-"))]
    marks.append(Text(FRAME_PAD - left, 9, panel.title, BYLINE + 1, "left", bold=True))
    marks += inner.at(0, top)
    y = top + inner.height + FRAME_PAD
    marks += [Text(FRAME_PAD - left, y + NOTE_STEP * i, line, NOTE, "left", colour=GREY) for i, line in enumerate(lines)]
    return Piece(left, right, height, tuple(marks), head=False)


def _wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """The text in lines of about this width, broken behind spaces and hyphens, and within words that are longer than a line."""
    lines = [""]
    for word in re.findall(rf"[^ -]{{0,{LONGEST_WORD}}}[ -]?", text):
        if lines[-1] and text_width(lines[-1] + word.rstrip(), size, bold=bold) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]
