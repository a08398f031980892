"""`cnn train --find-lr` and `--profile`: they tell something, and train nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import assert_failed, run, unchanged
from PIL import Image

pytestmark = pytest.mark.slow
TINY = ("conv3-8 bn relu maxpool dropout-0.2 FC-10", "--input", "1x8x8")


def test_find_lr(here: Path) -> None:
    """A picture and a rate with which the net learns; no run folder, and the same again to the bit."""
    done = run("train", *TINY, "--find-lr", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = re.fullmatch(r"(runs/\S+\.png): suggested --lr (\S+) \(the loss is smallest at \S+, just before it grows\)\n", done.out)
    assert found, done.out
    with Image.open(here / found[1]) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert [path.name for path in (here / "runs").iterdir()] == [Path(found[1]).name]
    assert 1e-4 < float(found[2]) < 10
    again = run("train", *TINY, "--find-lr", cwd=here, warm=True)
    assert again.out.replace("-lr-2.png", "-lr-1.png") == done.out
    done = run("train", *TINY, "--epochs", "2", "--lr", found[2], "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    accuracy = float(re.search(r"accuracy ([0-9.]+)%", done.out)[1])
    assert accuracy > 30, "three times as good as guessing"


def test_find_lr_into_a_file(here: Path) -> None:
    done = run("train", *TINY, "--find-lr", "-o", "rate.png", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert done.out.startswith("rate.png: ")
    with unchanged(here):
        assert_failed(run("train", *TINY, "--find-lr", "-o", "rate.png", cwd=here, warm=True), 2, "rate.png exists; use --overwrite")
        assert_failed(run("train", *TINY, "--find-lr", "-o", "folder", cwd=here, warm=True), 2, "--out folder: the range test is a picture")
    assert run("train", *TINY, "--find-lr", "-o", "rate.png", "--overwrite", cwd=here, warm=True).code == 0


def test_profile(here: Path) -> None:
    """The parts of a step, and what bounds them; nothing is written."""
    with unchanged(here):
        done = run("train", *TINY, "--profile", cwd=here, warm=True)
    assert done.code == 0, done.err
    for part in ("data", "forward", "backward", "step"):
        assert re.search(rf"\b{part}\b", done.out), done.out
    assert "images/s" in done.out or "images" in done.out


def test_a_tried_model_is_left_as_it_was() -> None:
    """Neither its weights nor the random numbers of a training that follows are changed by the range test."""
    import torch

    from cnncli.engine.config import OptimConfig, TrainConfig
    from cnncli.engine.distributed import World
    from cnncli.engine.range_test import range_test
    from cnncli.engine.training import Plan

    class Fixed:
        count = 64

        def __len__(self) -> int:
            return 4

        def epoch(self, number: int, start: int = 0):
            from cnncli.data.loader import Batch

            for index in range(start, 4):
                made = torch.Generator().manual_seed(index)
                images, labels = torch.randn(16, 1, 8, 8, generator=made), torch.arange(16) % 10
                yield Batch(images, labels, torch.arange(16))

    torch.manual_seed(3)
    layers = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    model = torch.nn.Sequential(*layers)
    plan = Plan(TrainConfig(epochs=1), OptimConfig(), 4, 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    test = range_test(model, plan, Fixed(), World(device=torch.device("cpu")), steps=20)
    assert len(test.rates) > 2
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
