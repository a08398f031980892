"""Pictures that stand in the page itself, as data URIs: thumbnails, filters, the drawing of the net."""

from __future__ import annotations

import io
import math
import warnings
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.arch.drawing.builder import draw
from cnncli.arch.net import Net
from cnncli.errors import printable
from cnncli.reports.diagram.marks import FONT
from cnncli.reports.diagram.page import page
from cnncli.reports.diagram.write import paint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

QUALITY = 85  # of a JPEG
MOST_FILTERS = 256
FILTER_SIDE = 56  # pixels that a filter is enlarged to, about
FILTER_GAP = 2
ONE_ROW = 8  # filters that stand side by side


class Embedded(NamedTuple):
    """A picture as an address of itself, and its size in CSS pixels. pixelated: whether each of its pixels is to be seen."""

    uri: str
    width: int
    height: int
    pixelated: bool = False


def thumbnail(image: Image) -> Embedded:
    """A small picture as PNG where that is no larger (few pixels, or few large ones: none is blurred), else as JPEG."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    colour = image.convert("RGB")
    colour.save(png, "PNG", optimize=True)
    colour.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    if len(png.getvalue()) <= len(jpeg.getvalue()):
        return Embedded(data_uri("image/png", png.getvalue()), image.width, image.height, pixelated=True)
    return Embedded(data_uri("image/jpeg", jpeg.getvalue()), image.width, image.height)


def filter_grid(weights: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Filters side by side, from float [filters, channels, height, width] with 1 or 3 channels: uint8 [rows, columns, channels + alpha].

    Zero is the middle grey, 127.5; each filter is scaled by its own largest magnitude to 0..255, so brightness cannot be compared between
    filters. Each weight becomes a square of whole pixels; between filters nothing is drawn (alpha 0). At most MOST_FILTERS.
    """
    import numpy as np

    weights = np.nan_to_num(weights[:MOST_FILTERS].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    count, channels, height, width = weights.shape
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    grey = np.round(127.5 + 127.5 * weights / np.where(largest > 0, largest, 1)).astype(np.uint8)
    times = max(1, round(FILTER_SIDE / max(height, width)))
    tiles = grey.repeat(times, axis=2).repeat(times, axis=3).transpose(0, 2, 3, 1)
    columns = count if count <= ONE_ROW else math.ceil(math.sqrt(2 * count))  # about twice as wide as high
    rows = math.ceil(count / columns)
    step_y, step_x = height * times + FILTER_GAP, width * times + FILTER_GAP
    sheet = np.zeros((rows * step_y - FILTER_GAP, columns * step_x - FILTER_GAP, channels + 1), np.uint8)
    for number, tile in enumerate(tiles):
        y, x = number // columns * step_y, number % columns * step_x
        sheet[y : y + height * times, x : x + width * times, :channels] = tile
        sheet[y : y + height * times, x : x + width * times, channels] = 255
    return sheet


def filter_picture(weights: npt.NDArray[np.floating[Any]]) -> Embedded:
    """`filter_grid` as a picture."""
    from PIL import Image

    image = Image.fromarray(filter_grid(weights))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return Embedded(data_uri("image/png", stream.getvalue()), image.width, image.height, pixelated=True)


def diagram(net: Net) -> Embedded:
    """The drawing of the net (see cnncli.reports.diagram) as SVG on no ground."""
    import matplotlib as mpl

    sheet = page(draw(net))
    figure = paint(sheet)
    stream = io.BytesIO()
    letters = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": printable(net.name), "font.family": FONT[:1]})
    with letters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # such letters are drawn as boxes
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return Embedded(data_uri("image/svg+xml", stream.getvalue()), round(sheet.width * 96 / 72), round(sheet.height * 96 / 72))


def data_uri(kind: str, data: bytes) -> str:
    """The bytes as an address of themselves."""
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"
