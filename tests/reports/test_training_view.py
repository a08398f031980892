"""The parts of the live view: the loss so far, the bar, the table, for a given width."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cnncli.engine.events import EpochDone, Progress
from cnncli.reports.live import ASCII, POINTS, UNICODE, Standing, Trace, frame, glyphs_for, sparkline

ROW = EpochDone(1, 10, 1.5, 0.5, 1.6, 0.45, 0.9, 0.44, None, 0.05, 12.0, 1500.0, best=True)
NOW = Progress(7, 3, 0.25, 0.9, 0.0125, 1500.0, 0.61)


def standing(**changes: object) -> Standing:
    trace = Trace()
    for step in range(1, 64):
        trace.add(step, 2 / step)
    rows = [replace(ROW, epoch=epoch, best=epoch % 2 == 0) for epoch in range(1, 7)]
    return replace(Standing(10, 10, NOW, rows, trace, 83.0), **changes)  # type: ignore[arg-type]


def lines(view: Standing, columns: int, height: int = 24) -> list[str]:
    return frame(view, columns, height).plain.splitlines()


def test_sparkline() -> None:
    assert sparkline([1, 10, 100]) == "▁▅█" or sparkline([1, 10, 100]) == "▁▄█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0.0, 1.0], ASCII) == "_#"


def test_a_trace_is_bounded_and_keeps_its_shape() -> None:
    trace = Trace()
    for step in range(1, 100_000):
        trace.add(step, float(step))
    trace.add(100_000, math.nan)
    assert len(trace.groups) <= POINTS
    values = trace.values(10)
    assert values == sorted(values)
    assert values[0] == pytest.approx(5_000, rel=0.2)
    assert values[-1] == pytest.approx(95_000, rel=0.05)


def test_a_trace_with_gaps() -> None:
    trace = Trace()
    assert trace.values(5) == []
    trace.add(1, 3.0)
    trace.add(10, 2.0)
    assert trace.values(5) == [3.0, 3.0, 3.0, 3.0, 2.0]


def test_the_whole_view() -> None:
    shown = lines(standing(), 100)
    assert shown[0].split() == "epoch train loss train acc val loss val acc top-5 macro F1 lr images/s time".split()
    assert [line.split()[0] for line in shown[1:6]] == ["2/10", "3/10", "4/10", "5/10", "6/10"]
    assert shown[6].startswith("loss 2.0000 █")
    assert shown[6].endswith("▁ → 0.0317")
    assert shown[7].startswith(" 61% ━━")
    assert "─ 1 min 23 s left, ends " in shown[7]
    assert shown[8] == "epoch 7/10  step 3/10  loss 0.2500  accuracy 90.0%  lr 0.0125  1,500 images/s"


@pytest.mark.parametrize("columns", range(20, 141, 3))
def test_every_width(columns: int) -> None:
    shown = lines(standing(progress=replace(NOW, skipped=2)), columns)
    assert max(map(len, shown)) <= columns
    assert "val acc" in shown[0], "what matters most is left out last"
    assert "2 skipped" in "".join(shown)


def test_what_is_not_known_is_left_out() -> None:
    rows = [replace(ROW, val_loss=None, val_accuracy=None, val_top5=None, val_macro_f1=None)]
    shown = lines(standing(epochs=None, rows=rows, left=None), 80)
    assert shown[0].split() == "epoch train loss train acc lr images/s time".split()
    assert shown[1].split()[0] == "1"
    assert "left" not in shown[3]
    assert lines(Standing(), 80) == []
    assert "nan" in "".join(lines(standing(progress=replace(NOW, loss=math.nan), trace=Trace()), 80))


def test_a_sparse_validation_leaves_cells_blank() -> None:
    rows = [replace(ROW, val_loss=None, val_accuracy=None), replace(ROW, epoch=2, skipped=3)]
    shown = lines(standing(rows=rows), 140)
    assert len(shown[1]) == len(shown[2])
    assert "skipped" in shown[0]


@pytest.mark.parametrize(("encoding", "glyphs"), [("utf-8", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), (None, UNICODE), ("?", ASCII)])
def test_glyphs(encoding: str | None, glyphs: object) -> None:
    assert glyphs_for(encoding) is glyphs
