"""Which pixels a unit of a layer sees: the receptive field of a tap, as a box in the image."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import NamedTuple

from torch import Tensor, nn

from cnncli.arch.receptive import Axis
from cnncli.engine.layers import Tap
from cnncli.errors import CnnError
from cnncli.models.tracing.trace import trace_model


class Box(NamedTuple):
    """Pixels of the image: rows top..top+height-1, columns left..left+width-1. Where it reaches beyond the image, padding is seen."""

    top: int
    left: int
    height: int
    width: int


class Receptive(NamedTuple):
    """The receptive field of the units of a map, along rows and columns; grid: how many different ones there are along each."""

    axes: tuple[Axis, Axis]
    grid: tuple[int, int]

    def box(self, row: int, column: int) -> Box:
        """Of the unit at (row, column)."""
        spans = []
        for axis, units, place in zip(self.axes, self.grid, (row, column), strict=True):
            centre = axis.start + (place * axis.jump if units > 1 else 0)
            spans.append((floor(centre - (axis.size - 1) / 2), axis.size))
        return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def receptive_fields(model: nn.Module, taps: Sequence[Tap], size: tuple[int, int, int]) -> list[Receptive]:
    """What the units of each tap see of an image of `size` (C, H, W): sizes and steps by Dumoulin and Visin 2016, whatever the forward pass
    looks like. Where that cannot be told, where mirrored borders or repeated units make units see what lies elsewhere, or where all units
    see the same, as behind squeeze and excitation, it is the whole image.
    """
    whole = Receptive((Axis(size[1], 1, (size[1] - 1) / 2), Axis(size[2], 1, (size[2] - 1) / 2)), (1, 1))
    was = model.training
    try:
        sights = trace_model(model.eval(), size).sights
    except (CnnError, RuntimeError, NotImplementedError):  # its forward pass depends on the numbers in the image
        return [whole] * len(taps)
    finally:
        model.train(was)
    found = []
    for tap in taps:
        sight = None if tap.given else sights.get((tap.path, tap.run))
        if sight is None or sight.field is None or sight.axes != (2, 3) or sight.elsewhere:
            found.append(whole)
            continue
        found.append(Receptive((sight.field.height, sight.field.width), sight.grid))
    return found


def cropped(image: Tensor, box: Box, fill: int) -> Tensor:
    """The pixels [C, h, w] of a box of an image [C, H, W]; `fill` where it reaches beyond the image."""
    out = image.new_full((image.shape[0], box.height, box.width), fill)
    top, left = max(0, box.top), max(0, box.left)
    bottom, right = min(image.shape[1], box.top + box.height), min(image.shape[2], box.left + box.width)
    if top < bottom and left < right:
        out[:, top - box.top : bottom - box.top, left - box.left : right - box.left] = image[:, top:bottom, left:right]
    return out
