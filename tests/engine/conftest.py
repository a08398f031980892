"""Small data and models for the engine's tests: no files, no processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample

SIZE = 6


@pytest.fixture
def make_loader():
    """make_loader(20, batch_size=8): that many images of three classes, which differ in brightness."""

    def make(count: int, *, batch_size: int, seed: int = 0, shuffle: bool = False, key: int = 0) -> Loader:
        labels = np.arange(count) % 3
        images = np.random.default_rng([key, count]).integers(0, 80, (count, 1, SIZE, SIZE)) + 80 * labels[:, None, None, None]
        samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
        pixels = Pixels(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), samples)
        return Loader(pixels, Preprocess(1, SIZE, SIZE), batch_size=batch_size, seed=seed, shuffle=shuffle)

    return make


@pytest.fixture
def model() -> nn.Module:
    """A net with a convolution, batch norm, dropout and biases."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * (SIZE - 2) ** 2, 3))
