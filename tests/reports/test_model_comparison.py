"""Several models side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cnncli.engine.metrics import judge
from cnncli.engine.paired import compare
from cnncli.reports.comparison import Comparison, JudgedModel, comparison_json, draw_models, print_models


def models(count: int, name: str = "runs/model", classes: int = 6) -> tuple[list[JudgedModel], list[Comparison]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (300,), generator=generator)
    scores = [torch.randn(300, classes, generator=generator) + (number + 1) * torch.eye(classes)[labels] for number in range(count)]
    made = [
        JudgedModel(f"{name}-{number}", judge(found, labels, tuple(map(str, range(classes)))), "fp32")
        for number, found in enumerate(scores)
    ]
    paired = [compare(scores[0], other, labels) for other in scores[1:]]
    return made, [Comparison(made[0].title, made[n].title, found, min(1.0, 2 * found.p)) for n, found in enumerate(paired, start=1)]


@pytest.mark.parametrize("columns", ["20", "80", "140"])
def test_printed(columns: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    made, comparisons = models(3)
    print_models(made, comparisons, data="digits", split="test", tta="flips")
    out = capsys.readouterr().out
    whole = " ".join(out.split())
    assert whole.startswith("3 models on digits, split test, averaged with mirror images: 300 images ")
    for model in made:
        assert f"{model.judgement.top1:.2%}" in whole
        assert f"{model.judgement.loss:.4f}" in whole
        assert f"{model.judgement.calibration.ece:.2%}" in whole
    for c in comparisons:
        assert f"{c.paired.difference:+.2%}" in whole
        assert f"{c.p:.3g}" in whole
    assert "Holm's correction for 2" in whole
    if columns != "20":
        assert max(map(len, out.splitlines())) <= int(columns)
        assert [line.split()[0] for line in out.splitlines() if line.startswith("runs/")] == [
            *(m.title for m in made),
            *(c.title for c in comparisons),
        ]


def test_of_two_no_correction_is_told(capsys) -> None:
    made, comparisons = models(2)
    print_models(made, comparisons, data="digits", split="test", tta="none")
    out = capsys.readouterr().out
    assert "Holm" not in out
    assert out.endswith("\ncomputed in fp32\n")


def test_ways_of_computing_are_told_apart(capsys) -> None:
    made, comparisons = models(2)
    print_models([made[0], made[1]._replace(how="bf16")], comparisons, data="digits", split="test", tta="none")
    out = capsys.readouterr().out
    assert "computed in fp32: runs/model-0\n" in out
    assert "computed in bf16: runs/model-1\n" in out


def test_json() -> None:
    _, (comparison,) = models(2)
    found = comparison_json(comparison)
    assert list(found) == ["first", "model", "difference", "interval", "only_first", "only_model", "p", "p_holm"]
    assert found["difference"] == pytest.approx((found["only_model"] - found["only_first"]) / 300)
    assert found["difference"] > 0, "the second is better, and that is a positive difference"
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert (found["p"], found["p_holm"]) == (comparison.paired.p, comparison.p)


@pytest.mark.parametrize("count", [2, 7])
def test_picture(count: int, tmp_path: Path) -> None:
    made, _ = models(count, "$a\x1b very long name of a run folder, and more")
    draw_models(tmp_path / "x.png", made, "digits, test")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (1680, round(200 * (1.3 + 0.32 * count)))
