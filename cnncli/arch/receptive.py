"""The receptive field: which pixels of the input one unit of a layer can see.

Along one axis, with r the size, j the jump (distance in input pixels between neighbouring units) and s the centre of
the first unit (0 = centre of the first input pixel; padding moves it left):

    r' = r + (span - 1) j        j' = j S        s' = s + ((span - 1)/2 - P) j

(Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", ch. 2 and 4.)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from cnncli.arch.window import Window


class Axis(NamedTuple):
    """The receptive field along one axis, in input pixels. Whole and half pixels are exact in a float."""

    size: int = 1
    jump: int | float = 1  # a fraction only after an adaptive pooling that divides its input unevenly
    start: float = 0.0

    def through(self, window: Window, stride: float | None = None) -> Axis:
        """The field of a unit whose window slides over units with this field; `stride` where it is not a whole number."""
        reach = window.span - 1
        return Axis(
            size=ceil(self.size + reach * self.jump),
            jump=self.jump * (window.stride if stride is None else stride),
            start=self.start + (reach / 2 - window.padding) * self.jump,
        )

    def union(self, other: Axis) -> Axis:
        """The smallest field that holds both; the larger of the two where they share a centre."""
        first = min(self.start - (self.size - 1) / 2, other.start - (other.size - 1) / 2)
        last = max(self.start + (self.size - 1) / 2, other.start + (other.size - 1) / 2)
        return Axis(size=ceil(last - first) + 1, jump=max(self.jump, other.jump), start=(first + last) / 2)


class Field(NamedTuple):
    """The receptive field of one unit, (height, width)."""

    height: Axis = Axis()
    width: Axis = Axis()

    def through(self, windows: tuple[Window, Window] | None, strides: tuple[float, float] | None = None) -> Field:
        """After a layer with these windows (height, width); None means that the layer looks at single units."""
        if windows is None:
            return self
        down, across = (None, None) if strides is None else strides
        return Field(self.height.through(windows[0], down), self.width.through(windows[1], across))


def union(fields: Sequence[Field]) -> Field:
    """The field of a unit that combines several branches."""
    height, width = fields[0].height, fields[0].width
    for field in fields[1:]:
        height, width = height.union(field.height), width.union(field.width)
    return Field(height, width)
