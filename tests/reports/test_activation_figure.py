"""Maps as pictures: the scale of their colours, the grid, the frames of an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.activation_figure import Sheet, animate_maps, beyond, columns_for, draw_maps, limits_of


def test_limits() -> None:
    maps = np.zeros((2, 3, 10, 10))
    maps[0, 1] = 1.0
    maps[1, 2, 0, 0] = -8.0
    assert limits_of(maps, each=True) == [1.0, 1.0, 8.0]
    assert limits_of(maps, each=False) == [1.0] * 3
    assert limits_of(np.zeros((2, 4, 4)), each=False) == [1.0] * 2
    assert beyond(maps, [1.0] * 3) == "min"
    assert beyond(-maps, [1.0] * 3) == "max"
    assert beyond(maps, [8.0] * 3) == "neither"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (6, 3), (16, 4), (20, 5), (64, 8), (32, 8)])
def test_grids_are_full(count: int, columns: int) -> None:
    assert columns_for(count) == columns


def sheet(level: float, *, signed: bool = False, channels: int = 3) -> Sheet:
    maps = np.full((5, 6, 6), level)
    return Sheet(np.full((channels, 8, 8), 100, np.uint8), "a.png", maps, range(5), [1.0] * 5, "neither", signed)


@pytest.mark.parametrize(
    ("level", "signed", "colour"), [(1.0, False, (253, 231, 37)), (0.0, True, (247, 247, 247)), (-1.0, True, (5, 48, 97))]
)
def test_a_picture(level: float, signed: bool, colour: tuple[int, int, int], tmp_path: Path) -> None:
    """The ends of the palettes: yellow is the most of viridis, white is 0 and dark blue the least of what has signs."""
    draw_maps(tmp_path / "a.png", sheet(level, signed=signed), "title")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (np.abs(pixels.astype(int) - colour).max(-1) <= 1).sum() > 5 * 100 * 100


def test_an_animation(tmp_path: Path) -> None:
    animate_maps(tmp_path / "a.gif", [("before", sheet(0.0)), ("epoch 1", sheet(0.5)), ("epoch 2", sheet(1.0))], "title")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        stays, frames = [], []
        for number in range(3):
            image.seek(number)
            stays.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    assert stays == [500, 500, 2000]
    yellow = [int((np.abs(frame - (253, 231, 37)).max(-1) <= 12).sum()) for frame in frames]
    assert yellow[2] > yellow[0] + 5 * 50 * 50
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
