"""Signals that came back to the pixels, beside the images: a line an image, a column a method. PNG files, for print."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH = 200
CELL = 1.75  # inches
ACROSS = 4  # cells that are as wide as a page
APART = 0.12  # between images beside each other, as a share of a cell
BAR = 0.07  # inches, the height of a bar of colours
SMALL = 6.5  # points
TEXT_LINE = 0.105  # inches, of a line of small letters
FULL = 99.5  # percentile of a map's magnitudes that is drawn at full strength: a single pixel would else darken all others
NAMED = 3  # classes that are named beneath a map of them
# Of classes, the most frequent first; colours of Paul Tol that people who cannot tell red from green tell apart. All others are grey.
CLASS_COLOURS = ("#332288", "#ddcc77", "#44aa99", "#cc6677", "#88ccee", "#882255", "#117733", "#aa4499", "#999933")
OTHERS = "#dddddd"
KEYS: dict[str, tuple[str, Sequence[float], Sequence[str]]] = {  # of each kind: the colours of its bar, and what stands at its places
    "map": ("gray", (0, 1), ("0", "strongest")),
    "colour": ("gray", (0, 0.5, 1), ("lower", "0", "higher")),
    "heat": ("inferno", (0, 1), ("0", "largest")),
    "signed": ("RdBu_r", (0, 0.5, 1), ("takes away", "0", "adds")),
    "share": ("viridis", (0, 0.5, 1), ("0", "0.5", "1")),
}
BY_ITSELF = f"each image by itself; full strength from the {FULL}th percentile of its magnitudes on"


class Panel(NamedTuple):
    """A column: what stands above it, how it is drawn, what is drawn of each image, and what stands beneath.

    kind: `map` and `colour` draw a signal [C, H, W], as its magnitude or as a picture; `heat` lays values [H, W] from 0 on over the image;
    `signed` draws [H, W] with its sign; `fall` [H, W] in -1..1, in the same colours for all images; `share` [h, w] in 0..1; `classes`
    whole numbers [h, w], with the names of the most frequent ones beneath. classes: their names.
    """

    name: str
    kind: str
    signals: Sequence[Array]
    notes: Sequence[str] = ()
    classes: Sequence[str] = ()


class _Column(NamedTuple):
    """A panel and what its images share. largest: magnitude of a fall. ranks: of each class in the maps its place by frequency."""

    panel: Panel
    largest: float
    ranks: dict[int, int]


def draw_signals(
    path: Path, images: Sequence[Any], panels: Sequence[Panel], *, names: Sequence[str], words: Sequence[str], title: str
) -> None:
    """Write a PNG. images: uint8 [C, H, W], what the net saw. names, words: of each image, and of what was asked about."""
    from matplotlib.figure import Figure

    across = min(len(images), max(1, ACROSS // (1 + len(panels))))  # images beside each other
    rows = math.ceil(len(images) / across)
    words = [fitted(one, CELL, SMALL, lines=2) for one in words]
    lines = max(1 + max(one.count("\n") for one in words) + 1, NAMED if any(panel.classes for panel in panels) else 0)
    high = CELL * images[0].shape[1] / images[0].shape[2]
    width = (CELL + 0.06) * across * (1 + len(panels)) + APART * CELL * (across - 1) + 0.2
    height = (high + TEXT_LINE * lines + 0.12) * rows + 1.0
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.add_gridspec(
        rows + 1,
        across * (2 + len(panels)) - 1,
        height_ratios=[high] * rows + [BAR],
        width_ratios=([1.0] * (1 + len(panels)) + [APART]) * (across - 1) + [1.0] * (1 + len(panels)),
    )
    columns = [_column(panel) for panel in panels]
    for number, image in enumerate(images):
        row, first = number // across, number % across * (2 + len(panels))
        axes = figure.add_subplot(grid[row, first])
        _show(axes, image.transpose(1, 2, 0), grey=image.shape[0] == 1)
        axes.set_xlabel(f"{fitted(names[number], CELL, SMALL)}\n{words[number]}", fontsize=SMALL)
        if row == 0:
            axes.set_title("what the net sees", fontsize=7.5)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(grid[row, first + 1 + place])
            _draw(axes, columns[place], number, image)
            if panel.notes:
                axes.set_xlabel(fitted(panel.notes[number], CELL, SMALL), fontsize=SMALL)
            if row == 0:
                axes.set_title(_head(panel.name), fontsize=7.5)
    for place, column in enumerate(columns, start=1):
        if column.panel.kind != "classes":
            _bar(figure.add_subplot(grid[rows, place]), column)
    if any(panel.kind in ("map", "colour", "signed") for panel in panels):
        figure.supxlabel(fitted(BY_ITSELF, width - 0.2, SMALL, lines=2), fontsize=SMALL, color="0.35")
    figure.suptitle(fitted(title, width - 0.3, 9, lines=2), fontsize=9)
    write_picture(path, figure)


def _head(name: str) -> str:
    """`gradient: largest over channels` in two lines."""
    first, _, second = name.partition(": ")
    return f"{fitted(f'{first}:', CELL, 7.5)}\n{fitted(second, CELL, 7.5)}" if second else fitted(name, CELL, 7.5, lines=2)


def _column(panel: Panel) -> _Column:
    largest = max((float(abs(signal).max()) for signal in panel.signals), default=0.0) if panel.kind == "fall" else 1.0
    counts: Counter[int] = Counter()
    if panel.kind == "classes":
        for signal in panel.signals:
            counts.update(map(int, signal.flatten().tolist()))
    return _Column(panel, largest or 1.0, {number: rank for rank, (number, _) in enumerate(counts.most_common())})


def _draw(axes: Any, column: _Column, number: int, image: Any) -> None:
    kind, signal = column.panel.kind, column.panel.signals[number]
    if kind == "map":
        _show(axes, magnitude(signal), grey=True)
    elif kind == "colour":
        _show(axes, coloured(signal), grey=signal.shape[0] == 1)
    elif kind == "heat":
        heat = signal / (float(signal.max()) or 1.0)
        _show(axes, image.mean(0).astype("uint8")[..., None], grey=True)
        axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.2 + 0.6 * heat)
    elif kind == "share":
        _plain(axes, signal, "viridis", 0, 1)
    elif kind == "classes":
        _classes(axes, signal, column)
    else:
        full = column.largest if kind == "fall" else scale_of(signal)
        _plain(axes, signal, "RdBu_r", -full, full)


def _classes(axes: Any, numbers: Any, column: _Column) -> None:
    """A map of classes, and beneath it the most frequent ones in their colours."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    colours = [CLASS_COLOURS[rank] if rank < len(CLASS_COLOURS) else OTHERS for rank in range(len(column.ranks))]
    of_class = {number: colours[rank] for number, rank in column.ranks.items()}
    _show(axes, _array([[to_rgb(of_class[number]) for number in row] for row in numbers.tolist()]), grey=False)
    often = Counter(numbers.flatten().tolist()).most_common(NAMED)
    handles = [
        Patch(color=of_class[number], label=f"{fitted(column.panel.classes[number], CELL - 0.75, SMALL)}: {count / numbers.size:.0%}")
        for number, count in often
    ]
    style: dict[str, Any] = {"borderpad": 0.1, "borderaxespad": 0.2, "labelspacing": 0.15, "handlelength": 1.0, "handleheight": 0.6}
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, fontsize=SMALL, **style)


def _array(values: Any) -> Any:
    import numpy as np

    return np.asarray(values, dtype=np.float64)


def _bar(axes: Any, column: _Column) -> None:
    """The colours of a column, and what they stand for."""
    colours, places, texts = KEYS.get(column.panel.kind) or ("RdBu_r", (0, 0.5, 1), _either_way(column.largest))
    axes.imshow(_array([range(256)]), cmap=colours, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks(places, texts, fontsize=SMALL)
    axes.tick_params(length=2, width=0.5, pad=1.5)
    for place, text in zip((0, -1), (axes.get_xticklabels()[0], axes.get_xticklabels()[-1]), strict=True):
        text.set_ha(("left", "right")[place])  # within the bar: columns stand close to each other
    _thin(axes)


def _either_way(largest: float) -> tuple[str, str, str]:
    return f"-{largest:.2g}", "0", f"{largest:.2g}"


def _plain(axes: Any, values: Array, colours: str, low: float, high: float) -> None:
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    _thin(axes)


def _thin(axes: Any) -> None:
    for side in axes.spines.values():
        side.set(color="0.8", linewidth=0.5)


def scale_of(signal: Array) -> float:
    """What is drawn at full strength: the FULL-th percentile of the magnitudes."""
    import numpy as np

    size = np.abs(signal)
    return float(np.percentile(size, FULL)) or float(size.max()) or 1.0


def _show(axes: Any, picture: Any, *, grey: bool) -> None:
    if grey and picture.ndim == 3:
        picture = picture[..., 0]
    axes.imshow(picture, cmap="gray" if grey else None, vmin=0, vmax=255 if picture.dtype.kind == "u" else 1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    _thin(axes)


def magnitude(signal: Array) -> Array:
    """[C, H, W] -> [H, W] in 0..1: the largest magnitude over the channels, 1 from the FULL-th percentile on."""
    import numpy as np

    strength = np.abs(signal).max(0)
    found: Array = np.clip(strength / scale_of(strength), 0, 1)
    return found


def coloured(signal: Array) -> Array:
    """[C, H, W] -> [H, W, C] in 0..1: no signal is the middle grey, the FULL-th percentile of the magnitudes is full colour."""
    import numpy as np

    found: Array = np.clip(0.5 + signal / (2 * scale_of(signal)), 0, 1).transpose(1, 2, 0)
    return found
