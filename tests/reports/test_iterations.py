"""How long an iteration will take: said late enough, of its recent pace."""

from __future__ import annotations

import pytest

from cnncli.reports import iterations
from cnncli.reports.iterations import IterationReport


def test_the_recent_pace_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten iterations in 100 s at first, then one a second: nothing is said of the hours that the first would mean."""
    now = 0.0
    monkeypatch.setattr(iterations.time, "monotonic", lambda: now)
    with IterationReport("t-SNE of fc7") as report:
        now = 100.0
        report.show(10, 500)
        for done in range(20, 501, 10):
            now += 10
            report.show(done, 500)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "t-SNE of fc7: 60 of 500 iterations, 7 min left"
    assert lines[1] == "t-SNE of fc7: 80 of 500 iterations, 7 min left"
    assert "t-SNE of fc7: 400 of 500 iterations, 100 s left" in lines
    assert not any("500 of 500" in line for line in lines)


def test_short_ones_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with IterationReport("t-SNE") as report:
        for done in range(10, 200, 10):
            report.show(done, 200)
    assert capsys.readouterr().err == ""
