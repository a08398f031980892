"""The receptive field: which pixels of the input one unit of a layer can see.

Along one axis, with r the size, j the jump (distance in input pixels between neighbouring units) and s the centre of
the first unit (0 = centre of the first input pixel; padding makes it negative or keeps it at 0):

    r' = r + (span - 1) j        j' = j S        s' = s + ((span - 1)/2 - P) j

(Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", ch. 2 and 4.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from cnncli.arch.window import Window

Number = int | Fraction


@dataclass(frozen=True)
class Axis:
    """The receptive field along one axis, in input pixels."""

    size: int = 1
    jump: Number = 1
    start: Number = 0

    def through(self, window: Window) -> Axis:
        """The field of a unit whose window slides over units with this field."""
        reach = window.span - 1
        size = self.size + reach * self.jump
        return Axis(
            size=-(-Fraction(size).numerator // Fraction(size).denominator),
            jump=self.jump * window.stride,
            start=self.start + (Fraction(reach, 2) - window.padding) * self.jump,
        )

    def union(self, other: Axis) -> Axis:
        """The smallest field that holds both; the larger of the two where they share a centre."""
        first = min(self.start - Fraction(self.size - 1, 2), other.start - Fraction(other.size - 1, 2))
        last = max(self.start + Fraction(self.size - 1, 2), other.start + Fraction(other.size - 1, 2))
        return Axis(size=int(last - first) + 1, jump=max(self.jump, other.jump), start=(first + last) / 2)


@dataclass(frozen=True)
class Field:
    """The receptive field of one unit, (height, width)."""

    height: Axis = Axis()
    width: Axis = Axis()

    def through(self, windows: tuple[Window, Window] | None) -> Field:
        """After a layer with these windows (height, width); None means that the layer looks at single units."""
        if windows is None:
            return self
        return Field(self.height.through(windows[0]), self.width.through(windows[1]))


def union(fields: Sequence[Field]) -> Field:
    """The field of a unit that combines several branches."""
    height, width = fields[0].height, fields[0].width
    for field in fields[1:]:
        height, width = height.union(field.height), width.union(field.width)
    return Field(height, width)
