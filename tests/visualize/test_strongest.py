"""The strongest places of channels, against a search that keeps everything and sorts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import layers_of
from cnncli.engine.tapped import Watched, watched
from cnncli.errors import CnnError, UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.strongest import Search, all_maps, map_of, search, usual_layers


def net() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3, padding=1), nn.Flatten(), nn.Linear(36, 3)
    )
    with torch.no_grad():
        made[0].bias[2] = -50  # a channel that is never active
    return made.eval()


@pytest.mark.parametrize("batch", [1, 4, 11])
def test_against_everything_sorted(batch: int) -> None:
    model, images = net(), torch.randn(11, 3, 8, 8)
    images[7] = images[3]  # as strong: the first one comes first
    layers = layers_of(model, (3, 8, 8))
    taps = [map_of(layers, name) for name in ("0", "3")]
    rows = torch.arange(100, 111)
    found = search(model, taps, zip(images.split(batch), rows.split(batch), strict=True), 4)
    with torch.no_grad():
        wanted = [model[:2](images), model[:4](images)]
    for own, maps in zip(found, wanted, strict=True):
        for channel in range(maps.shape[1]):
            entries = []
            for image in range(len(maps)):
                value, place = maps[image, channel].flatten().max(0)
                entries.append((-float(value), image, divmod(int(place), maps.shape[3])))
            entries.sort()
            assert own.rows[channel].tolist() == [100 + image for _, image, _ in entries[:4]]
            assert torch.allclose(own.values[channel], torch.tensor([-value for value, _, _ in entries[:4]]), atol=1e-6)
            positive = [entry for entry in entries[:4] if entry[0] < 0]
            assert own.positions[channel].tolist()[: len(positive)] == [list(place) for _, _, place in positive]
    assert found[0].dead.tolist() == [False, False, True, False, False]
    assert model[1].inplace, "the model is as it was"


def test_memory_does_not_grow() -> None:
    model = net()
    taps = [map_of(layers_of(model, (3, 8, 8)), "0")]
    found, ready = Search(taps, 2), watched(model, taps, torch.randn(2, 3, 8, 8))
    for number in range(50):
        found.see(ready, torch.randn(2, 3, 8, 8), torch.tensor([2 * number, 2 * number + 1]))
    assert sum(tensor.numel() for kept in (found._values, found._rows, found._places) for tensor in kept) == 3 * 5 * 2


def test_what_is_refused() -> None:
    model = net()
    layers = layers_of(model, (3, 8, 8))
    with pytest.raises(UsageError, match="gives 3 numbers an image and no map; for example --layer "):
        map_of(layers, "5")
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(CnnError, match="not finite"):
        search(model, [map_of(layers, "0")], [(torch.randn(1, 3, 8, 8), torch.tensor([0]))], 1)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("alexnet-owt", ["conv1", "conv2", "conv3", "conv4", "conv5"]),
        ("vgg11", ["conv1_1", "conv2_1", "conv3_2", "conv4_2", "conv5_2"]),
        ("squeezenet1_1", ["conv1", "fire3", "fire5", "fire8", "conv10"]),
    ],
)
def test_five_layers(name: str, wanted: list[str]) -> None:
    model = assemble(build(name, input=(3, 64, 64), classes=7)).eval()
    layers = layers_of(model, (3, 64, 64))
    assert usual_layers(model, layers) == wanted
    assert set(wanted) <= set(all_maps(layers))


class Shared(nn.Module):
    """One ReLU that runs twice, and a block whose output is its last layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(3, 2, 3), nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.relu(self.b(self.relu(self.a(images)))).mean((2, 3))
        return out


def test_every_map_once() -> None:
    """Not its ReLU, nor the sequence that ends with it, again."""
    assert all_maps(layers_of(Shared().eval(), (3, 9, 9))) == ["a", "b.0"]


def test_made_ready_for_many_images() -> None:
    """Batch norms are folded and images computed some at a time; what is found is the same."""
    torch.manual_seed(1)
    model = assemble(build("resnet20")).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    layers = layers_of(model, (3, 32, 32))
    taps = [map_of(layers, name) for name in all_maps(layers)]
    images = torch.randn(400, 3, 32, 32)
    ready = watched(model, taps, images[:16], count=600)
    assert "19 batch norms folded" in ready.forward.how
    assert ready.forward.chunk is not None
    fast = Search(taps, 3)
    in_parts = Watched(replace(ready.forward, chunk=70))
    for batch, rows in zip(images.split(200), torch.arange(400).split(200), strict=True):
        fast.see(in_parts, batch, rows)
    plain = search(model, taps, [(images, torch.arange(400))], 3, count=1)
    for one, other in zip(fast.found(), plain, strict=True):
        assert torch.allclose(one.values, other.values, rtol=1e-4, atol=1e-5)
        apart = (other.values[:, :-1] - other.values[:, 1:]).amin(1) > 1e-3  # else rounding may change the order
        assert apart.any()
        assert torch.equal(one.rows[apart][:, :2], other.rows[apart][:, :2])
        assert (one.positions[apart][:, :2] == other.positions[apart][:, :2]).all(2).float().mean() > 0.99
