"""A kernel or a pooling over the pixels of a picture, and its result as a picture again.

The same arithmetic as cnncli.arch.byhand, by numpy. Every channel is filtered on its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from cnncli.arch.byhand import POOLING, check_fit
from cnncli.arch.matrix import Matrix, numbers
from cnncli.arch.window import Window
from cnncli.errors import UsageError

Pixels = np.ndarray[Any, np.dtype[Any]]

MOST_PRODUCTS = 10**10  # about a minute
MOST_PADDED = 2**27  # pixels of a channel with its padding: twice the largest picture that is decoded

WAYS = ("auto", "clip", "signed", "stretch")
MIDDLE = 128  # the grey that stands for 0 where results have a sign; 127 levels lie on each side of it, 1 to 255
CENTRAL = 0.995


def filter_picture(pixels: Pixels, applied: Matrix, operation: str, down: Window, across: Window) -> Pixels:
    """The cross-correlation of each channel with `applied`, which is the flipped kernel for a convolution.

    pixels: (height, width) or (height, width, channels), uint8. Returns float32 of the output's height and width; sums are
    computed in float64. UsageError where the kernel is larger than the padded picture or the work is too long.
    """
    sizes = check_fit(operation, down, across, *pixels.shape[:2])
    _check_work(pixels, down, across, sizes)
    weights = np.array([[float(weight) for weight in row] for row in applied])

    def channel(plane: Pixels) -> Pixels:
        sums: Pixels = np.einsum("rcij,ij->rc", _windows(plane, down, across, sizes), weights)
        return sums.astype(np.float32)

    return _per_channel(channel, pixels)


def pool_picture(pixels: Pixels, kind: str, down: Window, across: Window) -> Pixels:
    """Max or average pooling of each channel. pixels and result as for `filter_picture`; see cnncli.arch.byhand.pool."""
    height, width = pixels.shape[:2]
    sizes = check_fit(POOLING[kind], down, across, height, width)
    _check_work(pixels, down, across, sizes)
    counts = np.outer(_covered(down, sizes[0], height), _covered(across, sizes[1], width))

    def channel(plane: Pixels) -> Pixels:
        windows = _windows(plane, down, across, sizes)
        # a padded 0 is no more than any pixel, so it is never a maximum that the picture has not got
        pooled: Pixels = windows.max(axis=(2, 3)) if kind == "max" else windows.sum(axis=(2, 3), dtype=np.int64) / counts
        return pooled.astype(np.float32)

    return _per_channel(channel, pixels)


def _windows(plane: Pixels, down: Window, across: Window, sizes: tuple[int, int]) -> Pixels:
    """A view [row, column, i, j] of what each window sees; beyond the image, and beyond its padding under `ceil`, are zeros."""
    margins = []
    for window, n, outputs in ((down, plane.shape[0], sizes[0]), (across, plane.shape[1], sizes[1])):
        beyond = (outputs - 1) * window.stride + window.span - n - window.padding
        margins.append((window.padding, max(window.padding, beyond)))
    every = sliding_window_view(np.pad(plane, margins), (down.span, across.span))
    strided = every[:: down.stride, :: across.stride, :: down.dilation, :: across.dilation]
    return strided[: sizes[0], : sizes[1]]


def _covered(window: Window, outputs: int, n: int) -> Pixels:
    """Pixels under each window along one axis, the padding counted and what lies beyond it not."""
    starts = np.arange(outputs) * window.stride
    return np.minimum(starts + window.span, n + 2 * window.padding) - starts


def _per_channel(work: Any, pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return np.ascontiguousarray(work(pixels))
    return np.stack([work(pixels[..., channel]) for channel in range(pixels.shape[2])], axis=-1)


def _check_work(pixels: Pixels, down: Window, across: Window, sizes: tuple[int, int]) -> None:
    channels = pixels.shape[2] if pixels.ndim > 2 else 1
    products = channels * sizes[0] * sizes[1] * down.kernel * across.kernel
    padded = (pixels.shape[0] + 2 * down.padding) * (pixels.shape[1] + 2 * across.padding)
    if products > MOST_PRODUCTS or padded > MOST_PADDED:
        raise UsageError(f"{products:.1e} products over {padded:.1e} pixels are too many", "use a smaller picture, kernel or --pad")


class Shown(NamedTuple):
    """A result as a picture.

    picture: mode "L" or "RGB". way: how numbers became grey levels, one of WAYS but "auto", or "as they are". black, white: the
    numbers that became grey level 0 (signed: 1) and 255. least, greatest: of the numbers. cut: share of the numbers that lie
    beyond black and white.
    """

    picture: Image.Image
    way: str
    black: float
    white: float
    least: float
    greatest: float
    cut: float


def way_for(applied: Matrix) -> str:
    """The way of showing that fits a kernel's results for pixels of 0..255, by the least and the greatest result there can be.

    Weights that sum to 0 give results of both signs around 0: "signed". A sum of 1 keeps plain areas as they are: "clip", which
    changes nothing where results cannot leave 0..255. Any other sum leaves that range in plain areas too: "stretch".
    """
    weights = list(numbers(applied))
    below, above = sum(w for w in weights if w < 0), sum(w for w in weights if w > 0)
    if below + above == 0 and below:
        return "signed"
    return "clip" if below + above == 1 or (below == 0 and above <= 1) else "stretch"


def show(values: Pixels, way: str) -> Shown:
    """Numbers as grey levels: rounded to 0..255 ("clip"), 0 at mid-grey ("signed"), or least..greatest ("stretch").

    "signed" spends its grey levels on the CENTRAL share of the numbers: a few extremes would leave the rest a plain grey.
    """
    least, greatest = float(values.min()), float(values.max())
    black, white, lowest = 0.0, 255.0, 0
    if way == "signed":
        sizes = np.abs(values)
        white = float(np.quantile(sizes, CENTRAL, method="higher")) or float(sizes.max()) or 1.0
        black, lowest = -white, 2 * MIDDLE - 255
    elif way == "stretch" and greatest > least:
        black, white = least, greatest
    scale = (255 - lowest) / (white - black)
    levels = np.clip(np.rint((values - np.float32(black)) * np.float32(scale) + lowest), lowest, 255).astype(np.uint8)
    half = 0.5 / scale
    cut = float(np.mean((values < black - half) | (values >= white + half)))
    if way == "clip" and not cut:
        way = "as they are"
    return Shown(Image.fromarray(levels), way, black, white, least, greatest, cut)
