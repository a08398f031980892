"""What channels of a layer are strongest on: a block of patches each, and beside it what of them the channel reacts to. PNG, for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.pictures import write_picture
from cnncli.reports.signal_figure import coloured

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH = 200
BLOCK = 1.5  # inches of a block
BESIDE = 1.2  # of one that has another beside it
COLUMNS = 4
GAP = 0.12  # between blocks
HEAD = 0.17  # above a block, for its channel
PADDING = 236  # brightness of what lies beyond the image
LINE = 0.02  # between patches, as a share of one
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
    aspect = blocks[0].patches[0].shape[1] / blocks[0].patches[0].shape[2]
    height_of_one = side * aspect + HEAD
    top = 0.42 + (0.16 if note else 0)
    width, height = max(3.6, columns * (width_of_one + GAP) + GAP), rows * (height_of_one + GAP) + top
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    left = (width - columns * (width_of_one + GAP) + GAP) / 2
    for number, block in enumerate(blocks):
        x = left + number % columns * (width_of_one + GAP)
        y = height - top - (number // columns + 1) * (height_of_one + GAP) + GAP
        sheets = [mosaic([_colour(patch) for patch in block.patches])]
        if block.signals:
            sheets.insert(0, mosaic([coloured(signal) for signal in block.signals]))
        for place, sheet in enumerate(sheets):
            size = (side - 0.04) / width, side * aspect / height
            axes = figure.add_axes(((x + place * side) / width, y / height, *size))
            grey = sheet.shape[2] == 1
            axes.imshow(sheet[..., 0] if grey else sheet, cmap="gray" if grey else None, vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
        figure.text(x / width, (y + side * aspect + 0.03) / height, label(block.words, 42), fontsize=6, color="0.3", va="bottom")
    figure.text(0.5, 1 - 0.1 / height, label(title, 100), ha="center", va="top", fontsize=min(9.0, 1.5 * width))
    if note:
        figure.text(0.5, 1 - 0.29 / height, label(note, 130), ha="center", va="top", fontsize=min(6.5, 1.1 * width), color="0.35")
    write_picture(path, figure)


def mosaic(pictures: Sequence[Array]) -> Array:
    """Pictures [h, w, C] in 0..1 as one, in rows, white lines between them."""
    import numpy as np

    height, width, channels = pictures[0].shape
    times = max(1, math.ceil(FEWEST_DOTS / min(height, width)))
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    line = max(1, round(LINE * times * width))
    height, width = height * times, width * times
    sheet = np.ones((rows * (height + line) - line, columns * (width + line) - line, channels))
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + line), number % columns * (width + line)
        sheet[top : top + height, left : left + width] = picture.repeat(times, 0).repeat(times, 1)
    return sheet


def _colour(patch: Any) -> Array:
    found: Array = patch.transpose(1, 2, 0) / 255
    return found
