"""Filters as a sheet of small pictures, and one by one. PNG files, for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.reports.confusion import label
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pictures = npt.NDArray[np.uint8]

DOTS_PER_INCH = 200
MOST = 1024  # pictures on a sheet: beyond, a weight is smaller than a dot
NUMBERED = 144  # pictures up to which each has its number beneath
SIDE = 128  # pixels of a picture by itself, about
LARGEST, SMALLEST = 0.62, 0.2  # inches of a tile


def draw_filters(path: Path, pictures: Pictures, numbers: Sequence[int], title: str, *, left_out: int = 0) -> None:
    """Write the sheet. pictures: uint8 [n, 1 or 3, h, w]. numbers: what stands beneath each. left_out: how many are not drawn."""
    from matplotlib.figure import Figure

    count = len(pictures)
    columns = count if count <= 8 else math.ceil(math.sqrt(1.6 * count))
    rows = math.ceil(count / columns)
    tile = max(SMALLEST, min(LARGEST, 10.0 / columns))
    numbered = count <= NUMBERED
    gap = 0.16 if numbered else 0.04
    width, height = columns * (tile + 0.06) + 0.3, rows * (tile + gap) + 0.6
    width = max(width, 3.4)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    left = (width - columns * (tile + 0.06)) / 2
    for place, (picture, number) in enumerate(zip(pictures, numbers, strict=True)):
        x, y = left + place % columns * (tile + 0.06), height - 0.5 - (place // columns + 1) * (tile + gap) + gap
        axes = figure.add_axes((x / width, y / height, tile / width, tile / height))
        shown = picture.transpose(1, 2, 0)
        axes.imshow(shown[..., 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        if numbered:
            axes.set_title(str(number), fontsize=5, y=-0.02, va="top", color="0.35", pad=0)
    more = f"; {left_out:,} more are not drawn" if left_out else ""
    figure.text(0.5, 1 - 0.16 / height, label(title, 110) + more, ha="center", va="top", fontsize=min(9.0, 2.1 * width))
    write_picture(path, figure)


def write_each(folder: Path, pictures: Pictures, numbers: Sequence[int]) -> list[Path]:
    """A PNG a picture, `filter-007.png`, enlarged in whole steps."""
    from PIL import Image

    from cnncli import atomic

    atomic.make_folder(folder)
    digits = len(str(max(numbers, default=0)))
    wrote = []
    for picture, number in zip(pictures, numbers, strict=True):
        times = max(1, round(SIDE / max(picture.shape[1:])))
        array: Any = picture.repeat(times, axis=1).repeat(times, axis=2).transpose(1, 2, 0)
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        path = folder / f"filter-{number:0{digits}d}.png"
        atomic.write_with(path, image.save)
        wrote.append(path)
    return wrote
