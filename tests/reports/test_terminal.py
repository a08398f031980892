"""The terminal: width, what is safe to print, tables that never cut a number, JSON without NaN."""

from __future__ import annotations

import io
import json
import math
import os
import sys

import pytest

from cnncli.errors import EnvironmentFault, printable
from cnncli.reports import terminal
from cnncli.reports.terminal import (
    NARROWEST,
    WIDTH_WITHOUT_TERMINAL,
    Column,
    json_text,
    narrowest,
    print_result,
    table,
    talk,
    width,
    write_result,
)


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [("80", 80), ("20", 20), ("1", NARROWEST), ("140", 140), ("99999999", 10_000)]
    + [(odd, WIDTH_WITHOUT_TERMINAL) for odd in ("", "0", "-5", "abc", "8e1", " 80", "٣٠", "²")],
)
def test_width_from_columns(columns: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    monkeypatch.setenv("COLUMNS", columns)
    assert width() == expected


@pytest.mark.parametrize(("size", "expected"), [(120, 120), (5, NARROWEST), (0, WIDTH_WITHOUT_TERMINAL)])
def test_width_of_the_terminal(size: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", io.TextIOWrapper(io.FileIO(os.devnull, "w")))
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((size, 24)))
    assert width() == expected


def test_width_without_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    monkeypatch.setattr(sys, "__stderr__", None)
    assert width() == WIDTH_WITHOUT_TERMINAL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name.png", "plain name.png"),
        ("Ünï 😀 中文", "Ünï 😀 中文"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc\x07\x00", "a\\nb\\r\\tc\\x07\\x00"),
        ("a\u202eb", "a\\u202eb"),  # right-to-left override
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\x9b31m", "\\x9b31m"),  # one-character CSI
        ("bytes \udcff", "bytes \\udcff"),
        ("50% {0} %s", "50% {0} %s"),
        ("", ""),
    ],
    ids=ascii,
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_talk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    talk("bad name\nwith \x1b[2J in it")
    assert capsys.readouterr().err == "bad name\\nwith \\x1b[2J in it\n"


def shown(columns: list[Column], rows: list[tuple[str, ...]], wide: int, monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(wide))
    print_result(table(columns, rows))
    return capsys.readouterr().out


COLUMNS = [Column("layer"), Column("what it does", text=True), Column("parameters", number=True)]
ROWS = [("conv1", "convolution of eleven by eleven", "34,944"), ("fc6", "fully connected", "37,752,832")]


def test_table_wide(monkeypatch, capsys) -> None:
    out = shown(COLUMNS, ROWS, 80, monkeypatch, capsys)
    assert out.splitlines()[0].split() == ["layer", "what", "it", "does", "parameters"]
    assert "convolution of eleven by eleven" in out
    lines = [line.rstrip() for line in out.splitlines()]
    assert len({len(line) for line in lines[2:]}) == 1, "numbers end in one column"


@pytest.mark.parametrize("wide", range(20, 81))
def test_table_never_cuts_a_number_or_a_name(wide: int, monkeypatch, capsys) -> None:
    out = shown(COLUMNS, ROWS, wide, monkeypatch, capsys)
    assert max(map(len, out.splitlines())) <= wide
    assert {"conv1", "fc6", "34,944", "37,752,832"} <= set(out.split())
    assert "…" not in out


def test_table_too_narrow_becomes_lines(monkeypatch, capsys) -> None:
    out = shown(COLUMNS, ROWS, 24, monkeypatch, capsys)
    assert "layer: conv1\n" in out
    assert "parameters: 37,752,832" in out.replace("\n", " ")
    assert "─" not in out


def test_where_a_table_turns_into_lines(monkeypatch, capsys) -> None:
    turns = [("layer: conv1" in shown(COLUMNS, ROWS, wide, monkeypatch, capsys)) for wide in range(20, 81)]
    assert turns == sorted(turns, reverse=True), "once there is room for a table, more room keeps it"
    assert turns[0]
    assert not turns[-1]


def test_a_path_is_broken_at_dots_and_dashes(monkeypatch, capsys) -> None:
    """In as few lines as its longest piece allows; the lines below the first stand further right, and the table is as narrow as it says."""
    columns = (Column("layer", path=True), Column("weights", number=True))
    rows = [("  encoder.layers.layer_0-11", "1,000,000"), ("a.b-c", "7"), ("", "")]
    needed = narrowest(columns, rows)
    assert needed == len("    layer_0-") + 2 + len("1,000,000")
    monkeypatch.setenv("COLUMNS", str(needed))
    print_result(table(columns, rows))
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [
        *(["encoder.", "1,000,000"], ["layers."], ["layer_0-"], ["11"]),
        *(["a.b-c", "7"], []),
    ]
    monkeypatch.setenv("COLUMNS", str(needed - 1))
    print_result(table(columns, rows))
    assert "layer:" in capsys.readouterr().out


def test_wide_characters_count_twice(monkeypatch, capsys) -> None:
    """A Chinese name takes two columns a character; the number beside it must still be whole."""
    rows = [("猫" * 8, "1,234,567"), ("b", "2")]
    for wide in range(20, 60):
        out = shown([Column("class"), Column("images", number=True)], rows, wide, monkeypatch, capsys)
        assert "1,234,567" in out
        assert out.replace("\n", "").count("猫") == 8


def test_cells_are_escaped(monkeypatch, capsys) -> None:
    for wide in (20, 80):
        out = shown([Column("class"), Column("n", number=True)], [("\x1b[31m[bold]x[/]\n", "1")], wide, monkeypatch, capsys)
        assert "\x1b" not in out
        assert "\\x1b[31m[bold]x[/]\\n" in out.replace("\n", "")


def test_json_text() -> None:
    value = {"a": math.nan, "b": [1.5, math.inf, {"c": (-math.inf, "NaN", True, None)}], "d": 0.1}
    assert json.loads(json_text(value), parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.5, None, {"c": [None, "NaN", True, None]}],
        "d": 0.1,
        "nonfinite": True,
    }
    assert json.loads(json_text({"x": 1e308})) == {"x": 1e308}
    assert json_text([math.nan], indent=None) == "[null]\n"
    assert json_text({"a": 1}, indent=None) == '{"a": 1}\n'


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def test_write_result_when_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "silence", lambda stream: None)
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        write_result("x")
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    with pytest.raises(EnvironmentFault, match="standard output: No space left on device"):
        write_result("x")


def test_talk_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "silence", lambda stream: None)
    monkeypatch.setattr(sys, "stderr", Broken(BrokenPipeError()))
    talk("x")


def test_a_line_waits_while_standard_error_points_elsewhere(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A TIFF is decoded in another thread, where libtiff must not be heard."""
    import threading
    import time

    from cnncli.data.decode import _libtiff_silenced

    monkeypatch.setattr(sys, "stderr", os.fdopen(2, "w", closefd=False))  # pytest's own does not write to the descriptor
    silent = threading.Event()

    def decode() -> None:
        with _libtiff_silenced("TIFF"):
            silent.set()
            time.sleep(0.2)

    other = threading.Thread(target=decode)
    other.start()
    silent.wait()
    terminal.talk("heard")
    other.join()
    assert "heard" in capfd.readouterr().err
