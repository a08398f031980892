"""Images where a projection put them, on a grid without overlaps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli import atomic

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

MOST_CELLS = 2500  # the assignment takes seconds there, and grows with the third power
WIDEST = 3000  # pixels
LARGEST_CELL, LEAST_CELL = 96, 40
WIDEST_SHAPE = 1.6  # columns for a row
GAP = 2
MARGIN, HEAD = 16, 44
TITLE_SIZE = 18


def chosen(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Which of so many images a mosaic has room for: all, or MOST_CELLS by a seeded choice."""
    import numpy as np

    if count <= MOST_CELLS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_CELLS])


def grid(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], int, int]:
    """([N, 2] the row and column of each point, rows, columns): every point in a cell of its own, the picture filled.

    The cells are those with the least sum of squared distances between points and cells, both scaled to a unit square: the linear
    assignment problem.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    count = len(points)
    rows, columns = _sides(count)
    span = np.ptp(points, axis=0)
    unit = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    places = np.array([(row, column) for row in range(rows) for column in range(columns)])
    # y grows upwards in the plane and downwards in the picture.
    centres = np.stack([(places[:, 1] + 0.5) / columns, 1 - (places[:, 0] + 0.5) / rows], axis=1)
    order, cells = linear_sum_assignment(cdist(unit, centres, "sqeuclidean"))
    found = np.empty((count, 2), dtype=np.int64)
    found[order] = places[cells]
    return found, rows, columns


def _sides(count: int) -> tuple[int, int]:
    """(rows, columns) with room for so many cells: the fewest empty ones, of sides not much further apart than WIDEST_SHAPE."""
    square = math.ceil(math.sqrt(count))
    shapes = (sorted((rows, math.ceil(count / rows))) for rows in range(math.ceil(math.sqrt(count / WIDEST_SHAPE)), square + 1))
    rows, columns = min(shapes, key=lambda shape: (shape[0] * shape[1], shape[1] - shape[0]))
    return rows, columns


def draw_mosaic(
    path: Path, points: npt.NDArray[np.float64], thumbnail: Callable[[int, int], Image], *, title: str, of: int | None = None
) -> None:
    """Write thumbnails, none cropped, as a PNG. points: [N, 2]; thumbnail: (number of the point, side) -> image. of: how many images
    there are, where these are a choice.
    """
    from PIL import Image, ImageDraw, ImageFont

    places, rows, columns = grid(points)
    side = max(LEAST_CELL, min(LARGEST_CELL, WIDEST // columns)) - GAP
    pictures = [thumbnail(number, side) for number in range(len(points))]
    cell = max(max(picture.size) for picture in pictures)  # small images are enlarged in whole steps, and may be smaller than asked for
    page = Image.new("RGB", (2 * MARGIN + columns * (cell + GAP) - GAP, HEAD + rows * (cell + GAP) - GAP + MARGIN), "white")
    for number, (row, column) in enumerate(places.tolist()):
        picture = pictures[number]
        x, y = MARGIN + column * (cell + GAP), HEAD + row * (cell + GAP)
        page.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
    told = title if of is None or of == len(points) else f"{title}; {len(points):,} of {of:,} images, drawn at random"
    from matplotlib import get_data_path

    face = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    size = TITLE_SIZE
    font = ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)
    while size > 9 and font.getlength(told[:1000]) > page.width - 2 * MARGIN:
        size -= 1
        font = ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(page).text((MARGIN, (HEAD - size) // 2 - 2), told[:1000], (20, 20, 20), font)
    atomic.write_with(path, lambda temporary: page.save(temporary, "PNG", dpi=(150, 150)))
