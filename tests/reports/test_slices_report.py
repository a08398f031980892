"""Accuracy by the values of a column."""

from __future__ import annotations

import csv
from pathlib import Path

from cnncli.engine.slices import by_value
from cnncli.reports.slices import print_slices, write_slices


def slices(count: int) -> dict[str, object]:
    values = [f"v{number:02d}" for number in range(count) for _ in range(number + 1)]
    hits = [place % 7 != 0 for place in range(len(values))]
    return {"camera": by_value(values, hits, [0.5] * len(values), order="value", most=None)}


def test_printed(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_slices(slices(3))
    out = capsys.readouterr().out
    assert "by camera\n" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("v") and not line.startswith("value")] == [
        ["v00", "1", "0.0%"],
        ["v01", "2", "100.0%"],
        ["v02", "3", "100.0%"],
    ]


def test_the_worst_of_many_values(capsys) -> None:
    given = slices(40)
    print_slices(given)
    out = capsys.readouterr().out
    assert "by camera, the 10 of 40 values with the lowest top-1" in out
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("v") and not line.startswith("value")]
    expected = sorted(given["camera"], key=lambda s: (s.top1, -s.count))[:10]
    assert shown == [s.value for s in expected]


def test_csv(tmp_path: Path) -> None:
    given = slices(40)
    write_slices(tmp_path / "x.csv", given)
    with (tmp_path / "x.csv").open(newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["column", "value", "images", "top1", "top1_low", "top1_high", "loss"]
    assert len(rows) == 40
    assert [float(number) for number in rows[3][2:]] == [4, given["camera"][3].top1, *vars(given["camera"][3].interval).values(), 0.5]


def test_odd_values(capsys) -> None:
    print_slices({"c\x1b": by_value(["\x1b[31m", None, "=1"], [True, False, True], [0.0, 1.0, 2.0], order="value", most=None)})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "(none)" in out
