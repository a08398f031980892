"""What layers give: a model that does not come to one says so."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cnncli.engine.capture import capture
from cnncli.engine.layers import Tap, layers_of
from cnncli.errors import CnnError


class Held(nn.Module):
    """Its code holds on to a layer, so that a copy runs the layer of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.run = lambda images: self.conv(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images).mean((2, 3))


def test_a_layer_that_does_not_run() -> None:
    model, images = Held(), torch.randn(2, 1, 8, 8)
    tap = layers_of(model, (1, 8, 8)).find("conv", "after")
    assert torch.equal(capture(model, images, [tap])[0], model.conv(images))
    with pytest.raises(CnnError, match="the model does not come to its layer conv"):
        capture(deepcopy(model), images, [tap])
    with pytest.raises(CnnError, match="does not come to its layer conv"):
        capture(model, images, [Tap("conv", 1, tap.shape)])
