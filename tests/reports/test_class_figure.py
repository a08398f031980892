"""The page of classes: its size, what is drawn of each row, and in which colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnncli.reports import class_figure
from cnncli.reports.class_figure import CELL, DOTS_PER_INCH, NUMBER, RED, WRONG, ClassRow, Shot, draw_classes

DOTS = int(CELL * DOTS_PER_INCH) ** 2  # of a square image, at least


def row(channels: int, best: int, worst: int, *, level: int = 200, taken_for: str = "") -> ClassRow:
    pixels = np.full((channels, 8, 8), level, np.uint8)
    image, saliency = np.full((8, 8, channels), 0.4), np.zeros((8, 8))
    saliency[:4] = 7
    shots = [Shot(pixels, "", 0.9)] * best, [Shot(pixels // 2, taken_for, 0.7)] * worst
    return ClassRow("$cat\x1b" + "x" * 40, "3 images, recall 0.500 $", image, saliency, *shots)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def dots(page: np.ndarray, level: int) -> int:
    return int((np.abs(page - level).max(-1) <= 1).sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_drawn(channels: int, tmp_path: Path) -> None:
    draw_classes(tmp_path / "a.png", [row(channels, 3, 2), row(channels, 1, 0)], "$net on $data")
    page = read(tmp_path / "a.png")
    for level, count in ((200, 4), (100, 2), (102, 2)):
        shown = dots(page, level)
        assert shown >= count * DOTS * 0.95, level
    assert (np.abs(page - 200).max(-1) <= 1).sum() < 5 * DOTS
    half = dots(page, 0)
    assert DOTS * 0.95 < half < 1.4 * DOTS, "half of each mean saliency is black"


def test_mistakes_are_red(tmp_path: Path) -> None:
    red = np.array(list(bytes.fromhex(WRONG[1:])))
    found = []
    for name in ("", "dog"):
        draw_classes(tmp_path / "a.png", [row(1, 2, 2, taken_for=name)], "title")
        page = read(tmp_path / "a.png")
        found.append((int((np.abs(page - red).max(-1) <= 2).sum()), len(page)))
    (none, low), (some, high) = found
    assert none == 0
    assert some > 20
    assert high > low, "a second line beneath the images"


def test_pages_grow_by_rows_and_images(tmp_path: Path) -> None:
    sizes = []
    for rows, shots in ((1, 5), (2, 5), (1, 6)):
        draw_classes(tmp_path / "a.png", [row(1, shots, shots)] * rows, "title")
        sizes.append(read(tmp_path / "a.png").shape[:2])
    assert sizes[1][0] > sizes[0][0]
    assert sizes[1][1] == sizes[0][1] < sizes[2][1]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What would be written."""
    kept: list[Figure] = []
    monkeypatch.setattr(class_figure, "write_picture", lambda _, figure: kept.append(figure))
    return kept


def test_what_stands_beneath_an_image(figures: list[Figure], tmp_path: Path) -> None:
    """The name of a mistake above the number, and the page says what both are."""
    shots = [Shot(np.zeros((1, 8, 8), np.uint8), name, share) for name, share in (("", 0.987), ("dog", 0.25), ("cow", 0.004))]
    one = row(1, 1, 1)._replace(best=shots[:1], worst=shots[1:])
    draw_classes(tmp_path, [one], "title")
    draw_classes(tmp_path, [one._replace(worst=[])], "title")
    places = {text.get_text().replace("\n", " "): text.get_position() for text in figures[0].texts}
    assert {"0.99", "0.25", "<0.01"} <= set(places)
    for name, number in (("dog", "0.25"), ("cow", "<0.01")):
        assert places[name][0] == places[number][0]
        assert places[name][1] > places[number][1]
    red = [text.get_text() for text in figures[0].texts if text.get_color() == WRONG]
    assert red == ["dog", "cow"]
    assert NUMBER + RED in places
    assert NUMBER in [text.get_text() for text in figures[1].texts], "no word of red where nothing is"


def test_all_words_are_on_the_page(figures: list[Figure], tmp_path: Path) -> None:
    """Long names of models, data and classes are cut by their width."""
    wide = row(1, 1, 1, taken_for="W" * 40)._replace(name="W" * 80, words="W" * 200)
    draw_classes(tmp_path, [wide] * 2, "W" * 80 + " " + "W" * 200)
    (figure,) = figures
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in (*figure.texts, *figure.artists)]
    assert len(boxes) > 10
    assert all(0 <= box.x0 <= box.x1 <= figure.bbox.x1 and 0 <= box.y0 <= box.y1 <= figure.bbox.y1 for box in boxes)
