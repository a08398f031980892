"""Maps of a layer: which layers give one, how strong they are, and in which order they come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnncli.cli.visualize.job import channels_of
from cnncli.engine.layers import layers_of
from cnncli.errors import InputError, UsageError
from cnncli.visualize.activations import activation_maps, map_layer, ordered, strength_of
from cnncli.visualize.gradcam import last_map
from cnncli.visualize.strongest import all_maps


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


@pytest.mark.parametrize("activation", ["after", "before"])
def test_maps_are_what_the_layers_compute(activation: str, model: nn.Sequential) -> None:
    """Before the activation too, though ReLU overwrites them in place."""
    images = torch.randn(3, 1, 8, 8)
    name, tap = map_layer(layers_of(model, (1, 8, 8)), None, activation)
    with torch.no_grad():
        wanted = nn.functional.conv2d(images, model[0].weight, model[0].bias)
    if activation == "after":
        wanted = wanted.clamp(min=0)
    assert name == "0"
    maps = activation_maps(model.train(), images, tap)
    assert model.training
    assert torch.allclose(maps, wanted, atol=1e-6)
    strength = strength_of(maps)
    for image in range(3):
        for channel in range(4):
            values = wanted[image, channel].flatten().tolist()
            assert float(strength.largest[image, channel]) == pytest.approx(max(values), abs=1e-6)
            assert float(strength.mean[image, channel]) == pytest.approx(sum(values) / 36, abs=1e-6)
            assert float(strength.active[image, channel]) == pytest.approx(sum(value > 0 for value in values) / 36)


def test_layers_without_a_map(model: nn.Sequential) -> None:
    layers = layers_of(model, (1, 8, 8))
    with pytest.raises(UsageError, match=r"numbers an image and no map; for example --layer 1"):
        map_layer(layers, "4", "after")
    assert map_layer(layers, "2", "after")[1].shape == (4, 1, 1), "maps of one pixel, which were asked for"
    assert map_layer(layers, None, "after")[0] == "0"


def test_weights_that_are_not_finite(model: nn.Sequential) -> None:
    _, tap = map_layer(layers_of(model, (1, 8, 8)), None, "before")
    model[0].weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        activation_maps(model, torch.zeros(1, 1, 8, 8), tap)


def test_order() -> None:
    largest = torch.tensor([1.0, 3.0, 2.0, 3.0])
    assert ordered(largest, "strength") == [1, 3, 2, 0]
    assert ordered(largest, "number") == [0, 1, 2, 3]
    assert ordered(largest, "strength", among=[0, 2, 3], most=2) == [3, 2]
    assert ordered(largest, "number", among=[3, 0]) == [0, 3]


def test_channels() -> None:
    assert channels_of("0-2,7,1", 8) == [0, 1, 2, 7]
    for text in ("", "a", "1-", "-1", "2-1", "8", "0-8", "1--2", "٣"):
        with pytest.raises(UsageError, match="--channels"):
            channels_of(text, 8)


class Last(nn.Module):
    """A layer whose channels come last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 5, 3, padding=1), nn.LayerNorm(5), nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(images).permute(0, 2, 3, 1)).mean((1, 2)))


def test_channels_that_come_last_are_no_maps() -> None:
    """Rows would be taken for channels."""
    layers = layers_of(Last(), (1, 8, 8))
    assert layers.channels_last((8, 8, 5))
    assert not layers.channels_last((8, 8, 8))
    assert not layers.channels_last((5, 8, 8))
    assert last_map(layers) == "conv"
    assert all_maps(layers) == ["conv"]
    with pytest.raises(UsageError, match="norm gives 8x8x5 numbers an image, channels last, and no map") as caught:
        map_layer(layers, "norm", "after")
    assert caught.value.hint == "for example --layer conv"
    assert not layers_of(Last(), (1, 8, 6)).channels_last((5, 5, 6)), "of images that are not square maps are of any shape"
