"""Classes of a data set as a model sees them: a row a class, with means on the left, the best and the worst images on the right. PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.pictures import write_picture
from cnncli.reports.signal_figure import magnitude

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH = 200
CELL = 0.62  # inches, the width of an image
LINE = 0.03  # between images
GAP = 0.14  # between groups of them
MARGIN = 0.1
HEAD = 0.17  # above a row, for its class
CAPTION = 0.115  # a line beneath an image
BELOW = 0.06  # a row
TOP = 0.57  # the title and the names of the columns
SMALL = 6.5  # points
WRONG = "#a50026"
LETTERS = 11  # of a class beneath an image


class Shot(NamedTuple):
    """An image. pixels: uint8 [C, H, W]. taken_for: the class that the model gives it where that is wrong, else empty. share: that
    class's probability, or that of the right one.
    """

    pixels: Any
    taken_for: str
    share: float


class ClassRow(NamedTuple):
    """A class. words: behind its name. image: float [H, W, C] in 0..1, the mean. saliency: float [H, W], from 0 on. best, worst: images."""

    name: str
    words: str
    image: Array
    saliency: Array
    best: Sequence[Shot]
    worst: Sequence[Shot]


def draw_classes(path: Path, rows: Sequence[ClassRow], title: str) -> None:
    """Write a page. Each mean saliency is drawn from 0 to its own 99.5th percentile; an image's number is its best class's probability."""
    from matplotlib.figure import Figure

    shots = max(len(row.best) for row in rows)
    second = MARGIN + 2 * CELL + LINE + GAP  # where the best begin
    third = second + shots * (CELL + LINE) - LINE + GAP
    tall = CELL * rows[0].image.shape[0] / rows[0].image.shape[1]
    named = any(shot.taken_for for row in rows for shot in (*row.best, *row.worst))
    step = HEAD + tall + CAPTION * (2 if named else 1) + BELOW
    width, height = max(4.5, third + shots * (CELL + LINE) - LINE + MARGIN), TOP + step * len(rows)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.text(0.5, 1 - 0.09 / height, label(title, int(13 * width)), ha="center", va="top", fontsize=9)
    _heads(figure, [MARGIN, MARGIN + CELL + LINE], ["mean\nimage", "mean\nsaliency"], centre=CELL / 2)
    wide = (shots * (CELL + LINE) - LINE) / 2
    _heads(figure, [second, third], ["best", "worst"] if shots == 1 else [f"the {shots} best", f"the {shots} worst"], centre=wide)
    for number, row in enumerate(rows):
        top = TOP + number * step
        _name(figure, row, top + HEAD - 0.03)
        _picture(figure, MARGIN, top + HEAD, tall, row.image)
        _picture(figure, MARGIN + CELL + LINE, top + HEAD, tall, magnitude(row.saliency[None])[..., None])
        for left, group in ((second, row.best), (third, row.worst)):
            for place, shot in enumerate(group):
                _shot(figure, left + place * (CELL + LINE), top + HEAD, tall, shot)
    write_picture(path, figure)


def _heads(figure: Any, lefts: Sequence[float], words: Sequence[str], *, centre: float) -> None:
    width, height = figure.get_size_inches()
    for left, text in zip(lefts, words, strict=True):
        figure.text(
            (left + centre) / width, 1 - (TOP - 0.05) / height, text, ha="center", va="bottom", fontsize=7, color="0.3", linespacing=1.0
        )


def _name(figure: Any, row: ClassRow, bottom: float) -> None:
    """The class's name, and behind it the words."""
    from matplotlib.text import Annotation

    width, height = figure.get_size_inches()
    name = figure.text(MARGIN / width, 1 - bottom / height, label(row.name, 30), fontsize=7.5, weight="bold", va="bottom")
    figure.add_artist(
        Annotation(
            label(row.words, int(13 * width)), (1, 0), xycoords=name, xytext=(5, 0), textcoords="offset points", fontsize=7, va="bottom"
        )
    )


def _shot(figure: Any, left: float, top: float, tall: float, shot: Shot) -> None:
    width, height = figure.get_size_inches()
    _picture(figure, left, top, tall, shot.pixels.transpose(1, 2, 0) / 255)
    share = f"{shot.share:.2f}"
    words = f"{label(shot.taken_for, LETTERS)}\n{share}" if shot.taken_for else share
    figure.text(
        (left + CELL / 2) / width,
        1 - (top + tall + 0.02) / height,
        words,
        ha="center",
        va="top",
        fontsize=SMALL,
        color=WRONG if shot.taken_for else "0.3",
        linespacing=1.0,
    )


def _picture(figure: Any, left: float, top: float, tall: float, picture: Array) -> None:
    """A picture [H, W, C] in 0..1 at these inches from the page's corner, CELL wide."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + tall) / height, CELL / width, tall / height))
    grey = picture.shape[2] == 1
    axes.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
