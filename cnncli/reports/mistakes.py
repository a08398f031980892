"""The worst mistakes of a model: the images that it is surest of, and wrong about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture
from cnncli.reports.scored_images import PerImage, Scored, per_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

COLUMNS = 5
CELL = (1.5, 1.86)  # inches, width and height: a square picture and three lines below it
HEAD = 0.6  # inches above the pictures
THUMBNAIL = 288  # pixels of the longer side: 1.44 inch at 200 dots per inch
DOTS_PER_INCH = 200
POINTS = 7
RED = "#aa3333"
CHARACTERS = 26  # of a line that fit the width of a cell


class Mistake(NamedTuple):
    """An image that was taken for another class.

    row: its number among those judged. confidence: the probability of the predicted class, true_probability: of the true one.
    """

    row: int
    name: str
    true: str
    predicted: str
    confidence: float
    true_probability: float


def worst(scored: Scored, count: int, images: PerImage | None = None) -> tuple[Mistake, ...]:
    """At most `count` mistakes, the surest first; of equally sure ones the least probable true class first, then the source's order.

    images: what `per_image` says of them, if that is at hand.
    """
    import numpy as np

    images = images or per_image(scored)
    wrong = np.flatnonzero(~images.correct)
    own, best = (values[wrong].round(12) for values in (images.true_probability, images.probability))  # else the last digit would decide
    order = np.lexsort((wrong, own, -best))[:count]
    return tuple(
        Mistake(
            int(row),
            scored.names[row],
            scored.classes[images.true[row]],
            scored.classes[images.predicted[row]],
            float(images.probability[row]),
            float(images.true_probability[row]),
        )
        for row in wrong[order]
    )


def draw_mistakes(path: Path, mistakes: Sequence[Mistake], thumbnail: Callable[[int, int], Image], title: str) -> None:
    """Write a gallery: each image with the class it was taken for, the true one, both with their probability, and its name.

    thumbnail: (row, side) -> the image, no side longer than `side` pixels.
    """
    from matplotlib.figure import Figure

    lines = max(1, -(-len(mistakes) // COLUMNS))
    width, height = COLUMNS * CELL[0] + 0.3, lines * CELL[1] + HEAD
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.text(0.15 / width, 1 - 0.26 / height, fitted(title, width - 0.3, 10), fontsize=10)
    if mistakes:
        told = "Red: the class that an image was taken for, black: its own, each with its probability."
        figure.text(0.15 / width, 1 - 0.46 / height, told, fontsize=POINTS, color="0.35")
    if not mistakes:
        figure.text(0.15 / width, 0.5, "No image was taken for another class.", fontsize=9, color="0.35")
    for place, mistake in enumerate(mistakes):
        line, column = divmod(place, COLUMNS)
        left, top = 0.15 + column * CELL[0], HEAD + line * CELL[1]
        axes = figure.add_axes((left / width, 1 - (top + CELL[0] - 0.08) / height, (CELL[0] - 0.08) / width, (CELL[0] - 0.08) / height))
        _show(axes, mistake, thumbnail(mistake.row, THUMBNAIL))
    write_picture(path, figure)


def _show(axes: Axes, mistake: Mistake, image: Image) -> None:
    """An image in its square, and three lines below it."""
    import numpy as np

    side = max(image.size)
    axes.imshow(np.asarray(image), interpolation="nearest", extent=(0, image.width, image.height, 0))
    axes.set(xlim=((image.width - side) / 2, (image.width + side) / 2), ylim=((image.height + side) / 2, (image.height - side) / 2))
    axes.set_axis_off()
    for line, (text, colour) in enumerate(
        (
            (f"{label(mistake.predicted, CHARACTERS - 8)} ({mistake.confidence:.1%})", RED),
            (f"is {label(mistake.true, CHARACTERS - 11)} ({mistake.true_probability:.1%})", "0.1"),
            (label(mistake.name, CHARACTERS + 4), "0.45"),
        )
    ):
        axes.annotate(
            text,
            (0.5, 0),
            (0, -2 - line * (POINTS + 1.2)),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=POINTS if line < 2 else POINTS - 1.5,
            color=colour,
            annotation_clip=False,
        )
