"""Pages from made-up facts: a model that is right about as often as it is sure, on images of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnncli.arch.net import totals, walk
from cnncli.arch.zoo.table import build
from cnncli.engine.events import EpochDone
from cnncli.engine.metrics import judge
from cnncli.engine.run_folders import RunRecord
from cnncli.reports.mistakes import worst
from cnncli.reports.page.data import Filters, NetFacts, PageData, Pictured

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "{{ 7 * 7 }} & <b>bold</b>", "</style><!--", "%{y} $x^2$")


def epoch(number: int, **changes: Any) -> EpochDone:
    facts: dict[str, Any] = {
        "epoch": number,
        "step": 10 * number,
        "train_loss": 2 / number,
        "train_accuracy": 1 - 1 / (number + 1),
        "val_loss": 2.2 / number,
        "val_accuracy": 1 - 1.2 / (number + 1),
        "val_top5": None,
        "val_macro_f1": None,
        "val_balanced_accuracy": None,
        "lr": 0.1 / number,
        "seconds": 1.0,
        "images_per_second": 100.0,
        "best": True,
    }
    return EpochDone(**(facts | changes))


def a_run(**changes: Any) -> RunRecord:
    epochs = tuple(epoch(number) for number in range(1, 13))
    facts: dict[str, Any] = {
        "folder": Path("runs/lenet5-1"),
        "net": "lenet5",
        "data": "digits",
        "state": "finished",
        "reason": "",
        "settings": {"net": "lenet5", "train": {"epochs": 12, "seed": 0}, "data": {"source": "digits"}},
        "epochs": epochs,
        "best": epochs[-1],
        "seconds": 12.0,
        "changed": 0.0,
    }
    return RunRecord(**(facts | changes))


def page_data(*, names: Sequence[str] = tuple("0123456789"), count: int = 400, mistakes: int = 12, **changes: Any) -> PageData:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(len(names), (count,), generator=random)
    scores = torch.randn(count, len(names), generator=random)
    scores[torch.arange(count), labels] += 3
    scored = SimpleNamespace(scores=scores, labels=labels, names=[f"images/{i:05d}.png" for i in range(count)], classes=tuple(names))
    net = build("lenet5", classes=len(names))
    rows = walk(net)
    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).resize((160, 160), Image.Resampling.NEAREST) for _ in range(5)
    ]
    pictures += [Image.fromarray(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8)) for _ in range(5)]
    facts: dict[str, Any] = {
        "model": "runs/lenet5-1",
        "source": "digits",
        "split": "test",
        "views": "none",
        "how": "fp32",
        "date": "2026-11-26 18:00 UTC",
        "version": "0.1.0",
        "judgement": judge(scores, labels, tuple(names)),
        "net": NetFacts(net.name, net.paper, net.input, net.classes, rows, totals(rows, net.input), net=net),
        "run": a_run(),
        "filters": Filters("conv1", noise.normal(size=(6, 1, 5, 5))),
        "mistakes": tuple(
            Pictured(mistake, pictures[number % len(pictures)].convert("RGB")) for number, mistake in enumerate(worst(scored, mistakes))
        ),
    }
    return PageData(**(facts | changes))


@pytest.fixture(scope="session")
def make_data() -> Callable[..., PageData]:
    return page_data


@pytest.fixture(scope="session")
def make_epoch() -> Callable[..., EpochDone]:
    return epoch


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunRecord]:
    return a_run


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """Class names that would do harm, or look like something else, where they are not escaped."""
    return HOSTILE
