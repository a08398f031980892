"""A judgement on the terminal and as JSON."""

from __future__ import annotations

import re

import pytest
import torch

from cnncli.engine.metrics import judge
from cnncli.reports.evaluation import evaluation_json, print_evaluation
from cnncli.reports.predictions import prediction_json, prediction_line

KEYS = ["model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class", "confusion"]
LATER = ["top1_interval", "top5_interval", "loss_interval", "balanced_accuracy", "macro", "weighted", "calibration", "how", "left_out"]


def test_json_has_the_documented_keys(of_names) -> None:
    given = of_names(["a", "b"])
    found = evaluation_json(given, model="run", data="photos", split="val")
    assert list(found) == KEYS + LATER
    assert found["per_class"][0].keys() == {"class", "precision", "recall", "f1", "support"}
    assert sum(map(sum, found["confusion"])) == found["count"]
    for rate in ("top1", "top5", "loss"):
        low, high = found[f"{rate}_interval"]
        assert low <= found[rate] <= high
        assert low < high
    assert found["macro"].keys() == found["weighted"].keys() == {"precision", "recall", "f1"}
    assert list(found["calibration"]) == ["ece", "mce", "brier", "temperature", "scaled_ece", "scaled_loss", "bins"]
    assert sum(b["count"] for b in found["calibration"]["bins"]) == found["count"]
    assert found["calibration"]["bins"][0].keys() == {"low", "high", "count", "confidence", "accuracy"}


def test_json_of_slices_is_there_when_asked_for(of_names) -> None:
    from cnncli.engine.slices import by_value

    given = of_names(["a", "b"])
    slices = {"camera": by_value(["x", "y", "x"], [True, False, False], [0.1, 2.0, 1.0], order="value", most=None)}
    found = evaluation_json(given, model="run", data="photos", split="val", slices=slices)
    assert list(found) == [*KEYS, *LATER, "slices"]
    assert [(entry["value"], entry["count"], entry["top1"], entry["loss"]) for entry in found["slices"]["camera"]] == [
        ("x", 2, 0.5, pytest.approx(0.55)),
        ("y", 1, 0.0, 2.0),
    ]


def test_printed_with_a_matrix(of_names, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    given = of_names(["bus", "cat", "dog"])
    print_evaluation(given, model="run", data="photos", split="val", how="fp32, channels-last")
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith(f"run on photos, split val: {given.count} images\n")
    low, high = given.top1_interval.low, given.top1_interval.high
    assert ["top-1", f"{given.top1:.2%}", f"{100 * low:.2f}", "to", f"{high:.2%}"] in lines
    assert ["loss", f"{given.loss:.4f}", f"{given.loss_interval.low:.4f}", "to", f"{given.loss_interval.high:.4f}"] in lines
    assert ["balanced", "accuracy", f"{given.balanced_accuracy:.2%}"] in lines
    assert "top-5" not in out, "of three classes five guesses are always right"
    assert ["macro", "mean", *(f"{rate:.1%}" for rate in (given.macro.precision, given.macro.recall, given.macro.f1)), "63"] not in lines
    assert ["macro", "mean"] in [line[:2] for line in lines]
    assert ["weighted", "mean"] in [line[:2] for line in lines]
    assert "confusion: rows are the true class" in out
    assert ["dog", *(str(n) if n else "." for n in given.confusion[2])] in lines
    assert f"ECE {given.calibration.ece:.2%}" in out
    assert lines[-1] == ["computed", "in", "fp32,", "channels-last"]
    assert max(map(len, out.splitlines())) <= 80


def test_top5_is_printed_where_it_says_something(of_names, capsys) -> None:
    print_evaluation(of_names(list("abcdef")), model="run", data="photos", split="val")
    assert re.search(r"^top-5 +\d", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_printed_without_room_for_a_matrix(columns: str, of_names, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_evaluation(of_names([f"class-{number:03d}" for number in range(28)]), model="run", data="photos", split="val")
    out = capsys.readouterr().out
    assert "confusion: rows" not in out
    assert "most confused" in out
    assert all(f"class-{number:03d}" in out for number in range(28))


@pytest.mark.parametrize("columns", ["40", "80", "140"])
def test_the_worst_of_many_classes(columns: str, of_confusion, monkeypatch, capsys) -> None:
    """Of 40 classes those with the lowest F1, without the ones that have no images; and where the others are."""
    monkeypatch.setenv("COLUMNS", columns)
    names = [f"class-{number:03d}" for number in range(40)]
    confusion = [[0] * 40 for _ in names]
    for number in range(39):
        confusion[number][number] = 60 - number
        confusion[number][0] += number
    given = of_confusion(confusion, names)
    print_evaluation(given, model="run", data="photos", split="val", all_classes="out/eval.json")
    out = capsys.readouterr().out
    expected = sorted((c for c in given.per_class if c.support), key=lambda c: c.f1)[:10]
    shown = [word for line in out.split("most confused")[0].splitlines() for word in line.split() if word.startswith("class-")]
    assert shown == [c.name for c in expected]
    assert "class-039" not in out
    assert "10 of 40 classes with the lowest F1" in " ".join(out.split())
    assert "out/eval.json" in out
    assert max(map(len, out.splitlines())) <= int(columns)


def test_hostile_class_names_do_not_reach_the_terminal(of_names, monkeypatch, capsys) -> None:
    for columns in ("30", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        given = of_names(["\x1b[31mx", "a\nb", "\u202ec"])
        print_evaluation(given, model="m\x1b[2J", data="d\n", split="val", how="h\x1b[1m")
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_one_image(capsys) -> None:
    """No interval of the loss can be told, and nothing fails."""
    given = judge(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]), ("a", "b", "c"))
    print_evaluation(given, model="run", data="photos", split="val")
    out = capsys.readouterr().out
    assert "1 images" not in out
    assert "1 image\n" in out
    assert re.search(r"^loss +0\.2395 +0\.0000 to inf$", out, re.MULTILINE)


def test_predictions() -> None:
    guesses = [("cat", 0.9812), ("d\x1bog", 0.0123)]
    assert prediction_line("a\nb.jpg", guesses) == "a\\nb.jpg: cat 98.1%, d\\x1bog 1.2%"
    assert prediction_json("a\nb.jpg", guesses) == {
        "path": "a\nb.jpg",
        "predictions": [{"class": "cat", "probability": 0.9812}, {"class": "d\x1bog", "probability": 0.0123}],
    }
