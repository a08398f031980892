"""Predictions as lines, JSON and CSV."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.errors import InputError
from cnncli.reports.predictions import Pace, csv_columns, csv_header, csv_line, prediction_json, prediction_line
from cnncli.reports.terminal import json_text

GUESSES = [("cat", 0.98123456789), ("dog", 0.0123)]


def test_json_has_the_documented_keys() -> None:
    plain = prediction_json("a.jpg", GUESSES)
    assert list(plain) == ["path", "predictions"]
    assert list(prediction_json("a.jpg", GUESSES, accepted=False)) == ["path", "predictions", "accepted"]
    full = prediction_json("a.jpg", GUESSES, accepted=True, copies=True, copied="sorted/cat/a.jpg")
    assert list(full) == ["path", "predictions", "accepted", "copied"]
    assert prediction_json("a.jpg", GUESSES, copies=True)["copied"] is None
    assert prediction_json("a.jpg", InputError("broken"), accepted=None, copies=True) == {"path": "a.jpg", "error": "broken"}
    assert json_text(plain, indent=None).count("\n") == 1


def test_lines() -> None:
    assert prediction_line("a\nb.jpg", GUESSES) == "a\\nb.jpg: cat 98.1%, dog 1.2%"
    assert prediction_line("a.jpg", GUESSES, accepted=True) == "a.jpg: cat 98.1%, dog 1.2%"
    assert prediction_line("a.jpg", GUESSES, accepted=False) == "a.jpg: uncertain, cat 98.1%, dog 1.2%"


def table(records: list[dict], columns: tuple[str, ...], **how: bool) -> str:
    return csv_header(columns) + "".join(csv_line(columns, record, **how) for record in records)


def test_csv_columns() -> None:
    assert csv_columns(2, accepted=False, copies=False) == ("path", "class", "probability", "class2", "probability2", "error")
    assert csv_columns(1, accepted=True, copies=True) == ("path", "class", "probability", "accepted", "copied", "error")
    columns = csv_columns(2, accepted=True, copies=True)
    records = [
        prediction_json("a.jpg", GUESSES, accepted=True, copies=True, copied="sorted/cat/a.jpg"),
        prediction_json("b.jpg", InputError("cannot read image b.jpg: empty file")),
        prediction_json("c.jpg", GUESSES, accepted=False, copies=True),
    ]
    assert table(records, columns).splitlines() == [
        "path,class,probability,class2,probability2,accepted,copied,error",
        "a.jpg,cat,0.981235,dog,0.0123,yes,sorted/cat/a.jpg,",
        "b.jpg,,,,,,,cannot read image b.jpg: empty file",
        "c.jpg,cat,0.981235,dog,0.0123,no,,",
    ]


NAMES = st.text(st.sampled_from("ab=+-@\t\r\n,;'\" é\x1b\x00\u202e\ud800"), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(NAMES, NAMES)
def test_P3_what_a_spreadsheet_reads(path: str, label: str) -> None:
    """Another reader of CSV finds one row with the names as they are, but for a ' where they begin like a formula."""
    columns = csv_columns(1, accepted=False, copies=False)
    text = table([prediction_json(path, [(label, 0.5)])], columns)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == list(columns)
    assert len(rows) == 2
    for found, name in zip(rows[1][:2], (path, label), strict=True):
        assert found == (f"'{name}" if name[0] in "=+-@\t\r" else name)
    assert rows[1][2:] == ["0.5", ""]


@settings(max_examples=100, deadline=None)
@given(NAMES, NAMES)
def test_P3_what_a_terminal_is_sent(path: str, label: str) -> None:
    columns = csv_columns(1, accepted=False, copies=False)
    text = table([prediction_json(path, [(label, 0.5)])], columns, terminal=True)
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()


def test_pace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace, now = Pace(1200, 100.0, 100.0), 104.0
    assert str(pace) == "1,200 images, 300 a second"
    pace.tell()
    assert capsys.readouterr().err == "", "not before some seconds have gone"
    now = 116.0
    pace.tell()
    pace.tell()
    assert capsys.readouterr().err == "predicted 1,200 images, 75 a second\n"
