"""Small data, models and trainings for the engine's tests: no files, no processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.training import Plan, Training

SIZE = 6


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Nets this small are slower on two, and far slower where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_loader() -> Callable[..., Loader]:
    """make_loader(20, batch_size=8): that many images of three classes, which differ in brightness."""

    def make(count: int, *, batch_size: int, seed: int = 0, shuffle: bool = False, key: int = 0) -> Loader:
        labels = np.arange(count) % 3
        images = np.random.default_rng([key, count]).integers(0, 80, (count, 1, SIZE, SIZE)) + 80 * labels[:, None, None, None]
        samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
        pixels = Pixels(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), samples)
        return Loader(pixels, Preprocess(1, SIZE, SIZE), batch_size=batch_size, seed=seed, shuffle=shuffle)

    return make


@pytest.fixture
def make_model() -> Callable[[], nn.Module]:
    """A net with a convolution that Muon takes, batch norm, dropout and biases; the same weights each time."""

    def make() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(5 * (SIZE - 4) ** 2, 3),
        )

    return make


@pytest.fixture
def model(make_model) -> nn.Module:
    """One of them."""
    return make_model()


@pytest.fixture
def make_training() -> Callable[..., Training]:
    """make_training(model, loader, epochs=2, lr=0.1, numbers=...): a training whose settings are fields of either configuration."""

    def make(model: nn.Module, loader: Any, *, classes: int = 3, **values: Any) -> Training:
        plan = {name: values.pop(name) for name in ("numbers", "loss") if name in values}
        train, optim = ({f.name: values.pop(f.name) for f in fields(config) if f.name in values} for config in (TrainConfig, OptimConfig))
        assert not values, f"no settings: {values}"
        return Training(model, Plan(TrainConfig(**train), OptimConfig(**optim), len(loader), classes, **plan))

    return make
