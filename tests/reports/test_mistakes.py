"""The worst mistakes: which they are, and their gallery."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncli.reports.mistakes import THUMBNAIL, Mistake, draw_mistakes, worst
from cnncli.reports.scored_images import per_image


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 99), st.integers(0, 12))
def test_worst_is_what_a_slow_search_finds(given_scores: Any, count: int, classes: int, seed: int, most: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (count, classes), generator=generator).float()  # whole numbers: many are equally sure
    labels = torch.randint(0, classes, (count,), generator=generator)
    told = given_scores(scores, labels, tuple(map(str, range(count))), tuple(f"c{n}" for n in range(classes)))
    expected = []
    for row in range(count):
        p = scores[row].double().softmax(0)
        guess, true = int(scores[row].argmax()), int(labels[row])
        if guess != true:
            expected.append((-round(float(p[guess]), 12), round(float(p[true]), 12), row, f"c{guess}", f"c{true}"))
    found = worst(told, most)
    assert [(m.row, m.predicted, m.true) for m in found] == [entry[2:] for entry in sorted(expected)[:most]]
    for mistake in found:
        p = scores[mistake.row].double().softmax(0)
        assert mistake.confidence == pytest.approx(float(p.max()))
        assert mistake.true_probability == pytest.approx(float(p[labels[mistake.row]]))
        assert mistake.name == str(mistake.row)
    assert worst(told, most, per_image(told)) == found


def asked(calls: list[tuple[int, int]]):
    def thumbnail(row: int, side: int) -> Image.Image:
        calls.append((row, side))
        shape = (side, side // (1 + row % 3), 3) if row % 2 else (side // (1 + row % 3), side, 3)
        return Image.fromarray(np.full(shape, 40 * (row % 6), dtype=np.uint8))

    return thumbnail


def mistakes(count: int) -> list[Mistake]:
    return [Mistake(row, f"folder/{row}.png", "a", "b" * row, 0.9, 0.01) for row in range(count)]


@pytest.mark.parametrize("count", [0, 1, 5, 11])
def test_gallery(count: int, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    draw_mistakes(tmp_path / "x.png", mistakes(count), asked(calls), "run on photos, test")
    assert calls == [(row, THUMBNAIL) for row in range(count)], "only what is shown is read"
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
        width, height = image.size
    assert width == pytest.approx(1560, abs=5)
    assert height == pytest.approx(200 * (0.6 + 1.86 * max(1, -(-count // 5))), abs=5)


def test_odd_names(tmp_path: Path) -> None:
    odd = [Mistake(0, "$\x1b\n" * 40, "猫", "$x^", 1.0, 0.0), Mistake(1, "", "", "\\frac{", 0.5, 0.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_mistakes(tmp_path / "x.png", odd, asked([]), "$" * 300)
    assert (tmp_path / "x.png").stat().st_size
