"""The maps of a layer beside the image that they are of; and how they change, as an animation. PNG and GIF files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.reports.decimals import alike
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Array = npt.NDArray[np.floating[Any]]

DOTS_PER_INCH, DOTS_PER_INCH_MOVING = 200, 110
MOST = 64  # maps of a picture: with more the numbers beneath are too small to read
TILE, GAP, LINE = 0.86, 0.07, 0.15  # inches: of a map's longer side, between maps, of the words beneath
IMAGE = 1.7  # inches of the image's longer side
MARGIN, HEAD, TITLE_LINE = 0.12, 0.27, 0.15
SMALL = 6.5  # points
PAGE = 7.2  # inches: a wider picture is printed smaller, and its letters are larger here
BENEATH = "beneath a map: its channel and its largest value"
FULL = 99.5  # percentile of the values that is drawn at full strength: a single position would else darken all others
SECONDS, SECONDS_OF_LAST = 0.5, 2.0  # that a frame stays


@dataclass(frozen=True)
class Sheet:
    """Maps to be drawn. image: uint8 [C, H, W], what the net saw; name: its own. maps: [n, h, w]. channels: the number of each.

    limits: the value of each map that has full colour; all alike, or each map's own. beyond: whether values pass them, in matplotlib's
    words. signed: whether values below 0 are among them.
    """

    image: Any
    name: str
    maps: Array
    channels: Sequence[int]
    limits: Sequence[float]
    beyond: str
    signed: bool


def limits_of(maps: Array, *, each: bool) -> list[float]:
    """The value with full colour, for each map of [..., n, h, w]: one for all, the FULL-th percentile of magnitudes, or each map's largest.

    Leading axes, such as epochs, share it.
    """
    import numpy as np

    size = np.abs(maps)
    if each:
        largest = size.max(axis=(*range(size.ndim - 3), size.ndim - 2, size.ndim - 1))
        return [float(value) or 1.0 for value in largest]
    one = float(np.percentile(size, FULL)) or float(size.max()) or 1.0
    return [one] * maps.shape[-3]


def beyond(maps: Array, limits: Sequence[float]) -> str:
    """Whether values of maps [..., n, h, w] pass the limits [n]: neither, max, min or both."""
    import numpy as np

    most = np.asarray(limits)[:, None, None]
    above, below = bool((maps > most).any()), bool((maps < -most).any())
    return "both" if above and below else "max" if above else "min" if below else "neither"


def columns_for(count: int) -> int:
    """Columns of a grid that is somewhat wider than high, with few empty places in its last row."""
    least = math.ceil(math.sqrt(count))
    return min(range(least, max(least, math.floor(1.5 * least)) + 1), key=lambda columns: (-count % columns, columns))


def draw_maps(path: Path, sheet: Sheet, title: str) -> None:
    """Write a PNG: the image, and a grid of maps with channel number and largest value beneath each."""
    write_picture(path, _figure(sheet, title, "", DOTS_PER_INCH))


def animate_maps(path: Path, sheets: Sequence[tuple[str, Sheet]], title: str) -> None:
    """Write a GIF: a frame for each (label, sheet); all have the colours of the last, whose picture stays longer."""
    from PIL import Image

    from cnncli import atomic

    pictures = [_pixels(_figure(sheet, title, words, DOTS_PER_INCH_MOVING)) for words, sheet in sheets]
    # One palette for all: colours of frames that are chosen one by one flicker.
    sample = Image.fromarray(_beside(pictures[0], pictures[len(pictures) // 2], pictures[-1]))
    palette = sample.quantize(256, dither=Image.Dither.NONE)
    frames = [Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    stay = [round(1000 * SECONDS)] * (len(frames) - 1) + [round(1000 * SECONDS_OF_LAST)]
    atomic.write_with(
        path, lambda temporary: frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=stay, loop=0)
    )


def _beside(*pictures: Any) -> Any:
    import numpy as np

    return np.concatenate(pictures, axis=1)


def _pixels(figure: Figure) -> Any:
    """uint8 [H, W, 3]."""
    import warnings

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(sheet: Sheet, title: str, words: str, dots: int) -> Figure:
    from matplotlib.figure import Figure

    count, rows_of_map, columns_of_map = sheet.maps.shape
    high, wide = (TILE * side / max(rows_of_map, columns_of_map) for side in (rows_of_map, columns_of_map))
    columns = columns_for(count)
    rows = math.ceil(count / columns)
    left = MARGIN + IMAGE + 0.25
    width = max(left + columns * (wide + GAP) + MARGIN, 5.0)
    larger = max(1.0, width / PAGE)
    small, line = SMALL * larger, LINE * larger
    own = sheet.image.shape[1:]
    image_high, image_wide = (IMAGE * side / max(own) for side in own)
    title = fitted(title, width - 2 * MARGIN, 9 * larger, lines=2)
    top = HEAD + TITLE_LINE * larger * (title.count("\n") + 1)
    height = max(top + rows * (high + line + GAP), top + image_high + 0.6 + 0.8 * larger) + MARGIN
    figure = Figure(figsize=(width, height), dpi=dots)
    figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=9 * larger)

    axes = figure.add_axes((MARGIN / width, 1 - (top + image_high) / height, image_wide / width, image_high / height))
    shown = sheet.image.transpose(1, 2, 0)
    axes.imshow(shown[..., 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    beneath = fitted(Path(sheet.name).name, IMAGE, small) + (f"\n{words}" if words else "")
    figure.text((MARGIN + image_wide / 2) / width, 1 - (top + image_high + 0.05) / height, beneath, ha="center", va="top", fontsize=small)

    grid = figure.add_axes((0, 0, 1, 1))
    grid.set(xlim=(0, width), ylim=(0, height))
    grid.set_axis_off()
    colours = "RdBu_r" if sheet.signed else "viridis"
    largest = alike([float(values.max()) for values in sheet.maps])
    for place, (values, channel, limit) in enumerate(zip(sheet.maps, sheet.channels, sheet.limits, strict=True)):
        x, y = left + place % columns * (wide + GAP), height - top - place // columns * (high + line + GAP) - high
        extent = (x, x + wide, y, y + high)
        picture = grid.imshow(values, cmap=colours, vmin=-limit if sheet.signed else 0, vmax=limit, extent=extent)
        grid.text(x + wide / 2, y - 0.025, f"{channel}: {largest[place]}", ha="center", va="top", fontsize=small, color="0.25")
    grid.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    place_of_bar = ((MARGIN + 0.12) / width, 1 - (top + image_high + 0.52) / height, (IMAGE - 0.24) / width, 0.09 / height)
    _bar(figure, picture, sheet, place_of_bar, points=small)
    return figure


def _bar(figure: Figure, picture: Any, sheet: Sheet, place: tuple[float, float, float, float], *, points: float) -> None:
    """The colours and what they stand for."""
    axes = figure.add_axes(place)
    bar = figure.colorbar(picture, cax=axes, orientation="horizontal", extend=sheet.beyond)
    limit = picture.norm.vmax
    last = "largest" if len(set(sheet.limits)) > 1 else f"{limit:.3g}"
    bar.set_ticks([-limit, 0, limit] if sheet.signed else [0, limit])
    bar.set_ticklabels([f"-{last}", "0", last] if sheet.signed else ["0", last])
    bar.ax.tick_params(labelsize=points, length=2)
    bar.outline.set_linewidth(0.4)
    full = "full colour at the largest" if sheet.beyond == "neither" else f"full colour at the {FULL}th percentile"
    if last == "largest":
        full = "each map by itself, full colour at its largest"
    words = [fitted(text, IMAGE, points, lines=3) for text in (f"activation; {full}", BENEATH)]
    axes.set_xlabel("\n\n".join(words), fontsize=points, labelpad=2, color="0.25")
