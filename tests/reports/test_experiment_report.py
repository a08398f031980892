"""The figure and the sentences of plain against residual nets."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnncli.engine.events import EpochDone
from cnncli.reports.experiment import draw_depths, print_depths
from cnncli.reports.range_test import draw_range_test


def epochs(*errors: float, validated: bool = True) -> list[EpochDone]:
    return [
        EpochDone(i, i, 1.0, 1 - e, 1.0 if validated else None, 1 - e if validated else None, None, None, None, 0.1, 1.0, 9.0, best=True)
        for i, e in enumerate(errors, 1)
    ]


RUNS = {
    ("plain", 20): epochs(0.5, 0.2),
    ("resnet", 20): epochs(0.5, 0.21),
    ("plain", 56): epochs(0.6, 0.3),
    ("resnet", 56): epochs(0.5, 0.18),
}


def test_what_depth_did(capsys) -> None:
    print_depths(RUNS, Path("figure.png"))
    out = capsys.readouterr().out
    assert "plain nets: 56 layers have a training error 10.0 points higher than 20" in out
    assert "residual nets: 56 layers have a training error 3.0 points lower than 20" in out
    assert "30.00 %" in out


@pytest.mark.parametrize("runs", [RUNS, {key: epochs(0.4, validated=False) for key in RUNS}])
def test_figure(tmp_path: Path, runs) -> None:
    draw_depths(tmp_path / "figure.png", runs, "title")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width == pytest.approx(1260, abs=5)


def test_range_test_picture(tmp_path: Path) -> None:
    from cnncli.engine.range_test import suggested

    rates = [10 ** (i / 10 - 5) for i in range(60)]
    losses = [2.3 - max(0, i - 20) * 0.04 if i < 50 else 2.3 + i for i in range(60)]
    test = suggested(rates, losses)
    assert test.suggested is not None
    draw_range_test(tmp_path / "lr.png", test, "title")
    assert (tmp_path / "lr.png").stat().st_size > 10_000
