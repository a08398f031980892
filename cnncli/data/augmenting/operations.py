"""Operations on whole batches in which every sample may meet another operation at another strength.

Samples are grouped by operation, and each operation runs once on its group. Which sample meets what is known on the CPU: asking
a GPU for the sizes of the groups would make it wait.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augmenting.colour import autocontrast, brightness, color, contrast, equalize, hue, posterize, sharpness, solarize
from cnncli.data.augmenting.geometry import inverse_matrices, warp
from cnncli.data.augmenting.sending import send

PARAMETERS = 6  # of an affine map; a colour needs two


class Operation(IntEnum):
    """What can happen to an image, and what its value means. The geometric ones come first, so that they form one group.

    IDENTITY: nothing. SHEAR_X, SHEAR_Y: value = tangent of the angle. TRANSLATE_X, TRANSLATE_Y: pixels, cut to a whole number.
    TRANSLATE_X_SHARE, TRANSLATE_Y_SHARE: share of the image's width or height, the pixels cut to a whole number.
    ROTATE: degrees, against the clock. BRIGHTNESS, COLOR, CONTRAST, SHARPNESS: factor of 0 or more, 1 changes nothing.
    POSTERIZE: bits that are kept, 0..8. SOLARIZE: pixels of this value (0..255) or more are inverted. AUTO_CONTRAST, EQUALIZE: no value.
    HUE: turn of the colour circle, -0.5..0.5.
    """

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    TRANSLATE_X_SHARE = 5
    TRANSLATE_Y_SHARE = 6
    ROTATE = 7
    BRIGHTNESS = 8
    COLOR = 9
    CONTRAST = 10
    SHARPNESS = 11
    POSTERIZE = 12
    SOLARIZE = 13
    AUTO_CONTRAST = 14
    EQUALIZE = 15
    HUE = 16


COLOURS: dict[Operation, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Operation.BRIGHTNESS: brightness,
    Operation.COLOR: color,
    Operation.CONTRAST: contrast,
    Operation.SHARPNESS: sharpness,
    Operation.POSTERIZE: posterize,
    Operation.SOLARIZE: solarize,
    Operation.AUTO_CONTRAST: autocontrast,
    Operation.EQUALIZE: equalize,
    Operation.HUE: hue,
}


def operate(batch: torch.Tensor, operations: npt.NDArray[np.int8], values: npt.NDArray[np.float64], fill: tuple[int, ...]) -> torch.Tensor:
    """One operation on each sample: uint8 [B, C, H, W], C being 1 or 3 -> uint8 of the same shape and device.

    operations: int8 [B], on the CPU, of Operation. values: float64 [B], on the CPU, what Operation says of each.
    fill: what geometric operations uncover, one value in 0..255 per channel; empty means 0.
    """
    order = np.argsort(operations, kind="stable")
    operations, values = operations[order], values[order]
    first, first_colour = np.searchsorted(operations, [Operation.SHEAR_X, Operation.BRIGHTNESS])
    if first == len(operations):
        return batch
    backwards = np.empty_like(order)
    backwards[order] = np.arange(len(order))
    places = send(np.stack([order, backwards]), batch.device)
    parameters = send(_parameters(operations, values, batch.shape[2], batch.shape[3]), batch.device)
    batch = batch.index_select(0, places[0])
    parts = [batch[:first]]
    if first_colour > first:
        parts.append(warp(batch[first:first_colour], parameters[first:first_colour], fill))
    bounds = np.searchsorted(operations, [*COLOURS, max(COLOURS) + 1])
    for operation, start, stop in zip(COLOURS, bounds[:-1], bounds[1:], strict=True):
        if stop > start:
            parts.append(COLOURS[operation](batch[start:stop], parameters[start:stop]))
    return torch.cat(parts).index_select(0, places[1])


def _parameters(operations: npt.NDArray[np.int8], values: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float32]:
    """What the operations compute with, from float64 rounded once: float32 [B, 6].

    Geometric: the affine map from the new pixel to the old one. Colours: (value, 1 - value, ...); posterize: the mask of its bits.
    """
    parameters = np.zeros((len(operations), PARAMETERS))
    parameters[:, 0], parameters[:, 1] = values, 1 - values
    kept = operations == Operation.POSTERIZE
    parameters[kept, 0] = 256 - 2.0 ** (8 - np.trunc(values[kept]))
    first, last = np.searchsorted(operations, [Operation.SHEAR_X, Operation.BRIGHTNESS])
    if last > first:
        parameters[first:last] = _geometry(operations[first:last], values[first:last], height, width)
    return parameters.astype(np.float32)


def _geometry(operations: npt.NDArray[np.int8], values: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """Every value as one of (shear x, shear y, right, down, angle), the others 0 -> inverse matrices [B, 6]."""

    def of(operation: Operation) -> npt.NDArray[np.float64]:
        return np.where(operations == operation, values, 0.0)

    return inverse_matrices(
        shear_x=of(Operation.SHEAR_X),
        shear_y=of(Operation.SHEAR_Y),
        right=np.trunc(of(Operation.TRANSLATE_X) + width * of(Operation.TRANSLATE_X_SHARE)),
        down=np.trunc(of(Operation.TRANSLATE_Y) + height * of(Operation.TRANSLATE_Y_SHARE)),
        degrees=of(Operation.ROTATE),
        height=height,
        width=width,
    )
