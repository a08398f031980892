"""Maps as pictures: the scale of their colours, the grid, the frames of an animation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.activation_figure import BENEATH, Sheet, _figure, animate_maps, beyond, columns_for, draw_maps, limits_of


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


@pytest.mark.parametrize(
    ("limits", "passed", "words"),
    [
        ([1.0] * 5, "max", "activation; full colour at the 99.5th percentile"),
        ([1.0] * 5, "neither", "activation; full colour at the largest"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "neither", "activation; each map by itself, full colour at its largest"),
    ],
)
def test_the_scale_is_said(limits: list[float], passed: str, words: str) -> None:
    made = replace(sheet(0.5), limits=limits, beyond=passed)
    figure = _figure(made, "title", "", 100)
    label = figure.axes[-1].get_xlabel()
    assert label.replace("\n", " ").split("  ") == [words, BENEATH]


@pytest.mark.parametrize("count", [1, 64])
def test_words_are_on_the_page_and_of_one_kind(count: int) -> None:
    """Values with the same decimals; a long title is cut by its width; letters are no smaller than 6 points on a page of 7.2 inches."""
    maps = np.linspace(12.34, 0.1, count)[:, None, None] * np.ones((1, 6, 6))
    made = Sheet(np.zeros((3, 8, 8), np.uint8), "W" * 50, maps, range(200, 200 + count), [12.34] * count, "neither", False)
    figure = _figure(made, "W" * 100 + " " + "W" * 100, "epoch 3 of 7", 100)
    figure.draw_without_rendering()
    texts = [text for text in (*figure.texts, *figure.axes[1].texts, figure.axes[-1].xaxis.label) if text.get_text()]
    captions = [text.get_text() for text in figure.axes[1].texts]
    assert captions[0] == "200: 12.3"
    assert all(caption.split(".")[1:] and len(caption.split(".")[1]) == 1 for caption in captions)
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1
        assert text.get_fontsize() * min(1.0, 7.2 / figure.get_size_inches()[0]) >= 6


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
