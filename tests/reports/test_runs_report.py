"""The list of runs and their comparison: what stands in a cell, and what is left out where a terminal is narrow."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cnncli.engine.events import EpochDone
from cnncli.engine.run_folders import RunRecord
from cnncli.reports.runs import accuracy_of, comparison_json, names_of, print_comparison, print_runs, run_json, speed_of

ROW = EpochDone(3, 60, 0.2, 0.9, 0.3, 0.8765, None, None, None, 0.01, 2.0, 100.0, best=True)
RUN = RunRecord(
    Path("runs/lenet5-digits-1"), "lenet5", "digits", "finished", "", {"train": {"epochs": 3, "seed": 0}},
    (replace(ROW, epoch=1, best=False, images_per_second=10.0), replace(ROW, epoch=2, best=False), ROW), ROW, 62.0, 1.7e9,
)  # fmt: skip
TRAINED = replace(ROW, val_loss=None, val_accuracy=None)
UNJUDGED = replace(RUN, folder=Path("runs/b"), state="stopped", settings={}, epochs=(TRAINED,), best=TRAINED, data="/a/long/way/to/photos/")
EMPTY = replace(RUN, folder=Path("runs/c"), state="running", epochs=(), best=None, seconds=0, net="-")


def shown(runs: list[RunRecord], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_runs(runs, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines), default=0) <= columns
    return lines


def test_cells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown([RUN, UNJUDGED, EMPTY], 140, capsys, monkeypatch)
    date = dt.datetime.fromtimestamp(1.7e9).strftime("%Y-%m-%d %H:%M")  # noqa: DTZ006
    assert lines[0].split() == "name net data state epochs accuracy at time date".split()
    assert lines[2].split() == [
        "lenet5-digits-1",
        "lenet5",
        "digits",
        "finished",
        "3/3",
        "87.65%",
        "3",
        "1",
        "min",
        "02",
        "s",
        *date.split(),
    ]
    assert lines[3].split()[2:8] == ["/a/long/way/to/photos/", "stopped", "1", "90.00%", "t", "3"]
    assert lines[4].split()[3:8] == ["running", "0/3", "-", "-", "0.0"]
    assert lines[-1] == "t: of the training images; there is no validation."


def test_narrow_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown([RUN, UNJUDGED], 95, capsys, monkeypatch)
    assert lines[3].split()[2] == ".../photos"
    lines = shown([RUN, UNJUDGED], 80, capsys, monkeypatch)
    assert lines[0].split() == "name net data state epochs accuracy date".split()
    assert lines[2].split()[0] == "lenet5-digits-1"
    lines = shown([RUN, UNJUDGED], 72, capsys, monkeypatch)
    assert lines[2].split()[0] == "lenet5-"
    lines = shown([RUN], 20, capsys, monkeypatch)
    assert "net: lenet5" in lines
    assert "data: digits" in lines


def test_nothing_for_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_runs([], as_json=False)
    assert capsys.readouterr().out == ""
    print_runs([], as_json=True)
    assert capsys.readouterr().out == "[]\n"


def test_figures() -> None:
    assert accuracy_of(None) is None
    assert accuracy_of(replace(TRAINED, train_accuracy=math.nan)) is None
    assert speed_of(RUN) == 100.0
    assert speed_of(EMPTY) is None
    assert names_of([RUN, EMPTY, replace(RUN, folder=Path("other/c"))]) == ["lenet5-digits-1", "runs/c", "other/c"]


def test_json() -> None:
    found = run_json(RUN)
    assert found["accuracy"] == 0.8765
    assert (found["split"], found["epoch"], found["reason"]) == ("val", 3, None)
    assert found["best"] == found["final"]
    assert "val_top5" not in found["best"]
    assert run_json(UNJUDGED)["split"] == "train"
    assert [run_json(EMPTY)[key] for key in ("accuracy", "split", "epoch", "best", "final", "images_per_second")] == [None] * 6
    assert comparison_json([RUN, EMPTY])["settings"] == {}


def test_comparison(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    other = replace(RUN, folder=Path("runs/b"), settings={"train": {"epochs": 3, "seed": 1, "label_smoothing": 0.1, "ok": True}})
    print_comparison([RUN, replace(other, reason="no better epoch in 5"), replace(EMPTY, settings=RUN.settings)], as_json=False)
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    for words in ("seed 0 1 0", "label-smoothing - 0.1 -", "ok - yes -", "epochs 3/3 3/3 0/3", "best accuracy 87.65% 87.65% -"):
        assert words.split() in lines
    for words in ("at epoch 3 3 -", "loss there 0.3000 0.3000 -", "final training loss 0.2000 0.2000 -", "images/s 100 100 -"):
        assert words.split() in lines
    assert "ended early - no better epoch in 5 -".split() in lines
    print_comparison([RUN, UNJUDGED], as_json=False)
    assert "training images where there is no validation" in capsys.readouterr().out
    print_comparison([RUN, EMPTY], as_json=False)
    assert capsys.readouterr().out.startswith("all settings are the same\n")


def test_values_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(RUN, folder=Path("runs/b"), settings={"train": {"epochs": [dt.date(2026, 1, 2)], "seed": math.inf}})
    print_comparison([RUN, odd], as_json=True)
    assert '"2026-01-02"' in capsys.readouterr().out
