"""What does not fit: windows that do not tile their input, what they leave unseen, and the nearest values that fit.

The lecture's example: a 3x3 window with stride 3 on 7 pixels, (7 - 3 + 2*0)/3 + 1 = 2.33. torch rounds such a number down and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cnncli.arch.layers import Conv, Pool
from cnncli.arch.net import Row
from cnncli.arch.window import Window


class Misfit(NamedTuple):
    """A window that does not tile `n` pixels along `axis` (`height`, `width`, or both when they agree).

    size: the output size that torch gives. dropped: pixels of the image, at its end, that no window sees, beside unseen padding.
    overhang: pixels by which the last window of a ceil-rounded pooling reaches past the padded image. strides, paddings,
    inputs: the nearest values that would fit, each with the other numbers unchanged.
    """

    axis: str
    n: int
    window: Window
    size: int
    dropped: int
    unseen_padding: int
    overhang: int
    strides: tuple[int, ...]
    paddings: tuple[int, ...]
    inputs: tuple[int, ...]


def misfits(row: Row) -> tuple[Misfit, ...]:
    """The misfits of a convolution or pooling; () for any other row, and where the windows tile."""
    if not isinstance(row.part, Conv | Pool):
        return ()
    _, height, width = row.inputs[0]
    down, across = row.part.windows(row.inputs[0])
    if (down, height) == (across, width):
        found = _misfit("height and width", height, down)
        return (found,) if found else ()
    both = (_misfit("height", height, down), _misfit("width", width, across))
    return tuple(found for found in both if found)


def _misfit(axis: str, n: int, window: Window) -> Misfit | None:
    if window.fits(n):
        return None
    remainder, size = window.remainder(n), window.size(n)
    unseen_padding = min(remainder, window.padding)
    return Misfit(
        axis=axis,
        n=n,
        window=window,
        size=size,
        dropped=remainder - unseen_padding,
        unseen_padding=unseen_padding,
        overhang=max(0, (size - 1) * window.stride + window.span - (n + 2 * window.padding)),
        strides=window.nearest_strides(n),
        paddings=window.nearest_paddings(n),
        inputs=window.nearest_inputs(n),
    )


class Misfits(NamedTuple):
    """Layers that misfit in the same way: their names in order, the first of them, and how."""

    names: tuple[str, ...]
    row: Row
    misfit: Misfit


def all_misfits(rows: Iterable[Row]) -> tuple[Misfits, ...]:
    """Every misfit of a net, in order; layers of one kind on inputs of one size are told together."""
    found: dict[tuple[str, Misfit], list[Row]] = {}
    for row in rows:
        for misfit in misfits(row):
            found.setdefault((row.operation, misfit), []).append(row)
    return tuple(Misfits(tuple(row.name for row in same), same[0], misfit) for (_, misfit), same in found.items())


def size_formula(n: int, window: Window) -> str:
    """`(227 - 11 + 2*0)/4 + 1`; with dilation the span `(D*(F - 1) + 1)` stands for F."""
    span = str(window.kernel) if window.dilation == 1 else f"({window.dilation}*({window.kernel} - 1) + 1)"
    return f"({n} - {span} + 2*{window.padding})/{window.stride} + 1"


def size_arithmetic(n: int, window: Window) -> str:
    """`(227 - 11 + 2*0)/4 + 1 = 55`, or `... = 54.25, rounded down to 54`."""
    exact, size = window.exact(n), window.size(n)
    if exact == size:
        return f"{size_formula(n, window)} = {size}"
    # a ceil-rounded size can lie two below the next whole number: a last window that would start in the padding is left out
    direction = "up" if size > exact else "down"
    return f"{size_formula(n, window)} = {decimal(float(exact))}, rounded {direction} to {size}"


def decimal(number: float) -> str:
    """Two decimals at most: 2.33, 54.25, 112.5, 7."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def consequence(misfit: Misfit) -> str:
    """What becomes of the rest: pixels that nobody sees, or a window that hangs over the edge."""
    if misfit.overhang:
        return f"the last window reaches {_pixels(misfit.overhang)} past the edge"
    side = "last" if misfit.dropped <= 1 else f"last {misfit.dropped}"
    if misfit.dropped:
        return f"the {side} pixel{'s' if misfit.dropped > 1 else ''} of {misfit.axis} {'are' if misfit.dropped > 1 else 'is'} never seen"
    return f"{_pixels(misfit.unseen_padding)} of padding stay{'s' if misfit.unseen_padding == 1 else ''} unseen, none of the image"


def remedy(misfit: Misfit) -> str:
    """`fits with stride 3, pad 1 or 3, or input 223 or 227`: each alone."""
    choices = [
        f"{name} {' or '.join(map(str, values))}"
        for name, values in (("stride", misfit.strides), ("pad", misfit.paddings), ("input", misfit.inputs))
        if values
    ]
    return "fits with " + ", or with ".join(choices) if choices else ""


def _pixels(count: int) -> str:
    return f"{count} pixel{'' if count == 1 else 's'}"
