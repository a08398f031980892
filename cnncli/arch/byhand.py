"""Convolution, cross-correlation and pooling of small matrices, worked step by step with exact numbers.

With image I, kernel K of F x F weights, stride S, padding P and dilation D, all counted from 0 (I is 0 in its padding):

    cross-correlation  O[r, c] = sum over i, j of I[r S - P + i D, c S - P + j D] * K[i, j]
    convolution        the same with K flipped in both directions, K[F - 1 - i, F - 1 - j]

Mathematics and signal processing convolve; networks, torch among them, compute the cross-correlation and call it convolution.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import NamedTuple

from cnncli.arch.checks import check_choice, check_number
from cnncli.arch.fit import decimal, size_formula
from cnncli.arch.matrix import Matrix, Number, flip, size, tidy
from cnncli.arch.window import Window
from cnncli.errors import UsageError

MOST_PRODUCTS = 200_000  # a second of exact arithmetic

CONVOLUTION, CORRELATION = "convolution", "cross-correlation"
POOLING = {"max": "max pooling", "average": "average pooling"}


class Step(NamedTuple):
    """One entry of the output.

    row, column: its indices, from 0. values: the image's numbers under the window, row by row. weights: what each of them is
    multiplied by, () for pooling. result: the sum of products, the greatest value, or the mean.
    """

    row: int
    column: int
    values: tuple[Number, ...]
    weights: tuple[Number, ...]
    result: Number


class Worked(NamedTuple):
    """An operation with everything it did.

    kernel: as it was given, () for pooling. applied: as it slid over the image, flipped for a convolution. down, across: the
    windows along the height and the width.
    """

    operation: str
    image: Matrix
    kernel: Matrix
    applied: Matrix
    down: Window
    across: Window
    output: Matrix
    steps: tuple[Step, ...]


def convolve(image: Matrix, kernel: Matrix, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Worked:
    """The convolution of mathematics: the kernel is flipped in both directions, then slides.

    UsageError with the arithmetic where the kernel is larger than the padded image, or the work is too long to read.
    """
    return _slide(CONVOLUTION, image, kernel, flip(kernel), stride=stride, padding=padding, dilation=dilation)


def correlate(image: Matrix, kernel: Matrix, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Worked:
    """The cross-correlation, which is a network's convolution: the kernel slides as it is. UsageError as for `convolve`."""
    return _slide(CORRELATION, image, kernel, kernel, stride=stride, padding=padding, dilation=dilation)


def pool(image: Matrix, kind: str, *, kernel: int, stride: int | None = None, padding: int = 0, ceil: bool = False) -> Worked:
    """Max or average pooling with square windows, as torch pools. Without `stride` the windows do not overlap.

    The padding is never the maximum, and counts as zeros in the mean. What a window of `ceil` covers beyond the padding counts
    as nothing. UsageError as for `convolve`, and for a padding of more than half of the kernel.
    """
    check_choice("pool", "kind", kind, tuple(POOLING))
    window = pooling_window(kernel, stride, padding, ceil=ceil)
    operation = POOLING[kind]
    height, width = size(image)
    rows, columns = check_fit(operation, window, window, height, width)
    _check_work(rows * columns * kernel * kernel)
    steps = []
    for row, column in product(range(rows), range(columns)):
        # a mean counts the zeros of the padding, a maximum looks at the image alone
        margin = padding if kind == "average" else 0
        lines = [y for y in window_indices(window, row) if -margin <= y < height + margin]
        places = [x for x in window_indices(window, column) if -margin <= x < width + margin]
        values = tuple(_pixel(image, y, x) for y, x in product(lines, places))
        result = max(values) if kind == "max" else tidy(Fraction(sum(values), len(values)))
        steps.append(Step(row, column, values, (), result))
    return Worked(operation, image, (), (), window, window, _output(steps, columns), tuple(steps))


def pooling_window(kernel: int, stride: int | None, padding: int, *, ceil: bool) -> Window:
    """The window of a pooling, its numbers checked: torch pads by at most half of the kernel, so that no window is all padding."""
    stride = kernel if stride is None else stride
    for name, value, least in (("size", kernel, 1), ("stride", stride, 1), ("pad", padding, 0)):
        check_number("pooling", name, value, least=least)
    if 2 * padding > kernel:
        raise UsageError(f"--pad {padding} is more than half of --size {kernel}", f"pooling pads by at most {kernel // 2}", path="--pad")
    return Window(kernel, stride, padding, ceil=ceil)


def convolution_windows(kernel: Matrix, *, stride: int, padding: int, dilation: int) -> tuple[Window, Window]:
    """The windows of a kernel along the height and the width, their numbers checked."""
    for name, value, least in (("stride", stride, 1), ("pad", padding, 0), ("dilation", dilation, 1)):
        check_number("convolution", name, value, least=least)
    height, width = size(kernel)
    return Window(height, stride, padding, dilation), Window(width, stride, padding, dilation)


def window_indices(window: Window, place: int) -> range:
    """Where in the image the window number `place` looks along its axis; below 0 or beyond the end is padding."""
    start = place * window.stride - window.padding
    return range(start, start + window.span, window.dilation)


def check_fit(operation: str, down: Window, across: Window, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the output; UsageError with the arithmetic where the window is larger than the padded image."""
    for axis, window, n in (("height", down, height), ("width", across, width)):
        if window.size(n) < 1:
            raise _too_large(operation, down, across, (axis, window, n), min(height, width))
    return down.size(height), across.size(width)


def _too_large(operation: str, down: Window, across: Window, misfit: tuple[str, Window, int], shortest: int) -> UsageError:
    axis, window, n = misfit
    arithmetic = f"{size_formula(n, window)} = {decimal(float(window.exact(n)))}, below 1"
    message = f"{operation}: a window of {down.span}x{across.span} is larger than the image's {axis}: {arithmetic}"
    if operation in POOLING.values():
        return UsageError(message, f"--size {shortest} fits", path="--size")
    return UsageError(message, f"--pad {-(-(window.span - n) // 2)} makes room, or give a smaller kernel", path="--kernel")


def _slide(operation: str, image: Matrix, kernel: Matrix, applied: Matrix, *, stride: int, padding: int, dilation: int) -> Worked:
    down, across = convolution_windows(kernel, stride=stride, padding=padding, dilation=dilation)
    rows, columns = check_fit(operation, down, across, *size(image))
    _check_work(rows * columns * down.kernel * across.kernel)
    weights = tuple(weight for line in applied for weight in line)
    steps = []
    for row, column in product(range(rows), range(columns)):
        values = tuple(_pixel(image, y, x) for y, x in product(window_indices(down, row), window_indices(across, column)))
        total = tidy(sum(value * weight for value, weight in zip(values, weights, strict=True)))
        steps.append(Step(row, column, values, weights, total))
    return Worked(operation, image, kernel, applied, down, across, _output(steps, columns), tuple(steps))


def _pixel(image: Matrix, row: int, column: int) -> Number:
    height, width = size(image)
    return image[row][column] if 0 <= row < height and 0 <= column < width else 0


def _output(steps: list[Step], columns: int) -> Matrix:
    results = [step.result for step in steps]
    return tuple(tuple(results[start : start + columns]) for start in range(0, len(results), columns))


def _check_work(products: int) -> None:
    if products > MOST_PRODUCTS:
        raise UsageError(
            f"{products:,} products are too many to work by hand (at most {MOST_PRODUCTS:,})", "give an image file, or a smaller matrix"
        )
