"""The reliability diagram."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cnncli.engine.metrics import judge
from cnncli.reports import reliability
from cnncli.reports.reliability import draw_reliability


def test_bars_are_the_bins(tmp_path: Path, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = 3 * torch.randn(200, 4, generator=generator), torch.randint(0, 4, (200,), generator=generator)
    given = judge(scores, labels, tuple("abcd"))
    drawn = []
    monkeypatch.setattr(reliability, "write_picture", lambda path, figure: drawn.append(figure))
    draw_reliability(tmp_path / "x.png", given, "run on photos")
    upper, lower = drawn[0].axes
    bins = [b for b in given.calibration.bins if b.count]
    accuracy, gaps = upper.containers
    assert [bar.get_height() for bar in accuracy] == pytest.approx([b.accuracy for b in bins])
    assert [bar.get_y() + bar.get_height() for bar in gaps] == pytest.approx([b.confidence for b in bins])
    assert [bar.get_x() for bar in lower.containers[0]] == pytest.approx([b.low for b in bins])
    assert sum(bar.get_height() for bar in lower.containers[0]) == pytest.approx(1)
    assert f"ECE {given.calibration.ece:.2%}" in upper.get_title()


def test_one_image(tmp_path: Path) -> None:
    draw_reliability(tmp_path / "x.png", judge(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), ("a", "b")), "$ t")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
