"""What channels of a layer are strongest on: a block of patches each, and beside it what of them the channel reacts to. PNG, for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture
from cnncli.reports.signal_figure import coloured

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH = 200
BLOCK = 1.5  # inches of a block
BESIDE = 1.2  # of one that has another beside it
COLUMNS = 4
GAP = 0.12  # between blocks
PAGE = 7.2  # inches: a wider picture is printed smaller, and its letters are larger here
TITLE, SMALL = 9, 6.5  # points
TITLE_LINE, TEXT_LINE = 0.15, 0.105  # inches of a line of these
PADDING = 236  # brightness of what lies beyond the image
LINE = 0.05  # between patches, as a share of one
FRAME = "0.7"  # round a patch, so that a white one has an edge
FEWEST_DOTS = 24  # of a patch's side: smaller ones are enlarged in whole steps


class Block(NamedTuple):
    """A channel. patches: uint8 [C, h, w], strongest first. signals: float [C, h, w] for each of them, or none. words: above the block."""

    words: str
    patches: Sequence[Any]
    signals: Sequence[Array] = ()


def draw_patches(path: Path, blocks: Sequence[Block], title: str, *, note: str = "") -> None:
    """Write a page: the blocks in rows; where there are signals, each beside its patches, on the left as in the paper."""
    from matplotlib.figure import Figure

    side = BESIDE if blocks[0].signals else BLOCK
    width_of_one = side * (2 if blocks[0].signals else 1)
    columns = min(len(blocks), COLUMNS)
    rows = math.ceil(len(blocks) / columns)
    width = max(3.6, columns * (width_of_one + GAP) + GAP)
    larger = max(1.0, width / PAGE)
    heading, below = (fitted(text, width - 0.2, points * larger, lines=2) for text, points in ((title, TITLE), (note, SMALL)))
    words = [fitted(block.words, width_of_one - 0.04, SMALL * larger, lines=2) for block in blocks]
    head = 0.06 + larger * TEXT_LINE * max(1 + text.count("\n") for text in words)
    note_at = 0.14 + larger * TITLE_LINE * (1 + heading.count("\n"))
    top = note_at + 0.06 + (larger * TEXT_LINE * (1 + below.count("\n")) if note else 0)
    high = side * blocks[0].patches[0].shape[1] / blocks[0].patches[0].shape[2]
    height = top + rows * (head + high + GAP)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    left = (width - columns * (width_of_one + GAP) + GAP) / 2
    for number, block in enumerate(blocks):
        x, y = left + number % columns * (width_of_one + GAP), height - top - (number // columns + 1) * (head + high + GAP) + GAP
        sheets = [[_colour(patch) for patch in block.patches]]
        if block.signals:
            sheets.insert(0, [coloured(signal) for signal in block.signals])
        for place, pictures in enumerate(sheets):
            _block(figure, pictures, (x + place * side, y, side - 0.04, high - 0.04))
        figure.text(x / width, (y + high) / height, words[number], fontsize=SMALL * larger, color="0.3", va="bottom", linespacing=1.0)
    figure.text(0.5, 1 - 0.1 / height, heading, ha="center", va="top", fontsize=TITLE * larger)
    figure.text(0.5, 1 - note_at / height, below, ha="center", va="top", fontsize=SMALL * larger, color="0.35")
    write_picture(path, figure)


def _block(figure: Figure, pictures: Sequence[Array], inches: tuple[float, float, float, float]) -> None:
    """Pictures in rows, each in a frame. inches: left, bottom, width and height on the page."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    sheet, corners, (high, wide) = mosaic(pictures)
    axes = figure.add_axes((inches[0] / width, inches[1] / height, inches[2] / width, inches[3] / height))
    grey = sheet.shape[2] == 1
    axes.imshow(sheet[..., 0] if grey else sheet, cmap="gray" if grey else None, vmin=0, vmax=1, interpolation="nearest")
    frames = [Rectangle((left - 0.5, top - 0.5), wide, high) for top, left in corners]
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=FRAME, linewidth=0.4, clip_on=False))
    axes.set_axis_off()


def mosaic(pictures: Sequence[Array]) -> tuple[Array, list[tuple[int, int]], tuple[int, int]]:
    """Pictures [h, w, C] in 0..1 as one, in rows, white lines between them; (top, left) of each in it; and their (height, width) there."""
    import numpy as np

    height, width, channels = pictures[0].shape
    times = max(1, math.ceil(FEWEST_DOTS / min(height, width)))
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    line = max(1, round(LINE * times * width))
    height, width = height * times, width * times
    sheet = np.ones((rows * (height + line) - line, columns * (width + line) - line, channels))
    corners = [(number // columns * (height + line), number % columns * (width + line)) for number in range(len(pictures))]
    for (top, left), picture in zip(corners, pictures, strict=True):
        sheet[top : top + height, left : left + width] = picture.repeat(times, 0).repeat(times, 1)
    return sheet, corners, (height, width)


def _colour(patch: Any) -> Array:
    found: Array = patch.transpose(1, 2, 0) / 255
    return found
