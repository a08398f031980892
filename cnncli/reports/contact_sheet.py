"""Contact sheets: a page of small pictures, a row a class; and a page of pictures that a source holds twice. PNG files, for print."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cnncli import atomic
from cnncli.data.facts import Spot
from cnncli.errors import printable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

CELL = 112  # pixels; at 150 dots per inch 19 mm
LARGE_CELL = 168  # of duplicates, to see what differs
GAP = 6
BETWEEN_SPLITS = 22
MARGIN = 28
LABEL = 216  # the column of class names
HEAD = 78
TITLE, NORMAL, SMALL = 24, 16, 13
DOTS_PER_INCH = 150
INK, FAINT, LINE = (20, 20, 20), (110, 110, 110), (222, 222, 222)
MOST_IN_A_SPLIT = {"train": 6, "val": 3, "test": 3}
ALONE = 10  # pictures of a class where there is one split only


class ClassRow(Protocol):
    """See cnncli.data.thumbnails.Row."""

    @property
    def name(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def pictures(self) -> dict[str, list[Image]]: ...


class Alike(Protocol):
    """See cnncli.data.thumbnails.Twice."""

    @property
    def why(self) -> str: ...
    @property
    def spots(self) -> tuple[Spot, ...]: ...
    @property
    def pictures(self) -> tuple[Image, ...]: ...
    @property
    def more(self) -> int: ...


def per_split(splits: Sequence[str]) -> dict[str, int]:
    """How many pictures of a class a sheet has room for, {split: number}."""
    return {splits[0]: ALONE} if len(splits) == 1 else {split: MOST_IN_A_SPLIT.get(split, 3) for split in splits}


def draw_classes(path: Path, rows: Sequence[ClassRow], splits: dict[str, int], *, title: str, left_out: int = 0) -> None:
    """Write a row a class: name, images in each split, and the pictures of each split side by side, none of them cropped.

    splits: {split: all its images}. left_out: classes that are not shown.
    """
    room = per_split(list(splits))
    starts, x = {}, MARGIN + LABEL
    for split in splits:
        starts[split] = x
        x += room[split] * (CELL + GAP) - GAP + BETWEEN_SPLITS
    page, pen = _page(x - BETWEEN_SPLITS + MARGIN, HEAD + len(rows) * (CELL + GAP) + MARGIN + (30 if left_out else 0))
    pen.text((MARGIN, 18), _cut(printable(title), TITLE, page.width - 2 * MARGIN), INK, _font(TITLE))
    for split, start in starts.items():
        pen.text((start, HEAD - 24), f"{split}: {splits[split]:,} images", INK, _font(NORMAL))
    for place, row in enumerate(rows):
        top = HEAD + place * (CELL + GAP)
        pen.line((MARGIN, top - GAP // 2, page.width - MARGIN, top - GAP // 2), LINE)
        _label(pen, row, top)
        for split, start in starts.items():
            for number, picture in enumerate(row.pictures.get(split, ())):
                _place(page, picture, start + number * (CELL + GAP), top)
            if not row.pictures.get(split):
                pen.text((start, top + CELL // 2 - 8), "none", FAINT, _font(SMALL))
    if left_out:
        told = f"The classes with the most and with the fewest images; {left_out:,} between them are not shown."
        pen.text((MARGIN, page.height - MARGIN - 12), told, FAINT, _font(SMALL))
    atomic.write_with(path, lambda temporary: page.save(temporary, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH), optimize=True))


def draw_duplicates(path: Path, groups: Sequence[Alike], *, title: str, left_out: int = 0) -> None:
    """Write pictures that are the same, or nearly, side by side, with split, class and name below each; the gravest first.

    left_out: groups that are not shown.
    """
    column = LARGE_CELL + 64
    most = max((len(group.pictures) for group in groups), default=1)
    beside = 2 if most <= 2 and len(groups) > 3 else 1  # pairs stand two in a row
    wide, tall = max(most, 4 // beside - 1) * column, 24 + LARGE_CELL + 4 + 2 * 17 + 16
    lines = -(-len(groups) // beside)
    page, pen = _page(2 * MARGIN + beside * wide + (beside - 1) * MARGIN, HEAD - 20 + lines * tall + MARGIN + (24 if left_out else 0))
    pen.text((MARGIN, 18), _cut(printable(title), TITLE, page.width - 2 * MARGIN), INK, _font(TITLE))
    for place, group in enumerate(groups):
        start, top = MARGIN + place % beside * (wide + MARGIN), HEAD - 20 + place // beside * tall
        pen.line((start, top - 4, start + wide, top - 4), LINE)
        more = f" and {group.more:,} more" if group.more else ""
        pen.text((start, top), _cut(group.why + more, NORMAL, wide), INK, _font(NORMAL))
        for number, (picture, spot) in enumerate(zip(group.pictures, group.spots, strict=True)):
            x = start + number * column
            page.paste(picture, (x, top + 24 + (LARGE_CELL - picture.height) // 2))
            below = top + 24 + LARGE_CELL + 4
            pen.text((x, below), _cut(f"{spot.split}, {printable(spot.name)}", SMALL, column - 8), INK, _font(SMALL))
            pen.text((x, below + 17), _cut(printable(spot.path), SMALL, column - 8), FAINT, _font(SMALL))
    if left_out:
        pen.text((MARGIN, page.height - MARGIN - 8), f"{left_out:,} more are not shown.", FAINT, _font(SMALL))
    atomic.write_with(path, lambda temporary: page.save(temporary, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH), optimize=True))


def _page(wide: int, tall: int) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (wide, tall), "white")
    return page, ImageDraw.Draw(page)


def _label(pen: ImageDraw, row: ClassRow, top: int) -> None:
    pen.text((MARGIN, top + 6), _cut(printable(row.name), NORMAL, LABEL - 16), INK, _font(NORMAL))
    for line, (split, count) in enumerate(row.counts.items()):
        pen.text((MARGIN, top + 30 + 18 * line), f"{split} {count:,}", FAINT, _font(SMALL))


def _place(page: Image, picture: Image, x: int, y: int) -> None:
    """In the middle of its cell."""
    page.paste(picture, (x + (CELL - picture.width) // 2, y + (CELL - picture.height) // 2))


@cache
def _font(size: int) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Latin, Greek, Cyrillic, Arabic, Hebrew. Letters that it lacks are drawn as boxes."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    # The basic layout knows no shaping, and so gives the same picture with and without libraqm.
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size, layout_engine=ImageFont.Layout.BASIC)


def _cut(text: str, size: int, room: int) -> str:
    """The text, cut in the middle where it is wider than `room` pixels."""
    font = _font(size)
    if font.getlength(text[:1000]) <= room and len(text) <= 1000:
        return text
    kept = min(len(text), 500)
    while kept > 2:
        kept -= 1
        head = (kept + 1) // 2
        shorter = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
        if font.getlength(shorter) <= room:
            return shorter
    return "..."
