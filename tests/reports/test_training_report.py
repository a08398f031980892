"""What training says: lines without a terminal, a live view with one."""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import replace

import pytest

from cnncli.engine.events import EpochDone, Event, Finished, Note, Paused, Progress, Started
from cnncli.reports import training
from cnncli.reports.live import duration
from cnncli.reports.training import TrainingReport, epoch_line

DONE = EpochDone(3, 30, 1.23456, 0.5, 2.34567, 0.987, None, None, None, 0.01, 1.0, 12345.6, best=True)


def test_epoch_line() -> None:
    assert epoch_line(DONE, 30) == "epoch  3/30  train 1.2346  50.0%  val 2.3457  98.7% *  12,346 images/s"
    assert "*" not in epoch_line(replace(DONE, best=False), 30)
    unjudged = replace(DONE, val_loss=None, val_accuracy=None)
    assert epoch_line(unjudged, 3) == "epoch 3/3  train 1.2346  50.0%  12,346 images/s"
    between = epoch_line(unjudged, 30, validates=True)
    assert between.index("12,346 images/s") == epoch_line(DONE, 30).index("12,346 images/s"), "it stands below lines with a validation"
    assert epoch_line(DONE, None) == "epoch   3  train 1.2346  50.0%  val 2.3457  98.7% *  12,346 images/s"
    assert epoch_line(replace(DONE, skipped=4), 30).endswith("12,346 images/s  4 skipped")


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
    assert duration(seconds) == text


EVENTS: list[Event] = [
    Started(2, 20, None, 10, 1000, 200),
    Progress(1, 5, 2.0, 0.1, 0.01, 500.0, 0.25),
    replace(DONE, epoch=1, step=10),
    Paused(2, 0),
    Progress(2, 5, 1.5, 0.3, 0.01, 500.0, 0.75),
    replace(DONE, epoch=2, step=20, best=False),
    Finished(replace(DONE, epoch=1), 12.0),
]


def lines_of(events: list[Event], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a report says of them where there is no terminal."""
    with TrainingReport() as report:
        for event in events:
            report.show(event)
    return capsys.readouterr().err.splitlines()


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
            report.show(Progress(1, step, 2.0, 0.1, 0.01, 500.0, step / 20, skipped=step // 6))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split("step ")[1] for line in lines] == ["3/10", "6/10  1 skipped"], "every half minute"


def test_the_time_left_is_that_of_this_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    history = tuple(replace(DONE, epoch=number, step=10 * number) for number in (1, 2))
    with TrainingReport() as report:
        report.show(Started(10, 100, None, 10, 1000, 200, 3, 5, history))
        now[0] = 100.0  # reading the data again
        report.show(Progress(3, 6, 2.0, 0.1, 0.01, 500.0, 0.26))
        now[0] = 104.0  # four of a hundred steps in four seconds
        report.show(replace(DONE, epoch=3, step=30))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "resumed at epoch 3 step 5"
    assert lines[-1].endswith("images/s  1 min 10 s left")
    assert [event.epoch for event in report.epochs] == [1, 2, 3]


def test_what_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of([replace(EVENTS[0], epochs=None, steps=None, minutes=5.0), Note("half the batch:\n it did not fit")], capsys)
    assert lines[0].endswith("10 steps an epoch, for 5 min")
    assert lines[-1] == r"half the batch:\n it did not fit"
    lines = lines_of([replace(EVENTS[0], epoch=2), Finished(DONE, 61.0, "no better epoch in 5")], capsys)
    assert lines[1] == "resumed at epoch 2"
    assert lines[-1] == "trained 0 epochs in 1 min 01 s, ended early: no better epoch in 5"


def test_minutes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of([Started(None, None, 5.0, 10, 1000, 0), replace(DONE, epoch=1, val_loss=None, val_accuracy=None)], capsys)
    assert lines[-1] == "epoch   1  train 1.2346  50.0%  12,346 images/s"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None = None, count: int = 0, **variables: str) -> str:
    """What a terminal gets of EVENTS, or of `count` epochs; of a report that draws at every event."""
    for name in ("NO_COLOR", "TERM", "CI", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"COLUMNS": "120", "TERM": "xterm-256color"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(training.View, "is_due", lambda view, now: True)
    stream = stream or Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with TrainingReport() as report:
        for event in many(count) if count else EVENTS:
            report.show(event)
    return stream.getvalue() if not stream.closed else ""


def many(count: int) -> list[Event]:
    events: list[Event] = [Started(count, 10 * count, None, 10, 1000, 200)]
    for epoch in range(1, count + 1):
        events += [Progress(epoch, 5, 2 / epoch, 0.1, 0.01, 500.0, (epoch - 0.5) / count), replace(DONE, epoch=epoch, step=10 * epoch)]
    return [*events, Finished(DONE, 12.0)]


def last_frame(text: str) -> list[str]:
    """The lines of the last frame, without its colours."""
    frames = re.split(r"(?:\x1b\[1A|\x1b\[2K|\r)+", re.sub(r"\x1b\[[0-9;?]*[mhl]", "", text))
    return [frame for frame in frames if "loss " in frame and "%" in frame][-1].splitlines()


def test_on_a_terminal_there_is_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch)
    assert "\x1b[" in text
    assert len(re.findall(r"epoch 1/2  train 1\.2346", text)) == 1, "each epoch is left as one line"
    assert text.endswith("trained 2 epochs in 12 s\n")
    assert text.rstrip().rindex("\x1b[2K") < text.index("epoch 1/2  train"), "and the view is gone"
    assert "━" in text
    assert not [line for line in last_frame(text) if len(line) > 120]


@pytest.mark.parametrize("columns", [20, 40, 80, 140])
def test_the_view_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, count=12, COLUMNS=str(columns))
    lines = last_frame(text)
    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines[:6]] == ["epoch", "8/12", "9/12", "10/12", "11/12", "12/12"]
    assert len(re.findall(r"epoch +[0-9]+/12 +train", text)) == 12


def test_a_low_terminal_has_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((80, 9)))
    text = on_terminal(monkeypatch, count=12)
    assert [line.split()[0] for line in last_frame(text)[:4]] == ["epoch", "10/12", "11/12", "12/12"]


def test_on_a_dumb_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not re.search(r"[\x1b\r]", on_terminal(monkeypatch, TERM="dumb"))


def test_no_color_is_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", on_terminal(monkeypatch))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", on_terminal(monkeypatch, NO_COLOR="1"))


def test_colour_that_is_forced_makes_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in on_terminal(monkeypatch, io.StringIO(), FORCE_COLOR="1")


def test_a_poor_encoding_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    stream.encoding = "ascii"  # type: ignore[misc]
    text = on_terminal(monkeypatch, stream, count=3)
    assert text.isascii()
    assert "####" in text


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
def test_a_terminal_that_goes_away_stops_nothing(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise error

    on_terminal(monkeypatch, Gone(), count=3)


def test_what_others_write_stands_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(training.View, "is_due", lambda view, now: True)
    with TrainingReport() as report:
        for event in EVENTS[:3]:
            report.show(event)
        print("warning: of torch", file=sys.stderr)
        report.show(EVENTS[4])
    text = re.sub(r"\x1b\[[0-9;?]*[mhl]", "", stream.getvalue())
    assert re.search(r"(\x1b\[2K|\r)warning: of torch\n", text)
    assert sys.stderr is stream


def test_drawing_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm-256color")
    view = training.open_view(Terminal())
    assert view is not None

    def slow(*_: object) -> str:
        now[0] += 0.01
        return ""

    monkeypatch.setattr(training, "frame", slow)
    view.draw(training.Standing(), [])
    assert not view.is_due(now[0] + 0.9)
    assert view.is_due(now[0] + 1.01), "a hundredth"
