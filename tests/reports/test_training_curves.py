"""The pictures of trainings: one run, several runs; with and without validation, with losses that are no numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.engine.events import EpochDone
from cnncli.reports.curves import comparison_figure, draw_comparison, draw_curves

DONE = EpochDone(3, 30, 1.23456, 0.5, 2.34567, 0.987, None, None, None, 0.01, 1.0, 12345.6, best=True)


def training(count: int, every: int = 1) -> list[EpochDone]:
    """`count` epochs, every `every`th with a validation; 0 for none."""
    rows = []
    for n in range(1, count + 1):
        judged = bool(every) and (n % every == 0 or n == count)
        val = {"val_loss": 2.2 / n, "val_accuracy": 1 - 1 / (n + 1)} if judged else {"val_loss": None, "val_accuracy": None}
        rows.append(replace(DONE, epoch=n, step=10 * n, train_loss=2 / n, lr=0.1 / n, best=n == count, **val))  # type: ignore[arg-type]
    return rows


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels - colour).sum(-1) < 30).sum() > 50)


@pytest.mark.parametrize("count", [1, 2, 3, 200])
@pytest.mark.parametrize("every", [0, 1, 3])
def test_curves(count: int, every: int, tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    draw_curves(path, training(count, every), "lenet5 on $digits_1$ & Ünï")
    pixels = pixels_of(path)
    assert pixels.shape == (540, 1350, 3)
    assert has(pixels, (0x44, 0x77, 0xAA))
    assert has(pixels, (0xCC, 0x66, 0x77)) == bool(every), "the validation curve is there, and only then"
    assert has(pixels[:, 1000:], (0x55, 0x55, 0x55)), "the learning rate"
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]


def test_curves_of_odd_numbers(tmp_path: Path) -> None:
    rows = [replace(row, train_loss=math.inf if row.epoch == 2 else math.nan, lr=math.nan, val_loss=0.0) for row in training(4)]
    draw_curves(tmp_path / "odd.png", rows, "")
    draw_curves(tmp_path / "none.png", [], "")
    assert not has(pixels_of(tmp_path / "odd.png")[:, 1250:], (0x55, 0x55, 0x55))


def test_comparison(tmp_path: Path) -> None:
    runs = [("one", training(20)), ("two", training(12, 0)), ("$three$", []), ("four", training(3, 2))]
    draw_comparison(tmp_path / "c.png", runs)
    pixels = pixels_of(tmp_path / "c.png")
    for colour in ((0x44, 0x77, 0xAA), (0xEE, 0x66, 0x77)):
        assert has(pixels, colour)
    figure = comparison_figure(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two", r"\$three\$", "four"]
    loss, accuracy = figure.axes
    dashed = [line for line in accuracy.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 3
    assert loss.get_yscale() == "linear"


def test_small_losses_are_drawn_on_a_logarithmic_scale() -> None:
    assert comparison_figure([("one", training(300))]).axes[0].get_yscale() == "log"


def test_more_runs_than_colours() -> None:
    figure = comparison_figure([(f"a-run-with-a-long-name-{n}", training(3)) for n in range(14)])
    looks = [(line.get_color(), line.get_marker()) for line in figure.legends[0].get_lines()]
    assert len(set(looks)) == 14
