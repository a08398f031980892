"""The picture of what finetuning is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncli.engine.intervals import wilson
from cnncli.reports.transfer_curves import apart, draw_comparison, mean_per_class
from cnncli.transfer.comparison import METHODS, Comparison, Outcome


def comparison(sizes: Sequence[int | None], methods: Sequence[str] = METHODS, *, name: str = "x", everything: int = 402) -> Comparison:
    found = []
    for number, size in enumerate(sizes):
        for place, method in enumerate(methods):
            right = min(100, 20 + 15 * place + 10 * number)
            images = everything if size is None else 5 * size
            found.append(Outcome(method, size, images, 100, right / 100, wilson(right, 100), 12.3 * 10**place, 2565 * 10**place))
    return Comparison(name, "photos", 5, tuple(found))


def colours(path: Path) -> set[tuple[int, ...]]:
    """The colours that a picture has a hundred pixels of, or more."""
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(image.width * image.height)
    return {colour for count, colour in found if count >= 100}


BLUE, RED, GREEN, PURPLE = (0x44, 0x77, 0xAA), (0xEE, 0x66, 0x77), (0x22, 0x88, 0x33), (0xAA, 0x33, 0x77)


@pytest.mark.parametrize(("sizes", "height"), [([1, 2, 5, None], 800), ([None], 538), ([5], 538), ([20, None], 800)])
def test_every_method_is_drawn(sizes, height: int, tmp_path: Path) -> None:
    draw_comparison(tmp_path / "x.png", comparison(sizes))
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (1280, height)
    assert {BLUE, RED, GREEN, PURPLE} <= colours(tmp_path / "x.png")


def test_fewer_methods(tmp_path: Path) -> None:
    draw_comparison(tmp_path / "x.png", comparison([1, None], METHODS[:2]))
    found = colours(tmp_path / "x.png")
    assert {BLUE, RED} <= found
    assert not {GREEN, PURPLE} & found


@pytest.mark.parametrize("sizes", [[1, 20], [None]])
def test_odd_and_long_names(sizes, tmp_path: Path) -> None:
    draw_comparison(tmp_path / "x.png", comparison(sizes, ("$a\x1b\n" + "long " * 30, "b$"), name="$x_1" + "very " * 50))
    with Image.open(tmp_path / "x.png") as image:
        assert image.width == 1280
    assert BLUE in colours(tmp_path / "x.png")


@pytest.mark.parametrize(("sizes", "mean"), [([1, 2, None], 80.4), ([5, None], 80.4), ([1, 2], None), ([None], None)])
def test_where_all_images_stand(sizes, mean: float | None) -> None:
    found = mean_per_class(comparison(sizes))
    assert found == (None if mean is None else pytest.approx(mean))


def test_classes_with_fewer_images_than_asked_for_do_not_hide_how_many_classes_there_are() -> None:
    one = comparison([1], METHODS[:1]).outcomes[0]
    outcomes = (one, Outcome("x", 20, 60, 9, 0.5, wilson(4, 9), 1.0, 1), Outcome("x", None, 70, 9, 0.5, wilson(4, 9), 1.0, 1))
    assert mean_per_class(Comparison("x", "y", 1, outcomes)) == 70 / 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_labels_do_not_cover_each_other(values: list[float]) -> None:
    values = sorted(values)
    found = apart(values, 0.06)
    assert all(b - a >= 0.06 - 1e-9 for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(values)), "what moves up for one moves down for another"
    if all(b - a >= 0.06 for a, b in pairwise(values)):
        assert found == pytest.approx(values)
