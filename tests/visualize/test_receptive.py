"""What a unit sees: the activation computed from its receptive field alone, for models whose forward pass is written in any way."""

from __future__ import annotations

import random
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.engine.capture import capture
from cnncli.engine.layers import layers_of
from cnncli.models.assemble import assemble
from cnncli.visualize.receptive import Box, cropped, receptive_fields


def unpadded(model: nn.Module) -> nn.Module:
    """The same layers without padding: on a crop of just the field they give one number."""
    made = deepcopy(model)
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.padding = 0 if isinstance(module, nn.MaxPool2d) else (0, 0)
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = False
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet-owt", "vgg11"])
def test_the_crop_alone_gives_the_activation(name: str) -> None:
    """For 100 random layers, channels and positions that see no padding: the layers without padding, run on the crop."""
    torch.manual_seed(0)
    size = (3, 224, 224) if name == "alexnet-owt" else (3, 160, 160)
    model = assemble(build(name, input=size, classes=7)).double().eval()
    image = torch.randn(1, *size, dtype=torch.float64)
    layers = [layer for layer in layers_of(model.float(), size).distinct() if len(layer.shape) == 3 and layer.shape[1] > 1]
    model.double()
    taps = [layer.active for layer in layers]
    fields = receptive_fields(model, taps, size)
    maps = capture(model, image, taps)
    bare = unpadded(model)
    choose = random.Random(0)
    places = []
    for number, (field, tap) in enumerate(zip(fields, taps, strict=True)):
        for row in range(tap.shape[1]):
            for column in range(tap.shape[2]):
                box = field.box(row, column)
                inside = box.top >= 0 and box.left >= 0 and box.top + box.height <= size[1] and box.left + box.width <= size[2]
                places += [(number, row, column, box)] * inside
    by_layer = {number: [place for place in places if place[0] == number] for number in {place[0] for place in places}}
    assert len(by_layer) >= 6
    with torch.no_grad():
        for number, row, column, box in (choose.choice(by_layer[choose.choice(list(by_layer))]) for _ in range(100)):
            channel = choose.randrange(taps[number].shape[0])
            crop = image[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
            alone = capture(bare, crop, [taps[number]])[0]
            assert alone.shape[2:] == (1, 1), layers[number].name
            assert float((alone[0, channel, 0, 0] - maps[number][0, channel, row, column]).abs()) < 1e-10


class Functional(nn.Module):
    """A residual block, strides, and a pooling, none of which is told by a list of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2)

    def forward(self, images: Tensor) -> Tensor:
        out = torch.relu(self.first(images))
        out = nn.functional.max_pool2d(out, 3, 2, 1)
        return torch.relu(out + self.second(out)).mean((2, 3))


@pytest.mark.parametrize("name", ["functional", "resnet18", "googlenet"])
def test_nothing_outside_changes_it(name: str) -> None:
    """Other pixels outside of the box leave the activation as it is; some within it change it."""
    torch.manual_seed(0)
    size = (3, 96, 96)
    model = (Functional() if name == "functional" else assemble(build(name, input=size, classes=7))).eval()
    layers = [layer for layer in layers_of(model, size).distinct() if len(layer.shape) == 3 and layer.shape[1] > 1]
    taps = [layer.active for layer in layers]
    fields = receptive_fields(model, taps, size)
    model.double()
    image, other = torch.randn(2, *size, dtype=torch.float64)
    own = capture(model, image[None], taps)
    told = 0
    for number in range(0, len(taps), max(1, len(taps) // 12)):
        row, column = taps[number].shape[1] // 2, taps[number].shape[2] // 3
        box = fields[number].box(row, column)
        inside = torch.zeros(size[1:], dtype=torch.bool)
        inside[max(0, box.top) : max(0, box.top + box.height), max(0, box.left) : max(0, box.left + box.width)] = True
        with torch.no_grad():
            outside_changed = capture(model, torch.where(inside, image, other)[None], [taps[number]])[0]
            inside_changed = capture(model, torch.where(inside, other, image)[None], [taps[number]])[0]
        assert torch.allclose(outside_changed[0, :, row, column], own[number][0, :, row, column], rtol=1e-9, atol=1e-12), layers[
            number
        ].name
        assert not torch.equal(inside_changed[0, :, row, column], own[number][0, :, row, column])
        told += not bool(inside.all())
    assert told >= (2 if name == "functional" else 5)


def test_boxes_and_crops() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    assert cropped(image, Box(1, 2, 2, 2), 9).tolist() == [[[6, 7], [10, 11]]]
    assert cropped(image, Box(-1, 3, 3, 2), 99).tolist() == [[[99, 99], [3, 99], [7, 99]]]
    assert cropped(image, Box(5, 5, 1, 1), 7).tolist() == [[[7]]]


ELSEWHERE = {
    "nearest": lambda: nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)),
    "reflect": lambda: nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)),
    "reflect, of a convolution": lambda: nn.Sequential(nn.Conv2d(1, 2, 5, padding=2, padding_mode="reflect"), nn.Conv2d(2, 2, 3)),
    "circular": lambda: nn.Sequential(nn.Conv2d(1, 2, 5, padding=2, padding_mode="circular"), nn.Conv2d(2, 2, 3)),
    "zeros": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(1, 2, 3, 2), nn.Conv2d(2, 2, 3, padding=1)),
    "replicate": lambda: nn.Sequential(nn.Conv2d(1, 2, 5, padding=2, padding_mode="replicate"), nn.Conv2d(2, 2, 3)),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_no_unit_sees_beyond_its_box(kind: str) -> None:
    """By the gradient of every unit, with weights above 0, so that nothing cancels; and the box is the whole image only where it must."""
    model = ELSEWHERE[kind]().eval()
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.01)
    layers = layers_of(model, (1, 12, 12))
    tap = layers.all[-1].tap
    (field,) = receptive_fields(model, [tap], (1, 12, 12))
    assert (field.grid == (1, 1)) == (kind not in ("zeros", "replicate"))
    image = torch.rand(1, 1, 12, 12, requires_grad=True)
    maps = model(image)[0].sum(0)
    for row, column in ((row, column) for row in range(maps.shape[0]) for column in range(maps.shape[1])):
        (gradient,) = torch.autograd.grad(maps[row, column], image, retain_graph=True)
        seen = gradient[0, 0].nonzero()
        box = field.box(row, column)
        least, most = seen.amin(0).tolist(), seen.amax(0).tolist()
        assert box.top <= least[0] and most[0] < box.top + box.height, (row, column)  # noqa: PT018 # one thing
        assert box.left <= least[1] and most[1] < box.left + box.width, (row, column)  # noqa: PT018
