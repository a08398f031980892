"""The page of patches: how pictures become one, and that pages of all kinds are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.patch_figure import FEWEST_DOTS, Block, draw_patches, mosaic


def test_mosaic() -> None:
    """In rows, with white lines; tiny pictures are enlarged in whole steps."""
    pictures = [np.full((24, 30, 3), value) for value in (0.1, 0.2, 0.3)]
    sheet = mosaic(pictures)
    line = sheet.shape[1] - 60
    assert line >= 1
    assert sheet.shape == (48 + line, 60 + line, 3)
    assert sheet[0, 0, 0] == 0.1
    assert sheet[0, 30 + line, 0] == 0.2
    assert sheet[24 + line, 0, 0] == 0.3
    assert sheet[-1, -1, 0] == 1
    assert mosaic([np.zeros((3, 3, 1))]).shape == (FEWEST_DOTS, FEWEST_DOTS, 1)


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
