"""Classes of a data set as a model sees them: a row a class, with means on the left, the best and the worst images on the right. PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.lettering import fitted
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
TITLE_LINE = 0.15
HEADS = 0.42  # below the title, for the names of the columns
FOOT = 0.13  # a line at the end of the page
SMALL = 6.5  # points
WRONG = "#a50026"
LEAST = 0.01  # of a probability: smaller ones would be 0.00
NUMBER = "the number beneath an image: the model's probability of the row's class"
RED = "; in red: the class that it is taken for"


class Shot(NamedTuple):
    """An image. pixels: uint8 [C, H, W]. taken_for: the class that the model gives it where that is wrong, else empty. share: the
    probability of its own class, whatever it is taken for.
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
    """Write a page. Each mean saliency is drawn from 0 to its own 99.5th percentile; an image's number is its own class's probability."""
    from matplotlib.figure import Figure

    shots = max(len(row.best) for row in rows)
    second = MARGIN + 2 * CELL + LINE + GAP  # where the best begin
    third = second + shots * (CELL + LINE) - LINE + GAP
    tall = CELL * rows[0].image.shape[0] / rows[0].image.shape[1]
    named = any(shot.taken_for for row in rows for shot in (*row.best, *row.worst))
    step = HEAD + tall + CAPTION * (2 if named else 1) + BELOW
    width = max(4.5, third + shots * (CELL + LINE) - LINE + MARGIN)
    title = fitted(title, width - 2 * MARGIN, 9, lines=2)
    note = fitted(NUMBER + (RED if named else ""), width - 2 * MARGIN, SMALL, lines=2)
    first = HEADS + TITLE_LINE * (title.count("\n") + 1)  # where the rows begin
    height = first + step * len(rows) + FOOT * (note.count("\n") + 1) + 0.04
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.text(0.5, 1 - 0.09 / height, title, ha="center", va="top", fontsize=9)
    figure.text(MARGIN / width, 0.07 / height, note, va="bottom", fontsize=SMALL, color="0.35")
    _heads(figure, [MARGIN, MARGIN + CELL + LINE], first, ["mean\nimage", "mean\nsaliency"], centre=CELL / 2)
    wide = (shots * (CELL + LINE) - LINE) / 2
    _heads(figure, [second, third], first, ["best", "worst"] if shots == 1 else [f"the {shots} best", f"the {shots} worst"], centre=wide)
    for number, row in enumerate(rows):
        top = first + number * step
        _name(figure, row, top + HEAD - 0.03)
        _picture(figure, MARGIN, top + HEAD, tall, row.image)
        _picture(figure, MARGIN + CELL + LINE, top + HEAD, tall, magnitude(row.saliency[None])[..., None])
        for left, group in ((second, row.best), (third, row.worst)):
            for place, shot in enumerate(group):
                _shot(figure, left + place * (CELL + LINE), top + HEAD, tall, shot)
    write_picture(path, figure)


def _heads(figure: Any, lefts: Sequence[float], bottom: float, words: Sequence[str], *, centre: float) -> None:
    width, height = figure.get_size_inches()
    for left, text in zip(lefts, words, strict=True):
        figure.text(
            (left + centre) / width, 1 - (bottom - 0.05) / height, text, ha="center", va="bottom", fontsize=7, color="0.3", linespacing=1.0
        )


def _name(figure: Any, row: ClassRow, bottom: float) -> None:
    """The class's name, and behind it the words."""
    from matplotlib.text import Annotation

    width, height = figure.get_size_inches()
    room = width - 2 * MARGIN
    own = fitted(row.name, 0.35 * room, 8.5)  # bold letters are wider than others
    name = figure.text(MARGIN / width, 1 - bottom / height, own, fontsize=7.5, weight="bold", va="bottom")
    words = fitted(row.words, 0.62 * room, 7)
    figure.add_artist(Annotation(words, (1, 0), xycoords=name, xytext=(5, 0), textcoords="offset points", fontsize=7, va="bottom"))


def _shot(figure: Any, left: float, top: float, tall: float, shot: Shot) -> None:
    """An image, beneath it what it is taken for, and its own class's probability."""
    width, height = figure.get_size_inches()
    _picture(figure, left, top, tall, shot.pixels.transpose(1, 2, 0) / 255)
    lines = [(fitted(shot.taken_for, CELL, SMALL), WRONG)] if shot.taken_for else []
    lines.append((f"{shot.share:.2f}" if shot.share >= LEAST else f"<{LEAST}", "0.3"))
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": SMALL}
    for number, (words, colour) in enumerate(lines):
        y = top + tall + 0.02 + 0.95 * CAPTION * number
        figure.text((left + CELL / 2) / width, 1 - y / height, words, color=colour, **style)


def _picture(figure: Any, left: float, top: float, tall: float, picture: Array) -> None:
    """A picture [H, W, C] in 0..1 at these inches from the page's corner, CELL wide."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + tall) / height, CELL / width, tall / height))
    grey = picture.shape[2] == 1
    axes.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(color="0.8", linewidth=0.4)
