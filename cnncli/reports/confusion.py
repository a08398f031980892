"""The confusion matrix as a picture and as a CSV file, and the pairs of classes that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli import atomic
from cnncli.errors import printable
from cnncli.reports.pictures import write_picture
from cnncli.reports.spreadsheet import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnncli.engine.metrics import Judgement

DOTS_PER_INCH = 200
WITH_NUMBERS = 25  # classes up to which cells have room for the number of images
PER_CLASS = 0.38  # inches, while the matrix is no larger than LARGEST
LARGEST = 8.5  # inches: a page
LEAST_POINTS = 5.5  # of a label; where classes lie closer than that, only the most confused ones have one
SPARSE_POINTS = 7  # of labels then
MOST_LABELLED = 20  # pairs whose classes are labelled then
LONGEST_LABEL = 24


class Confused(NamedTuple):
    """Images of the class `true` that were taken for the class `predicted`; share: of all images of the true class, in 0..1."""

    true: str
    predicted: str
    images: int
    share: float


def confused_pairs(judgement: Judgement, most: int) -> list[Confused]:
    """At most `most` pairs, the most images first; of as many images the larger share first, then in the order of the classes."""
    names = [c.name for c in judgement.per_class]
    pairs = [
        Confused(names[i], names[j], n, n / judgement.per_class[i].support)
        for i, row in enumerate(judgement.confusion)
        for j, n in enumerate(row)
        if i != j and n
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share))[:most]


def write_confusion(path: Path, judgement: Judgement) -> None:
    """The matrix as CSV: a line a true class, a column a predicted one, in each cell the number of images."""
    names = [c.name for c in judgement.per_class]
    rows = ((name, *counts) for name, counts in zip(names, judgement.confusion, strict=True))
    atomic.write_text(path, csv_text(["true class", *names], rows))


def draw_confusion(path: Path, judgement: Judgement, title: str) -> None:
    """The confusion matrix as a PNG: colour is the share of the true class.

    Up to 25 classes have the number of images in their cells. Of more, small shares are drawn darker than they are in proportion, so
    that a mistake in a hundred can be seen. Where there is no room for every name, the classes of the most confused pairs have theirs.
    """
    import numpy as np
    from matplotlib.colors import Normalize, PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    counts = np.array(judgement.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    count = len(counts)
    side = min(PER_CLASS * count, LARGEST)
    figure = Figure(figsize=(side + 4.4, side + 3.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    norm = Normalize(0, 1) if count <= WITH_NUMBERS else PowerNorm(0.5, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    _ticks(axes, judgement, points=72 * side / count)
    some = "" if 72 * side / count >= LEAST_POINTS else " (named: those confused most)"
    axes.set(xlabel=f"predicted class{some}", ylabel=f"true class{some}")
    axes.set_title(label(title, 200), fontsize=11, wrap=True)
    if count <= WITH_NUMBERS:
        _numbers(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, label="share of the true class", format=PercentFormatter(1.0), shrink=0.6)
    if count > WITH_NUMBERS:
        bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    write_picture(path, figure)


def _numbers(axes: Axes, counts: Any, shares: Any) -> None:
    """The number of images in each cell that is not empty."""
    longest = len(f"{counts.max():,}")
    size = min(8.5, 72 * PER_CLASS / (0.65 * longest), 72 * LARGEST / len(counts) / (0.65 * longest))
    for (i, j), images in _cells(counts):
        axes.text(j, i, f"{images:,}", ha="center", va="center", fontsize=size, color="white" if shares[i, j] > 0.55 else "0.2")


def _cells(counts: Any) -> list[tuple[tuple[int, int], int]]:
    return [((i, j), int(n)) for i, row in enumerate(counts) for j, n in enumerate(row) if n]


def _ticks(axes: Axes, judgement: Judgement, points: float) -> None:
    """Names at the axes. points: the height of a row of the matrix."""
    names = [c.name for c in judgement.per_class]
    axes.tick_params(length=0 if points >= LEAST_POINTS else 2)
    size = min(9.0, 0.85 * points)
    if points >= LEAST_POINTS:
        rows = columns = list(range(len(names)))
    else:
        size, apart = SPARSE_POINTS, 1.25 * SPARSE_POINTS / points
        place = {name: number for number, name in enumerate(names)}
        pairs = confused_pairs(judgement, MOST_LABELLED)
        rows = _apart([place[pair.true] for pair in pairs], apart)
        columns = _apart([place[pair.predicted] for pair in pairs], apart)
    short = [label(name) for name in names]
    upright = max(map(len, short)) > 3 or points < LEAST_POINTS
    axes.set_xticks(columns, [short[number] for number in columns], rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(rows, [short[number] for number in rows], fontsize=size)


def _apart(wanted: Sequence[int], least: float) -> list[int]:
    """Of these numbers, the first ones first, those that lie at least so far from each other, in order."""
    kept: list[int] = []
    for number in wanted:
        if all(abs(number - other) >= least for other in kept):
            kept.append(number)
    return sorted(kept)


def label(text: str, most: int = LONGEST_LABEL) -> str:
    """A text in a picture: in one line, cut in the middle where it is longer, and `$` kept from being read as a formula."""
    text = printable(text)
    if len(text) > most:
        head = most // 2
        text = f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"
    return text.replace("$", r"\$")
