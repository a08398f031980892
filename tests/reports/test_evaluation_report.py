"""A judgement on the terminal, as JSON and as a picture."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.engine.metrics import ClassScore, Judgement
from cnncli.reports.evaluation import confused_pairs, draw_confusion, evaluation_json, print_evaluation
from cnncli.reports.predictions import prediction_json, prediction_line


def judgement(names: list[str], *, seed: int = 0) -> Judgement:
    count = len(names)
    confusion = np.random.default_rng(seed).integers(0, 4, (count, count)) + 20 * np.eye(count, dtype=int)
    per_class = tuple(ClassScore(name, 0.5, 0.25, 1 / 3, int(row.sum())) for name, row in zip(names, confusion, strict=True))
    total = int(confusion.sum())
    rows = tuple(tuple(map(int, row)) for row in confusion)
    return Judgement(total, float(np.trace(confusion) / total), 1.0, 0.1234567, per_class, rows)


def test_json_has_the_documented_keys() -> None:
    found = evaluation_json(judgement(["a", "b"]), model="run", data="photos", split="val")
    assert list(found) == ["model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class", "confusion"]
    assert found["per_class"][0].keys() == {"class", "precision", "recall", "f1", "support"}
    assert sum(map(sum, found["confusion"])) == found["count"]


def test_printed_with_a_matrix(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    given = judgement(["bus", "cat", "dog"])
    print_evaluation(given, model="run", data="photos", split="val")
    out = capsys.readouterr().out
    assert out.startswith(f"run on photos, split val: {given.count} images\ntop-1 {given.top1:.2%}   top-5 100.00%   loss 0.1235\n")
    assert "confusion: rows are the true class" in out
    assert [line.split() for line in out.splitlines()][-1] == ["dog", *(str(n) if n else "." for n in given.confusion[2])]


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_printed_without_room_for_a_matrix(columns: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    given = judgement([f"class-{number:03d}" for number in range(40)])
    print_evaluation(given, model="run", data="photos", split="val")
    out = capsys.readouterr().out
    assert "confusion: rows" not in out
    assert "most confused" in out
    assert all(f"class-{number:03d}" in out for number in range(40))


def test_confused_pairs() -> None:
    given = Judgement(20, 0.5, 1, 1, tuple(ClassScore(n, 0, 0, 0, 0) for n in "abc"), ((9, 0, 2), (5, 9, 0), (0, 1, 9)))
    assert confused_pairs(given) == [("b", "a", 5), ("a", "c", 2), ("c", "b", 1)]


def test_hostile_class_names_do_not_reach_the_terminal(monkeypatch, capsys) -> None:
    for columns in ("30", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        print_evaluation(judgement(["\x1b[31mx", "a\nb", "\u202ec"]), model="m\x1b[2J", data="d\n", split="val")
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\u202e" not in out


@pytest.mark.parametrize(("count", "longest"), [(2, 3), (10, 3), (60, 20), pytest.param(200, 30, marks=pytest.mark.slow)])
def test_confusion_picture(count: int, longest: int, tmp_path: Path) -> None:
    names = [f"{number}".rjust(min(longest, 3), "0") + "x" * (longest - 3) for number in range(count)]
    path = tmp_path / "confusion.png"
    draw_confusion(path, judgement(names), "a title")
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        pixels = np.asarray(image.convert("L"))
    assert 500 <= height <= 5000
    assert 1.0 <= width / height <= 1.4
    assert height >= 4 * count, "a class has some pixels"
    assert (pixels < 128).mean() > 0.005, "the diagonal is dark"


def test_confusion_picture_with_odd_names(tmp_path: Path) -> None:
    names = ["$x_1$", "$", "a\nb", "\x1b[31m", "%s", "^{", "_", "\\frac", "-1", "", "猫", "😀"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(tmp_path / "x.png", judgement(names), "$ on 100%")
    with Image.open(tmp_path / "x.png") as image:
        image.load()


def test_a_class_without_images_is_no_division_by_zero(tmp_path: Path) -> None:
    given = Judgement(3, 1, 1, 0.1, (ClassScore("a", 1, 1, 1, 3), ClassScore("b", 0, 0, 0, 0)), ((3, 0), (0, 0)))
    draw_confusion(tmp_path / "x.png", given, "t")


def test_predictions() -> None:
    guesses = [("cat", 0.9812), ("d\x1bog", 0.0123)]
    assert prediction_line("a\nb.jpg", guesses) == "a\\nb.jpg: cat 98.1%, d\\x1bog 1.2%"
    assert prediction_json("a\nb.jpg", guesses) == {
        "path": "a\nb.jpg",
        "predictions": [{"class": "cat", "probability": 0.9812}, {"class": "d\x1bog", "probability": 0.0123}],
    }
