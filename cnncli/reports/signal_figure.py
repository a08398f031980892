"""Signals that came back to the pixels, beside the images: a line an image, a column a method. PNG files, for print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.reports.confusion import label
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH = 200
CELL = 1.75  # inches
COLOURS = 20  # of the classes of a map; beyond, they repeat
FULL = 99.5  # percentile of a map's magnitudes that is drawn at full strength: a single pixel would else darken all others


class Panel(NamedTuple):
    """A column: what stands above it, how it is drawn, what is drawn of each image, and what stands beneath.

    kind: `map` and `colour` draw a signal [C, H, W], as its magnitude or as a picture; `heat` lays values [H, W] from 0 on over the image;
    `signed` draws [H, W] with its sign, `share` [h, w] in 0..1, and `classes` whole numbers [h, w], each in a colour of its own.
    """

    name: str
    kind: str
    signals: Sequence[Array]
    notes: Sequence[str] = ()


def draw_signals(
    path: Path, images: Sequence[Any], panels: Sequence[Panel], *, names: Sequence[str], words: Sequence[str], title: str
) -> None:
    """Write a PNG. images: uint8 [C, H, W], what the net saw. names, words: of each image, and of what was asked about."""
    from matplotlib.figure import Figure

    columns = 1 + len(panels)
    aspect = images[0].shape[1] / images[0].shape[2]
    figure = Figure(figsize=(CELL * columns + 0.4, (CELL * aspect + 0.32) * len(images) + 0.75), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, image in enumerate(images):
        _show(axes[row, 0], image.transpose(1, 2, 0), grey=image.shape[0] == 1)
        axes[row, 0].set_xlabel(f"{label(Path(names[row]).name, 28)}\n{label(words[row], 34)}", fontsize=6.5)
        for column, panel in enumerate(panels, start=1):
            _draw(axes[row, column], panel.kind, panel.signals[row], image)
            if panel.notes:
                axes[row, column].set_xlabel(label(panel.notes[row], 40), fontsize=6.5)
            if row == 0:
                axes[row, column].set_title(panel.name.replace(": ", ":\n"), fontsize=7.5)
    axes[0, 0].set_title("what the net sees", fontsize=7.5)
    figure.suptitle(label(title, 90), fontsize=9)
    write_picture(path, figure)


def _draw(axes: Any, kind: str, signal: Array, image: Any) -> None:
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
        _plain(axes, signal % COLOURS, "tab20", 0, COLOURS - 1)
    else:
        largest = scale_of(signal)
        _plain(axes, signal, "RdBu_r", -largest, largest)


def _plain(axes: Any, values: Array, colours: str, low: float, high: float) -> None:
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


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
    for side in axes.spines.values():
        side.set(color="0.8", linewidth=0.5)


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
