"""From the items of a drawing to marks on paper: boxes under one another, branches side by side, shortcuts around them."""

from __future__ import annotations

from collections.abc import Sequence

from cnncli.arch.drawing.plan import Box, Frame, Item, Parallel, Series, Wiring, output
from cnncli.arch.layers import Shape
from cnncli.reports.diagram.marks import NOTE, TITLE, Disc, Line, Mark, Piece, Rect, Text, text_width
from cnncli.reports.shape import size_text

GAP = 14.0  # between boxes under one another: an arrow, and beside it the size of what flows
SIDE_GAP = 12.0  # between branches
LANE = 9.0  # between a box and a shortcut beside it
RADIUS = 6.0  # of an addition
BAR = 13.0  # height of a concatenation
PAD = 6.0  # between a box and its text
WORD_GAP = 10.0  # between a layer's name and what follows it in its box: more than a space, as they are no one phrase
NOTE_SPACE = 5.0  # between an arrow and what is written beside it
TITLE_LINE, NOTE_LINE = 11.0, 9.5  # heights of lines of text
FRAME_PAD, FRAME_HEAD = 8.0, 14.0
STACK = 3.0  # the sheets behind what repeats
GREY = "#333333"  # 4.5 : 1 and more against each colour of a box, as WCAG 2 asks of small letters


def piece(item: Item, prefix: str = "", *, width: float = 0.0) -> Piece:
    """An item on paper. prefix: the path of the frame around it, which names in it leave out. width: the least of a box."""
    match item:
        case Box(kind="add"):
            drawn = _addition(item)
        case Box(kind="concat"):
            drawn = _bar(item, width / 2, width / 2)
        case Box():
            drawn = _box(item, prefix, width)
        case Series():
            drawn = series(item.items, prefix)
        case Parallel():
            drawn = _parallel(item, prefix)
        case Frame():
            drawn = _frame(item, prefix)
        case Wiring():
            from cnncli.reports.diagram.wiring import wiring

            drawn = wiring(item, prefix)
    return drawn


def series(items: Sequence[Item], prefix: str, *, before: Shape | None = None, width: float = 0.0) -> Piece:
    """Items under one another; beside the arrows the sizes where they change. before: the size that enters, None not to write any."""
    width = max([width, *(box_width(item, prefix) for item in items if isinstance(item, Box))])
    marks: list[Mark] = []
    left = right = y = 0.0
    pieces = [piece(item, prefix, width=width) for item in items]
    for i, drawn in enumerate(pieces):
        if i:
            marks.append(Line(((0, y), (0, y + GAP)), arrow=drawn.head))
            size = output(items[i - 1])
            if before is not None and size is not None and size != before:
                before = size
                marks.append(size_note(size, y))
                right = max(right, size_note_width(size))
            y += GAP
        marks += drawn.at(0, y)
        y += drawn.height
        left, right = max(left, drawn.left), max(right, drawn.right)
    return Piece(left, right, y, tuple(marks), head=bool(pieces) and pieces[0].head)


def size_note(size: Shape, y: float) -> Text:
    """The size of what flows, beside the arrow that begins at y."""
    return Text(NOTE_SPACE, y + GAP / 2 - 1, size_text(size), NOTE, "left", colour=GREY)


def size_note_width(size: Shape) -> float:
    """How far it reaches right of the arrow."""
    return NOTE_SPACE + text_width(size_text(size), NOTE)


def shown_name(path: str, prefix: str) -> str:
    """A path without the frame's part of it."""
    return path.removeprefix(f"{prefix}.") if prefix and path.startswith(f"{prefix}.") else path.rpartition(".")[2] if prefix else path


def box_width(box: Box, prefix: str) -> float:
    """The least width that holds its text."""
    if box.kind in ("add", "concat"):
        return 0.0
    name, after = shown_name(box.path, prefix), ", ".join(box.after)
    lines = [text_width(box.label, TITLE), text_width(", ".join(box.before), NOTE)]
    lines.append(text_width(name, NOTE) + (WORD_GAP + text_width(after, NOTE) if after else 0.0))
    return max(lines) + 2 * PAD


def _box(box: Box, prefix: str, least: float) -> Piece:
    width = max(least, box_width(box, prefix))
    half = width / 2
    name, after = shown_name(box.path, prefix), ", ".join(box.after)
    y = 3.0
    marks: list[Mark] = []
    if box.before:
        marks.append(Text(0, y + NOTE_LINE / 2, ", ".join(box.before), NOTE, colour=GREY))
        y += NOTE_LINE
    marks.append(Text(0, y + TITLE_LINE / 2, box.label, TITLE))
    y += TITLE_LINE
    if after:
        marks.append(Text(PAD - half, y + NOTE_LINE / 2, name, NOTE, "left", colour=GREY))
        marks.append(Text(half - PAD, y + NOTE_LINE / 2, after, NOTE, "right", colour=GREY))
    else:
        marks.append(Text(0, y + NOTE_LINE / 2, name, NOTE, colour=GREY))
    y += NOTE_LINE + 2
    return Piece(half, half, y, (Rect(-half, 0, width, y, box.kind, box.path), *marks))


def _addition(box: Box) -> Piece:
    """The circle; what follows it is written beside the line that leaves it."""
    marks: list[Mark] = [Disc(0, RADIUS, box.path)]
    height = 2 * RADIUS
    right = RADIUS
    if box.after:
        text = ", ".join(box.after)
        marks.append(Line(((0, height), (0, height + NOTE_LINE)), arrow=False))
        marks.append(Text(NOTE_SPACE, height + NOTE_LINE / 2, text, NOTE, "left", colour=GREY))
        height += NOTE_LINE
        right = NOTE_SPACE + text_width(text, NOTE)
    return Piece(RADIUS, right, height, tuple(marks))


def _bar(box: Box, left: float, right: float) -> Piece:
    """The wide, thin box of a concatenation, from `left` of the axis to `right` of it."""
    text = ", ".join((box.label, *box.after))
    short_by = text_width(text, NOTE) + 2 * PAD - left - right
    left, right = left + max(0.0, short_by / 2), right + max(0.0, short_by / 2)
    marks = (Rect(-left, 0, left + right, BAR, "concat", box.path), Text((right - left) / 2, BAR / 2, text, NOTE))
    return Piece(left, right, BAR, marks)


def _frame(frame: Frame, prefix: str) -> Piece:
    """A frame with its name; where it stands for several, sheets behind it and `x 3`."""
    name = shown_name(frame.name, prefix) if prefix else frame.name
    inner = series(frame.item.items, frame.path, before=_size_before(frame))
    times = f"x {frame.times}" if frame.times > 1 else ""
    left = max(inner.left + FRAME_PAD, text_width(name, NOTE, bold=True) + 14)
    right = max(inner.right + FRAME_PAD, text_width(times, TITLE + 1, bold=True) + 14)
    height = FRAME_HEAD + inner.height + FRAME_PAD
    sheets = 2 if times else 0
    marks: list[Mark] = []
    marks += [Rect(STACK * sheet - left, STACK * sheet, left + right, height, "sheet") for sheet in range(sheets, 0, -1)]
    # Its id is the name, not the path: where closed blocks are folded, that is the id of the one box inside.
    marks.append(Rect(-left, 0, left + right, height, "frame", frame.name))
    marks.append(Text(6 - left, 8, name, NOTE, "left", bold=True, colour=GREY))
    if times:
        marks.append(Text(right - 6, 8, times, TITLE + 1, "right", bold=True))
    marks.append(Line(((0, 0), (0, FRAME_HEAD)), arrow=inner.head))
    marks += inner.at(0, FRAME_HEAD)
    below = sheets * STACK
    marks.append(Line(((0, FRAME_HEAD + inner.height), (0, height + below)), arrow=False))
    return Piece(left, right + below, height + below, tuple(marks), head=False)


def _size_before(frame: Frame) -> Shape | None:
    """The size that enters a frame; None where sizes within it are not written.

    They are where the frame holds a plain series, whose boxes stand alone on their line, and all that it stands for have
    the same sizes.
    """
    inner = frame.item.items
    rows = [box.rows for box in inner if isinstance(box, Box) and box.rows]
    if len(rows) < len(inner):
        return None
    sizes = [[row.output for row in of_box] for of_box in rows]
    steady = all(of_box == of_box[: len(of_box) // frame.times] * frame.times for of_box in sizes)
    return rows[0][0].inputs[0] if rows and steady else None


def _parallel(item: Parallel, prefix: str) -> Piece:
    bodies = [piece(branch, prefix) for branch in item.branches if branch.items]
    if item.merge.kind == "add" or len(bodies) == 1:
        return _around(item, prefix)
    return _side_by_side(item, prefix)


def _side_by_side(item: Parallel, prefix: str) -> Piece:
    """Branches that are concatenated, from left to right in the order of the concatenation; an identity is a line."""
    fork = 7.0
    bodies = [piece(branch, prefix) if branch.items else Piece(4, 4, 0, (), head=False) for branch in item.branches]
    width = sum(body.width for body in bodies) + SIDE_GAP * (len(bodies) - 1)
    height = max(body.height for body in bodies)
    x = -width / 2
    marks: list[Mark] = []
    axes: list[float] = []
    bottom = fork + GAP + height + GAP
    for body, branch in zip(bodies, item.branches, strict=True):
        axis = x + body.left
        axes.append(axis)
        if branch.items:
            marks += [Line(((0, fork), (axis, fork), (axis, fork + GAP)), arrow=body.head), *body.at(axis, fork + GAP)]
            marks.append(Line(((axis, fork + GAP + body.height), (axis, bottom))))
        else:
            marks.append(Line(((0, fork), (axis, fork), (axis, bottom))))
        x += body.width + SIDE_GAP
    bar = _bar(item.merge, width / 2, width / 2)
    marks += [Line(((0, 0), (0, fork)), arrow=False), *bar.at(0, bottom)]
    return Piece(bar.left, bar.right, bottom + bar.height, tuple(marks), head=False)


def beside(item: Parallel) -> list[Series]:
    """The branches that are drawn around another: all but the first with layers."""
    return sorted(item.branches, key=lambda branch: not branch.items)[1:]


def _around(item: Parallel, prefix: str) -> Piece:
    """The first branch with layers on the axis, the others to its right: a line for an identity, dashed where it has layers."""
    others = beside(item)
    main = next((branch for branch in item.branches if branch.items), item.branches[0])
    fork = 6.0 if others else 0.0
    body = piece(main, prefix)
    top = fork + GAP - 2
    bottom = top + body.height + GAP - 2
    marks: list[Mark] = [Line(((0, 0), (0, top)), arrow=body.head), *body.at(0, top), Line(((0, top + body.height), (0, bottom)))]
    x = body.right
    lanes: list[tuple[float, Piece | None]] = []
    for branch in others:
        side = piece(branch, prefix) if branch.items else None
        axis = x + (LANE if side is None else SIDE_GAP + side.left)
        lanes.append((axis, side))
        x = axis + (0 if side is None else side.right)
    if item.merge.kind == "add":
        merge, meeting = _addition(item.merge), bottom + RADIUS
    else:
        merge, meeting = _bar(item.merge, body.left, x + 4), bottom
    for axis, side in lanes:
        end = ((axis, meeting), (RADIUS, meeting)) if item.merge.kind == "add" else ((axis, meeting),)
        if side is None:
            marks.append(Line(((0, fork), (axis, fork), *end)))
        else:
            middle = max(fork + GAP - 2, (fork + bottom - side.height) / 2)
            marks += [Line(((0, fork), (axis, fork), (axis, middle)), arrow=side.head, dashed=True), *side.at(axis, middle)]
            marks.append(Line(((axis, middle + side.height), *end), dashed=True))
    marks += merge.at(0, bottom)
    left, right = max(body.left, merge.left), max(x + 2, merge.right)
    return Piece(left, right, bottom + merge.height, tuple(marks), head=False)
