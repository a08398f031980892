"""Filters as a sheet of small pictures, and one by one. PNG files, for print."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.reports.decimals import alike
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Pictures = npt.NDArray[np.uint8]

DOTS_PER_INCH = 200
MOST = 1024  # pictures on a sheet: beyond, a weight is smaller than a dot
NUMBERED = 144  # pictures up to which each has its number beneath
NAME = re.compile(r"filter-[0-9]+\.png")
SIDE = 128  # pixels of a picture by itself, about
LARGEST, SMALLEST = 0.62, 0.2  # inches of a tile
NARROWEST, PAGE = 3.4, 7.2  # inches of a sheet: one column of a paper, and its page
SMALL = 6.5  # points
FRAME = "0.75"


def scale_words(show: str, largest: float | None) -> str:
    """What black, grey and white stand for. show: as of `Filters`. largest: the magnitude at full strength where the filters share it."""
    zero, full, what = ("black is 0", "white", "norm") if show == "norms" else ("grey is 0", "full strength", "weight")
    if largest is not None:
        return f"{zero}; one scale for all: {full} is the largest {what}, {largest:.3g}"
    return f"{zero}; each {'input channel' if show == 'channels' else 'filter'} is scaled by its own largest {what}"


def draw_filters(
    path: Path,
    pictures: Pictures,
    numbers: Sequence[int],
    title: str,
    *,
    note: str = "",
    norms: Sequence[float] | None = None,
    left_out: int = 0,
) -> None:
    """Write the sheet. pictures: uint8 [n, 1 or 3, h, w]. numbers: what stands beneath each, with its norm where norms are given. note:
    below the sheet. left_out: how many are not drawn.
    """
    from matplotlib.figure import Figure

    count = len(pictures)
    columns = count if count <= 8 else math.ceil(math.sqrt(1.6 * count))
    rows = math.ceil(count / columns)
    tile = max(SMALLEST, min(LARGEST, 10.0 / columns))
    captions = [""] * count
    if count <= NUMBERED:
        words = [""] * count if norms is None else [f": {norm}" for norm in alike(norms)]
        captions = [f"{number}{own}" for number, own in zip(numbers, words, strict=True)]
    gap = 0.16 if count <= NUMBERED else 0.04
    width = max(columns * (tile + 0.06) + 0.3, NARROWEST)
    larger = max(1.0, width / PAGE)  # a sheet that is wider than a page is printed smaller
    heading = fitted(title + (f"; {left_out:,} more are not drawn" if left_out else ""), width - 0.3, 9 * larger, lines=2)
    note = fitted(note, width - 0.3, SMALL * larger, lines=2)
    top = 0.24 + 0.15 * larger * (heading.count("\n") + 1)
    bottom = 0.12 + 0.11 * larger * (note.count("\n") + 1)
    height = top + rows * (tile + gap) + bottom
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    left = (width - columns * (tile + 0.06) + 0.06) / 2
    corners = [(left + n % columns * (tile + 0.06), height - top - n // columns * (tile + gap) - tile) for n in range(count)]
    _tiles(figure, pictures, corners, tile)
    for caption, (x, y) in zip(captions, corners, strict=True):
        figure.text((x + tile / 2) / width, (y - 0.025) / height, caption, fontsize=SMALL, ha="center", va="top", color="0.3")
    figure.text(0.5, 1 - 0.12 / height, heading, ha="center", va="top", fontsize=9 * larger)
    figure.text(0.5, 0.08 / height, note, ha="center", va="bottom", fontsize=SMALL * larger, color="0.35")
    write_picture(path, figure)


def _tiles(figure: Figure, pictures: Pictures, corners: Sequence[tuple[float, float]], tile: float) -> None:
    """The pictures, their lower left corners at these inches of the page, each in a frame: else a white one has no edge."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1))
    page.set_axis_off()
    for picture, (x, y) in zip(pictures, corners, strict=True):
        shown = picture.transpose(1, 2, 0)
        shown = shown[..., 0] if shown.shape[2] == 1 else shown
        page.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=(x, x + tile, y, y + tile))
    frames = [Rectangle(corner, tile, tile) for corner in corners]
    page.add_collection(PatchCollection(frames, facecolor="none", edgecolor=FRAME, linewidth=0.5, zorder=2))
    page.set(xlim=(0, width), ylim=(0, height), aspect="auto")


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


def remove_others(folder: Path, wrote: Sequence[Path]) -> None:
    """Remove pictures of filters that an earlier call left in `folder`: what is called `filter-<digits>.png` and is not in `wrote`."""
    from cnncli import atomic

    for path in sorted(folder.iterdir()):
        if path not in wrote and NAME.fullmatch(path.name) and (path.is_symlink() or path.is_file()):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise atomic.cannot_write(path, error) from error
