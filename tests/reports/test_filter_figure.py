"""The sheet of filters: frames, numbers, words and what is left of an earlier call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnncli.reports import filter_figure
from cnncli.reports.filter_figure import DOTS_PER_INCH, draw_filters, remove_others, scale_words, write_each


def white(count: int, channels: int = 1) -> np.ndarray:
    return np.full((count, channels, 3, 3), 255, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_white_filter_has_an_edge(channels: int, tmp_path: Path) -> None:
    draw_filters(tmp_path / "a.png", white(3, channels), range(3), "title")
    with Image.open(tmp_path / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    upright = ((grey > 150) & (grey < 230)).sum(0) > 0.9 * filter_figure.LARGEST * DOTS_PER_INCH
    assert upright.sum() >= 6, "the left and the right side of each"


def test_grey_levels_and_their_order(tmp_path: Path) -> None:
    pictures = np.array([0, 100, 200], np.uint8)[:, None, None, None].repeat(5, 2).repeat(5, 3)
    draw_filters(tmp_path / "a.png", pictures, range(3), "title")
    with Image.open(tmp_path / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    side = filter_figure.LARGEST * DOTS_PER_INCH
    places = [np.nonzero(grey == level) for level in (0, 100, 200)]
    assert all(len(found[0]) > 0.9 * side**2 for found in places)
    assert sorted(np.median(found[1]) for found in places) == [np.median(found[1]) for found in places]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What would be written."""
    kept: list[Figure] = []
    monkeypatch.setattr(filter_figure, "write_picture", lambda _, figure: kept.append(figure))
    return kept


@pytest.mark.parametrize("count", [1, 7, 64, 200])
def test_all_words_are_on_the_sheet(count: int, figures: list[Figure], tmp_path: Path) -> None:
    numbers, norms = range(count), np.linspace(12, 1, count).tolist()
    draw_filters(tmp_path, white(count), numbers, "a long title of many words " * 8, note="a note " * 40, norms=norms, left_out=1234)
    (figure,) = figures
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.texts:
        own = text.get_window_extent()
        assert page.x0 <= own.x0 <= own.x1 <= page.x1
        assert page.y0 <= own.y0 <= own.y1 <= page.y1
    words = [text.get_text() for text in figure.texts]
    assert ("0: 12.0" in words) == (count <= filter_figure.NUMBERED)
    assert any("drawn" in text for text in words), "a title's end is kept"


def test_the_scale_in_words() -> None:
    assert scale_words("colour", None) == "grey is 0; each filter is scaled by its own largest weight"
    assert scale_words("channels", None) == "grey is 0; each input channel is scaled by its own largest weight"
    assert scale_words("norms", None) == "black is 0; each filter is scaled by its own largest norm"
    assert scale_words("norms", 1.25) == "black is 0; one scale for all: white is the largest norm, 1.25"
    assert scale_words("channels", 1.25) == "grey is 0; one scale for all: full strength is the largest weight, 1.25"


def test_only_pictures_of_filters_are_removed(tmp_path: Path) -> None:
    others = ("filter-1.jpg", "filter-.png", "filter-1a.png", "afilter-1.png", "filter-1.png.bak", "filter-\u0663.png", "notes.txt")
    for name in ("filter-000.png", "filter-7.png", *others):
        (tmp_path / name).touch()
    (tmp_path / "filter-9.png").mkdir()
    wrote = write_each(tmp_path, white(2), range(2))
    remove_others(tmp_path, wrote)
    assert {path.name for path in tmp_path.iterdir()} == {"filter-0.png", "filter-1.png", "filter-9.png", *others}
