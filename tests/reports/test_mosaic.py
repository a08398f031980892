"""The mosaic: every image in a cell of its own, where the projection has it."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.mosaic import MOST_CELLS, chosen, draw_mosaic, grid


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_no_two_in_a_cell(count: int) -> None:
    points = np.random.default_rng(0).normal(size=(count, 2))
    places, rows, columns = grid(points)
    assert len({tuple(place) for place in places.tolist()}) == count
    assert (places >= 0).all()
    assert (places < [rows, columns]).all()
    assert rows * columns < count + columns
    assert rows <= columns


def test_the_rectangle_fits_the_count() -> None:
    """No cell is empty where a rectangle of about a page's shape has as many, and few are else."""
    for count in (36, 54, 400):
        _, rows, columns = grid(np.random.default_rng(0).normal(size=(count, 2)))
        assert rows * columns == count
    for count in (101, 127, 251):
        _, rows, columns = grid(np.random.default_rng(0).normal(size=(count, 2)))
        assert rows * columns - count < 0.04 * count
        assert columns < 2 * rows


def test_a_shuffled_grid_is_put_back() -> None:
    order = np.random.default_rng(0).permutation(36)
    points = np.array([(x, y) for y in range(6) for x in range(6)], dtype=float)[order]
    places, _, _ = grid(points)
    assert (places[:, 1] == points[:, 0]).all()
    assert (places[:, 0] == 5 - points[:, 1]).all(), "y grows upwards"


def test_no_other_assignment_costs_less() -> None:
    points = np.random.default_rng(1).uniform(size=(6, 2))
    places, rows, columns = grid(points)
    unit = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    cells = [((column + 0.5) / columns, 1 - (row + 0.5) / rows) for row in range(rows) for column in range(columns)]
    cost = min(sum(np.sum((unit[i] - cells[c]) ** 2) for i, c in enumerate(choice)) for choice in permutations(range(len(cells)), 6))
    own = sum(np.sum((unit[i] - cells[row * columns + column]) ** 2) for i, (row, column) in enumerate(places.tolist()))
    assert own == pytest.approx(cost)


def test_equal_points_and_too_many() -> None:
    assert len({tuple(place) for place in grid(np.zeros((9, 2)))[0].tolist()}) == 9
    assert chosen(10).tolist() == list(range(10))
    some = chosen(MOST_CELLS + 5, seed=2)
    assert len(set(some.tolist())) == MOST_CELLS
    assert (some == chosen(MOST_CELLS + 5, seed=2)).all()


def test_the_picture_shows_each_image_whole(tmp_path: Path) -> None:
    shades = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    points = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], dtype=float)
    draw_mosaic(tmp_path / "m.png", points, lambda n, side: Image.new("RGB", (side, side // 2), shades[n]), title="x", of=9)
    page = Image.open(tmp_path / "m.png").convert("RGB")
    counts = {colour: count for count, colour in page.getcolors(10_000)}
    assert len({counts[shade] for shade in shades}) == 1
    middle = page.width // 2
    columns = {shade: np.argwhere((np.asarray(page) == shade).all(axis=2)).mean(axis=0) for shade in shades}
    assert columns[shades[2]][0] < columns[shades[0]][0], "y grows upwards"
    assert columns[shades[0]][1] < middle < columns[shades[1]][1]
