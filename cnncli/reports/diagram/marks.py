"""The marks of a diagram and how wide its texts are. All lengths are points (1/72 inch); x grows to the right, y downwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

FONT = ("DejaVu Sans", "Verdana", "sans-serif")  # the first comes with matplotlib; the second is as wide, where an SVG is shown without it
TITLE, NOTE = 8.0, 7.0  # sizes of what a box says: its operation, and the rest


class Rect(NamedTuple):
    """A box or a frame with rounded corners. kind: its colour; gid: the layer it stands for, its id in an SVG."""

    left: float
    top: float
    width: float
    height: float
    kind: str
    gid: str = ""

    def shifted(self, x: float, y: float) -> Rect:
        """The same, moved."""
        return self._replace(left=self.left + x, top=self.top + y)


class Text(NamedTuple):
    """A line of text. x: of its left end, centre or right end, as `anchor` says; y: of the middle of its letters."""

    x: float
    y: float
    text: str
    size: float
    anchor: str = "center"
    bold: bool = False
    colour: str = "black"

    def shifted(self, x: float, y: float) -> Text:
        """The same, moved."""
        return self._replace(x=self.x + x, y=self.y + y)

    @property
    def left(self) -> float:
        """Of its first letter."""
        return self.x - {"left": 0.0, "center": 0.5, "right": 1.0}[self.anchor] * text_width(self.text, self.size, bold=self.bold)


class Line(NamedTuple):
    """A line along points: with rounded corners, or `curved`, smooth and vertical at each point."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = True
    dashed: bool = False
    curved: bool = False

    def shifted(self, x: float, y: float) -> Line:
        """The same, moved."""
        return self._replace(points=tuple((px + x, py + y) for px, py in self.points))


class Disc(NamedTuple):
    """The circle with a plus sign in which branches are added."""

    x: float
    y: float
    gid: str = ""

    def shifted(self, x: float, y: float) -> Disc:
        """The same, moved."""
        return self._replace(x=self.x + x, y=self.y + y)


Mark = Rect | Text | Line | Disc


@dataclass(frozen=True)
class Piece:
    """A drawn part of a net. The flow enters it at (0, 0) and leaves it at (0, height); it reaches `left` and `right` of that axis.

    head: whether the line that enters ends here, with an arrowhead; else it goes on inside.
    body: how far left and right its own box reaches, where lines may meet it from the side.
    """

    left: float
    right: float
    height: float
    marks: tuple[Mark, ...] = field(repr=False)
    head: bool = True

    @property
    def width(self) -> float:
        """From its left to its right end."""
        return self.left + self.right

    def at(self, x: float, y: float) -> list[Mark]:
        """Its marks, with the entry moved to (x, y)."""
        return [mark.shifted(x, y) for mark in self.marks]

    def with_marks(self, marks: Iterable[Mark]) -> Piece:
        """The same extent, with more marks behind its own."""
        return replace(self, marks=(*marks, *self.marks))


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a line of text is. Letters that the font lacks are as wide as the boxes that are drawn in their place."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    properties = FontProperties(family=FONT[0], size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        width: float = text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0]
    return width
