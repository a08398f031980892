"""What training says: lines without a terminal, a bar with one, curves as a PNG."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.engine.events import EpochDone, Finished, Progress, Started
from cnncli.reports import training
from cnncli.reports.training import TrainingReport, draw_curves, epoch_line

DONE = EpochDone(3, 1.23456, 0.5, 2.34567, 0.987, 0.01, 1.0, 12345.6, best=True)


def test_epoch_line() -> None:
    assert epoch_line(DONE, 30) == "epoch  3/30  train 1.2346  50.0%  val 2.3457  98.7% *  12,346 images/s"
    assert "*" not in epoch_line(replace(DONE, best=False), 30)
    assert epoch_line(replace(DONE, val_loss=None, val_accuracy=None), 3) == "epoch 3/3  train 1.2346  50.0%  12,346 images/s"


def test_epoch_lines_stand_below_each_other() -> None:
    lines = [epoch_line(replace(DONE, epoch=number, best=number % 2 == 0, val_accuracy=number / 100), 100) for number in (1, 10, 99, 100)]
    assert len({line.index("images/s") for line in lines}) == 1
    assert len({line.index("val ") for line in lines}) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10.4, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (36000 + 59 * 60, "10 h 59 min"),
        (400000, "111 h 06 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert training._duration(seconds) == text


EVENTS = [
    Started(2, 10, 1000, 200),
    Progress(1, 5, 2.0, 0.1, 0.01, 500.0),
    replace(DONE, epoch=1),
    Progress(2, 5, 1.5, 0.3, 0.01, 500.0),
    replace(DONE, epoch=2, best=False),
    Finished(replace(DONE, epoch=1), 12.0),
]


def test_without_a_terminal_one_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingReport() as report:
        for event in EVENTS:
            report.show(event)
    out, err = capsys.readouterr()
    assert out == "", "results alone go to standard output"
    lines = err.splitlines()
    assert lines[0] == "1,000 training images, 200 validation images, 10 steps an epoch"
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert lines[-1] == "trained 2 epochs in 12 s"
    assert not re.search(r"[\x1b\r]", err)
    assert [event.epoch for event in report.epochs] == [1, 2]


def test_without_a_terminal_a_long_epoch_speaks_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    with TrainingReport() as report:
        report.show(EVENTS[0])
        for step in range(1, 9):
            now[0] += 10
            report.show(Progress(1, step, 2.0, 0.1, 0.01, 500.0))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split("step ")[1] for line in lines] == ["3/10", "6/10"], "every half minute"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name in ("NO_COLOR", "TERM", "CI", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with TrainingReport() as report:
        for event in EVENTS:
            report.show(event)
    return stream.getvalue()


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, TERM="xterm-256color")
    assert "\x1b[" in text
    assert len(re.findall(r"epoch 1/2  train 1\.2346", text)) == 1


def test_on_a_dumb_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not re.search(r"[\x1b\r]", on_terminal(monkeypatch, TERM="dumb"))


def test_no_color_is_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, TERM="xterm-256color", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


@pytest.mark.parametrize("count", [1, 2, 3, 200])
@pytest.mark.parametrize("val", [True, False])
def test_curves(count: int, val: bool, tmp_path: Path) -> None:
    epochs = [
        replace(
            DONE,
            epoch=n,
            train_loss=2 / n,
            val_loss=2.2 / n if val else None,
            val_accuracy=1 - 1 / (n + 1) if val else None,
            best=n == count,
        )
        for n in range(1, count + 1)
    ]
    path = tmp_path / "curves.png"
    draw_curves(path, epochs, "lenet5 on $digits_1$ & Ünï")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1350, 540)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20, "something is drawn"
    validation = (np.abs(pixels.astype(int) - (0xCC, 0x66, 0x77)).sum(1) < 30).sum()
    assert (validation > 50) == val, "the validation curve is there, and only then"
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]
