"""Predictions as bars: at every width, whatever the names."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from cnncli.reports.prediction_bars import WIDEST_BAR, with_bars
from cnncli.reports.terminal import print_result

GUESSES = [("golden retriever", 0.75), ("cat", 0.2), ("猫", 0.05), ("bus", 1e-9), ("dog", 0.0)]


def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, *args, **options) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_result(with_bars(*args, **options))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [20, 30, 40, 80, 140])
def test_widths(columns: int, monkeypatch, capsys) -> None:
    """Nothing is wider than the terminal; every name and number is whole; lengths are the probabilities."""
    found = lines(monkeypatch, capsys, columns, "photos/a.jpg", GUESSES)
    assert max(map(cell_len, found)) <= columns
    assert found[0] == "photos/a.jpg"
    text = "\n".join(found)
    assert all(name in text for name, _ in GUESSES)
    assert re.findall(r"\d+\.\d%", text) == ["75.0%", "20.0%", "5.0%", "0.0%", "0.0%"]
    drawn = [8 * line.count("█") + ("▏▎▍▌▋▊▉".find(line[-1]) + 1) for line in found if "%" in line]
    room = drawn[0] / 8 / 0.75
    assert 6 <= room <= WIDEST_BAR + 0.2
    assert drawn[1] == pytest.approx(8 * room * 0.2, abs=1.1)
    assert drawn[2] == pytest.approx(8 * room * 0.05, abs=1.1)
    assert drawn[3:] == [1, 0], "never empty above 0"


def test_columns_line_up(monkeypatch, capsys) -> None:
    found = lines(monkeypatch, capsys, 80, "a.jpg", GUESSES)[1:]
    assert len({cell_len(line[: line.index("%")]) for line in found}) == 1


def test_names_that_are_wider_than_the_terminal(monkeypatch, capsys) -> None:
    label, path = "n" * 45, "p" * 50
    found = lines(monkeypatch, capsys, 20, path, [(label, 1.0)])
    assert max(map(len, found)) <= 20
    text = "".join(line.strip() for line in found)
    assert label in text
    assert path in text
    assert "100.0%" in text


def test_uncertain(monkeypatch, capsys) -> None:
    assert lines(monkeypatch, capsys, 80, "a.jpg", GUESSES, accepted=False)[0] == "a.jpg: uncertain"
    assert lines(monkeypatch, capsys, 80, "a.jpg", GUESSES, accepted=True)[0] == "a.jpg"


def test_hostile_names_do_not_reach_the_terminal(monkeypatch, capsys) -> None:
    found = lines(monkeypatch, capsys, 60, "\x1b[31m\n.jpg", [("\x1b[2J", 0.5), ("[bold]b[/]", 0.5), ("\u202e", 0.0)])
    assert len(found) == 4
    assert all(line.isprintable() for line in found)
    assert "[bold]b[/]" in "".join(found)


def test_colour_only_where_there_is_some() -> None:
    text = with_bars("a.jpg", GUESSES)
    for no_color, coloured in ((False, True), (True, False)):  # what NO_COLOR sets
        console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", no_color=no_color, width=80)
        console.print(text)
        assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", console.file.getvalue())) is coloured


def test_without_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    assert "█" not in with_bars("a.jpg", [("cat", 0.5)]).plain
    assert "#####" in with_bars("a.jpg", [("cat", 0.5)]).plain
