"""The image moved by a few pixels, so that a stride meets the pixels that it would skip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncli.arch.checks import check_number
from cnncli.arch.layers import Layer, Shape, ShapeError
from cnncli.arch.window import Window

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Shift(Layer):
    """The image moved up and left by `pixels`; what moves in at the bottom and the right is zero.

    A 1x1 convolution with stride 2 sees the even pixels; behind `Shift()` it sees the odd ones.
    """

    pixels: int = 1

    def __post_init__(self) -> None:
        check_number("shift", "pixels", self.pixels, least=1)

    def windows(self, shape: Shape) -> tuple[Window, Window]:
        """One pixel, `pixels` further down and to the right: where padding moves a window back, this moves it on."""
        return Window(1, padding=-self.pixels), Window(1, padding=-self.pixels)

    def output(self, shape: Shape) -> Shape:
        """The shape of the input; ShapeError where nothing of the image would be left."""
        if len(shape) != 3:
            raise ShapeError(f"{self.operation()} needs an image, channels x height x width, but its input is a vector of {shape[0]}")
        if min(shape[1:]) < self.pixels:
            text = f"{self.operation()} moves more than the whole image: its input is {shape[1]}x{shape[2]}"
            raise ShapeError(text, too_small=True)
        return shape

    def operation(self) -> str:
        return f"shift {self.pixels} up and left"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.ZeroPad2d((-self.pixels, self.pixels, -self.pixels, self.pixels))
