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
FULL = 99.5  # percentile of a map's magnitudes that is drawn at full strength: a single pixel would else darken all others


class Panel(NamedTuple):
    """A column: what stands above it, how it is drawn (`map` or `colour`), and the signals [C, H, W] of each image."""

    name: str
    kind: str
    signals: Sequence[Array]


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
            signal = panel.signals[row]
            if panel.kind == "map":
                _show(axes[row, column], magnitude(signal), grey=True)
            else:
                _show(axes[row, column], coloured(signal), grey=signal.shape[0] == 1)
            if row == 0:
                axes[row, column].set_title(panel.name.replace(": ", ":\n"), fontsize=7.5)
    axes[0, 0].set_title("what the net sees", fontsize=7.5)
    figure.suptitle(label(title, 90), fontsize=9)
    write_picture(path, figure)


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
    full = float(np.percentile(strength, FULL)) or float(strength.max()) or 1.0
    found: Array = np.clip(strength / full, 0, 1)
    return found


def coloured(signal: Array) -> Array:
    """[C, H, W] -> [H, W, C] in 0..1: no signal is the middle grey, the FULL-th percentile of the magnitudes is full colour."""
    import numpy as np

    size = np.abs(signal)
    full = float(np.percentile(size, FULL)) or float(size.max()) or 1.0
    found: Array = np.clip(0.5 + signal / (2 * full), 0, 1).transpose(1, 2, 0)
    return found
