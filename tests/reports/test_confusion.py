"""The confusion matrix as a picture and as a file, and the pairs confused most."""

from __future__ import annotations

import csv
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.confusion import _apart, confused_pairs, draw_confusion, label, write_confusion


def test_confused_pairs(of_confusion) -> None:
    given = of_confusion(((9, 0, 2), (5, 9, 0), (0, 2, 2)), "abc")
    assert confused_pairs(given, 5) == [("b", "a", 5, 5 / 14), ("c", "b", 2, 0.5), ("a", "c", 2, 2 / 11)]
    assert confused_pairs(given, 1) == [("b", "a", 5, 5 / 14)]


def test_written_as_csv(of_confusion, tmp_path: Path) -> None:
    given = of_confusion(((9, 0, 2), (5, 9, 0), (0, 2, 2)), ["a,b", "=c", "d\ne"])
    write_confusion(tmp_path / "x.csv", given)
    with (tmp_path / "x.csv").open(newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["true class", "a,b", "'=c", "d\ne"]
    assert rows == [["a,b", "9", "0", "2"], ["'=c", "5", "9", "0"], ["d\ne", "0", "2", "2"]]


@pytest.mark.parametrize(("count", "longest"), [(2, 3), (10, 3), (30, 12)])
def test_picture(count: int, longest: int, of_names, tmp_path: Path) -> None:
    names = [f"{number}".rjust(min(longest, 3), "0") + "x" * (longest - 3) for number in range(count)]
    path = tmp_path / "confusion.png"
    draw_confusion(path, of_names(names), "a title")
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        pixels = np.asarray(image.convert("L"))
    assert 500 <= height <= 3000
    assert 1.0 <= width / height <= 1.6
    assert height >= 4 * count, "a class has some pixels"
    assert (pixels < 128).mean() > 0.005, "the diagonal is dark"


@pytest.mark.slow
@pytest.mark.parametrize("count", [90, 200])
def test_labels_never_overlap(count: int, of_confusion, tmp_path: Path, monkeypatch) -> None:
    """Every class is named where there is room; of 200, those confused most; no name lies on another."""
    from cnncli.reports import confusion

    names = [f"class number {number:03d}" for number in range(count)]
    matrix = (50 * np.eye(count, dtype=int)).tolist()
    for number in range(20):
        matrix[3 * number][number + 1] += 20 - number
    drawn = []
    monkeypatch.setattr(confusion, "write_picture", lambda path, figure: drawn.append(figure))
    draw_confusion(tmp_path / "x.png", of_confusion(matrix, names), "a title")
    figure = drawn[0]
    figure.canvas.draw()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        shown = [text for text in axis.get_ticklabels() if text.get_text()]
        assert len(shown) == count if count == 90 else 5 <= len(shown) <= 20
        assert all(text.get_fontsize() >= 5 for text in shown)
        boxes = [text.get_window_extent() for text in shown]
        edges = sorted((b.y0, b.y1) if axis is figure.axes[0].yaxis else (b.x0, b.x1) for b in boxes)
        assert all(first[1] <= second[0] + 1 for first, second in pairwise(edges))
    if count == 200:
        texts = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert names[0] in texts, "the true class of the worst pair"


def test_odd_names(of_names, tmp_path: Path) -> None:
    names = ["$x_1$", "$", "a\nb", "\x1b[31m", "%s", "^{", "_", "\\frac", "-1", "", "猫", "😀"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(tmp_path / "x.png", of_names(names), "$ on 100%")
    with Image.open(tmp_path / "x.png") as image:
        image.load()


def test_a_class_without_images_is_no_division_by_zero(of_confusion, tmp_path: Path) -> None:
    draw_confusion(tmp_path / "x.png", of_confusion(((3, 0), (0, 0)), "ab"), "t")


def test_apart() -> None:
    assert _apart([5, 6, 9, 1, 5], 2) == [1, 5, 9]


def test_labels_are_cut_in_the_middle() -> None:
    assert label("short") == "short"
    assert label("a" * 10 + "b" * 30, 20) == "a" * 10 + "..." + "b" * 7
    assert len(label("x" * 99, 24)) == 24
    assert label("$1\n") == r"\$1\n"
