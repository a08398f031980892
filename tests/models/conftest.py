"""A tiny model file that the tests may damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Flatten, Linear
from cnncli.arch.net import Net
from cnncli.data.preprocess import Preprocess
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, save


@pytest.fixture
def info() -> ModelInfo:
    net = Net("tiny", chain(flatten=Flatten(), fc=Linear(2)), (1, 2, 2), 2)
    return ModelInfo(
        net, ("cat", "dog"), Preprocess(1, 2, 2, mean=(0.4,), std=(0.3,)), "photos", 0.3, None, {"val_accuracy": 0.75}, "0.1.0"
    )


@pytest.fixture
def model_file(tmp_path: Path, info: ModelInfo) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save(path, assemble(info.net), info)
    return path
