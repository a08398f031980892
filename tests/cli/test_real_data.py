"""The main job on real input, as a user would type it: train, evaluate and predict on folders of real images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import run

pytestmark = pytest.mark.slow


def test_clothes_as_class_folders(here: Path, clothes: Path) -> None:
    done = run("train", "lenet5", "--data", clothes, "--epochs", "10", "-o", "run", cwd=here)
    assert done.code == 0, done.err
    result = json.loads(run("eval", "run", "--json", cwd=here).out)
    assert (result["split"], result["count"]) == ("test", 1000)
    assert result["top1"] > 0.70  # 10 % by chance; 2,400 of the 60,000 images for ten epochs
    assert sum(c["support"] for c in result["per_class"]) == 1000
    boots = run("predict", "run", clothes / "test" / "ankle boot", "--json", cwd=here)
    lines = [json.loads(line) for line in boots.out.splitlines()]
    right = sum(line["predictions"][0]["class"] == "ankle boot" for line in lines)
    support = next(c for c in result["per_class"] if c["class"] == "ankle boot")
    assert len(lines) == support["support"]
    assert right / len(lines) == pytest.approx(support["recall"])


def test_photos_of_flowers(here: Path, flowers: Path) -> None:
    """Colour photos of natural sizes, split by hash; a small net and a short training, clearly above chance."""
    done = run("train", "convnetjs-cifar10", "--data", flowers, "--epochs", "12", "--batch-size", "32", "-o", "run", cwd=here)
    assert done.code == 0, done.err
    assert "320 training images, 80 validation images" in done.err
    result = json.loads(run("eval", "run", "--json", cwd=here).out)
    assert (result["split"], result["count"]) == ("val", 80)
    assert {c["support"] for c in result["per_class"]} == {16}
    assert result["top1"] > 0.35  # 20 % by chance
    assert json.loads((here / "run" / "metrics.jsonl").read_text().splitlines()[-1])["train_accuracy"] > 0.40
