"""What a probe shows: the table, the JSON, and the picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from cnncli.engine.intervals import Interval, wilson
from cnncli.features.probed import Probed, ProbedSpace, Score
from cnncli.reports.probe import draw_probe, print_probe, probe_json


def score(hits: int, setting: str, *, beside: bool = False) -> Score:
    if beside:
        return Score(hits / 1000, wilson(hits, 1000), setting, 0.1, Interval(0.05, 0.15), 1e-9)
    return Score(hits / 1000, wilson(hits, 1000), setting)


def probed(layers: int = 3) -> Probed:
    spaces = [
        ProbedSpace(f"conv{n}", "layer", 64 * n, score(400 + 30 * n, "penalty 0.01", beside=True), score(380 + 25 * n, "k 5, l2"))
        for n in range(1, layers + 1)
    ]
    spaces += [ProbedSpace(f"{one.name}@random", "random", one.size, score(350, "penalty 1"), score(320, "k 1, l2")) for one in spaces]
    spaces += [ProbedSpace("pixels", "pixels", 3072, score(390, "penalty 0.1"), score(330, "k 10, cosine"))]
    spaces += [ProbedSpace("hog", "hog", 1764, score(470, "penalty 0.01"), score(400, "k 10, cosine"))]
    return Probed(tuple(spaces), 4000, 1000, 1000, 10, "test", ("a note",))


def test_json() -> None:
    found = probe_json(probed(1), model="alexnet", data="cifar10")
    assert set(found) == {"model", "data", "judged_on", "train", "val", "test", "classes", "spaces", "notes"}
    first, random, pixels, _ = found["spaces"]
    assert first["linear"]["accuracy"] == 0.43
    assert first["linear"]["interval"][0] < 0.43 < first["linear"]["interval"][1]
    assert first["linear"]["over_pixels"] == {"difference": 0.1, "interval": [0.05, 0.15], "p": 1e-9}
    assert (first["baseline"], random["baseline"], pixels["baseline"]) == (False, True, True)
    assert pixels["linear"]["over_pixels"] is None


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_probe(probed(), "alexnet on cifar10")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    squeezed = " ".join(text.split())
    assert "alexnet on cifar10: trained on 4,000 images, judged on 1,000 (test), 10 classes" in squeezed
    assert re.search(r"conv3 +192 +49\.0% \[45\.9, 52\.1\]", text)
    assert "Note: a note." in squeezed
    assert "pixels (baseline)" in squeezed
    assert text.index("conv3 ") < text.index("conv1@random")


@pytest.mark.parametrize("layers", [1, 3, 14])
def test_the_picture(layers: int, tmp_path: Path) -> None:
    draw_probe(tmp_path / "p.png", probed(layers), "alexnet (random weights) on cifar10")
    with Image.open(tmp_path / "p.png") as image:
        assert image.width > 1000
        assert image.height > 600
