"""Which operation each sample meets, and how strongly: TrivialAugment, RandAugment and colour jitter.

A policy is drawn for all samples of an epoch at once, as layers that are applied one after the other: operations int8 [N, L] and
values float64 [N, L], as `operations.operate` takes them, keyed by (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnncli.data.augmenting.operations import Operation
from cnncli.data.keyed import AUTO, JITTER, keyed_integers, keyed_uniform

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

BINS = 30  # strengths 0..30, of both papers' code
_PER_LAYER = 3  # purposes of one layer: operation, strength, sign


@dataclass(frozen=True)
class Layers:
    """operations: int8 [N, L] of Operation. values: float64 [N, L]. Both stay on the CPU, see `operations`."""

    operations: npt.NDArray[np.int8]
    values: Numbers


@dataclass(frozen=True)
class _Choice:
    """One entry of a space: the value at strength t = 0..1, and whether it is negated half of the time.

    A signed value is the distance from `rest`, the value that changes nothing.
    """

    operation: Operation
    value: Callable[[Numbers], Numbers] = np.zeros_like
    signed: bool = False
    rest: float = 0.0


def _signed(operation: Operation, most: float, rest: float = 0.0) -> _Choice:
    return _Choice(operation, lambda t: most * t, signed=True, rest=rest)


def _space(*, shear: float, x: _Choice, y: _Choice, degrees: float, colour: float, bits: float) -> tuple[_Choice, ...]:
    """The fourteen operations of both papers' code, in torchvision's order."""
    return (
        _Choice(Operation.IDENTITY),
        _signed(Operation.SHEAR_X, shear),
        _signed(Operation.SHEAR_Y, shear),
        x,
        y,
        _signed(Operation.ROTATE, degrees),
        _signed(Operation.BRIGHTNESS, colour, rest=1),
        _signed(Operation.COLOR, colour, rest=1),
        _signed(Operation.CONTRAST, colour, rest=1),
        _signed(Operation.SHARPNESS, colour, rest=1),
        _Choice(Operation.POSTERIZE, lambda t: np.rint(8 - bits * t)),
        _Choice(Operation.SOLARIZE, lambda t: 255 * (1 - t)),
        _Choice(Operation.AUTO_CONTRAST),
        _Choice(Operation.EQUALIZE),
    )


# Mueller & Hutter 2021, table 1: the wide space.
TRIVIAL_WIDE = _space(
    shear=0.99, x=_signed(Operation.TRANSLATE_X, 32), y=_signed(Operation.TRANSLATE_Y, 32), degrees=135, colour=0.99, bits=6
)
# Cubuk et al. 2019, figure 2, with the ranges of AutoAugment (Cubuk et al. 2018, table 6); translations in shares of its 331 pixels.
RAND = _space(
    shear=0.3,
    x=_signed(Operation.TRANSLATE_X_SHARE, 150 / 331),
    y=_signed(Operation.TRANSLATE_Y_SHARE, 150 / 331),
    degrees=30,
    colour=0.9,
    bits=4,
)


def trivial_augment(seed: int, epoch: int, indices: Indices) -> Layers:
    """TrivialAugment (Mueller & Hutter 2021, algorithm 1): one operation a sample, at a strength of 0..30, each equally likely."""
    strength = keyed_integers(seed, epoch, indices, AUTO + 1, BINS + 1)
    return _stacked([_layer(TRIVIAL_WIDE, seed, epoch, indices, layer=0, strength=strength / BINS)])


def rand_augment(seed: int, epoch: int, indices: Indices, *, layers: int, magnitude: int) -> Layers:
    """RandAugment (Cubuk et al. 2019, figure 2): `layers` operations a sample, with replacement, all at strength `magnitude`, 0..30."""
    strength = np.full(len(indices), magnitude / BINS)
    return _stacked([_layer(RAND, seed, epoch, indices, layer=layer, strength=strength) for layer in range(layers)])


def colour_jitter(seed: int, epoch: int, indices: Indices, *, strength: float, turn: float) -> Layers:
    """Brightness, contrast and saturation by factors from max(0, 1 - strength)..1 + strength, hue by -turn..turn, in random order.

    Uniform and independent of each other, as torchvision's ColorJitter. Three layers, and a fourth where `turn` is not 0.
    """
    kinds = [Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR] if strength else []
    low, high = [max(0.0, 1 - strength)] * len(kinds), [1 + strength] * len(kinds)
    if turn:
        kinds, low, high = [*kinds, Operation.HUE], [*low, -turn], [*high, turn]
    numbers = [keyed_uniform(seed, epoch, indices, JITTER + kind) for kind in kinds]
    values = np.array(low) + np.stack(numbers, axis=1) * (np.array(high) - np.array(low))
    # A random order: that of one more random number each.
    order = np.argsort([keyed_uniform(seed, epoch, indices, JITTER + 100 + kind) for kind in kinds], axis=0).T
    return Layers(np.array(kinds, dtype=np.int8)[order], np.take_along_axis(values, order, axis=1))


def joined(layers: list[Layers]) -> Layers | None:
    """These layers one after the other; None for none."""
    if not layers:
        return None
    return Layers(*(np.concatenate([getattr(part, name) for part in layers], axis=1) for name in ("operations", "values")))


def _layer(
    space: tuple[_Choice, ...], seed: int, epoch: int, indices: Indices, *, layer: int, strength: Numbers
) -> tuple[npt.NDArray[np.int8], Numbers]:
    first = AUTO + _PER_LAYER * layer
    chosen = keyed_integers(seed, epoch, indices, first, len(space))
    sign = 1 - 2 * keyed_integers(seed, epoch, indices, first + 2, 2)
    values = np.zeros(len(indices))
    for number, choice in enumerate(space):
        here = chosen == number
        value = choice.value(strength[here])
        values[here] = choice.rest + (sign[here] * value if choice.signed else value)
    return np.array([choice.operation for choice in space], dtype=np.int8)[chosen], values


def _stacked(layers: list[tuple[npt.NDArray[np.int8], Numbers]]) -> Layers:
    operations, values = zip(*layers, strict=True)
    return Layers(np.stack(operations, axis=1), np.stack(values, axis=1))
