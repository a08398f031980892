"""The page of patches: how pictures become one, and that pages of all kinds are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnncli.reports import patch_figure
from cnncli.reports.patch_figure import FEWEST_DOTS, Block, draw_patches, mosaic


def test_mosaic() -> None:
    """In rows, with white lines; tiny pictures are enlarged in whole steps."""
    pictures = [np.full((24, 30, 3), value) for value in (0.1, 0.2, 0.3)]
    sheet, corners, size = mosaic(pictures)
    line = sheet.shape[1] - 60
    assert line >= 1
    assert sheet.shape == (48 + line, 60 + line, 3)
    assert sheet[0, 0, 0] == 0.1
    assert sheet[0, 30 + line, 0] == 0.2
    assert sheet[24 + line, 0, 0] == 0.3
    assert sheet[-1, -1, 0] == 1
    assert (corners, size) == ([(0, 0), (0, 30 + line), (24 + line, 0)], (24, 30))
    assert mosaic([np.zeros((3, 3, 1))])[0].shape == (FEWEST_DOTS, FEWEST_DOTS, 1)


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("signals", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_page(count: int, signals: bool, channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 256, (channels, 9, 7), dtype=np.uint8)
    block = Block("channel 3: 1.2 to 0.4", [patch] * 9, [rng.normal(size=patch.shape)] * 9 if signals else ())
    draw_patches(tmp_path / "page.png", [block] * count, "a net on images: conv1", note="16 of 64 channels")
    with Image.open(tmp_path / "page.png") as image:
        assert image.width >= 700
        assert (np.asarray(image.convert("L")) < 100).any()


@pytest.mark.parametrize("signals", [False, True])
def test_white_patches_have_edges(signals: bool, tmp_path: Path) -> None:
    """Nine white patches: the frames stand in rows and columns, six of each, or twice as many columns."""
    white = np.full((3, 9, 9), 255, np.uint8)
    draw_patches(tmp_path / "page.png", [Block("", [white] * 9, [np.ones((3, 9, 9))] * 9 if signals else ())], "")
    with Image.open(tmp_path / "page.png") as image:
        dark = np.asarray(image.convert("L")) < 235
    upright = dark.mean(0) > 0.5
    assert (np.diff(upright.astype(int)) == 1).sum() == (12 if signals else 6)


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("signals", [False, True])
def test_words_are_on_the_page(count: int, signals: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Long titles are cut by their width, what is told of a channel is whole, no letter is below 6 points on a page of 7.2 inches."""
    kept: list[Figure] = []
    monkeypatch.setattr(patch_figure, "write_picture", lambda _, figure: kept.append(figure))
    words = "channel 1023: activation 0.99961 to 0.99948"
    patch = np.zeros((1, 8, 8), np.uint8)
    block = Block(words, [patch] * 9, [np.ones((1, 8, 8))] * 9 if signals else ())
    draw_patches(tmp_path, [block] * count, "W" * 90 + " " + "W" * 90, note="a note of many words " * 20)
    (figure,) = kept
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(0 <= box.x0 <= box.x1 <= figure.bbox.x1 and 0 <= box.y0 <= box.y1 <= figure.bbox.y1 for box in boxes)
    assert all(not one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    assert not any(box.overlaps(axes.get_window_extent()) for box in boxes for axes in figure.axes)
    assert min(text.get_fontsize() for text in figure.texts) * min(1.0, 7.2 / figure.get_size_inches()[0]) >= 6
    assert [text.get_text().replace("\n", " ") for text in figure.texts].count(words) == count
