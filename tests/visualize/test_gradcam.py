"""Grad-CAM against Captum and against the papers' formulas, written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import Tap, layers_of
from cnncli.errors import InputError, UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.gradcam import enlarged, grad_cam, last_map


@pytest.fixture(scope="module")
def model() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = build("resnet20")
    made = assemble(net).double()
    with torch.no_grad():
        made.train()(torch.randn(16, *net.input, dtype=torch.float64))
    return made.eval(), torch.randn(3, *net.input, dtype=torch.float64)


def tap_of(model: nn.Module, name: str) -> Tap:
    found = layers_of(model.float(), (3, 32, 32)).find(name, "after")
    model.double()
    return found


@pytest.mark.parametrize("layer", ["stage3", "stage2.block2", "conv1"])
def test_captum_agrees(model: tuple[nn.Module, Tensor], layer: str) -> None:
    attr = pytest.importorskip("captum.attr")
    made, images = model
    tap = tap_of(made, layer)
    for module in made.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    ours = grad_cam(made, images, tap, number=3)
    theirs = attr.LayerGradCam(made, made.get_submodule(tap.path)).attribute(images, target=3, relu_attributions=True)
    assert torch.allclose(ours.maps, theirs[:, 0], atol=1e-12)
    assert torch.allclose(ours.scores, made(images)[:, 3])


class Small(nn.Module):
    """Two maps of 2 x 2 and a score: everything can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.maps.weight = nn.Parameter(torch.tensor([1.0, -3.0]).view(2, 1, 1, 1))
        self.act = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        kept = self.act(maps)
        return torch.stack([(kept[:, 0] ** 2).sum((1, 2)) - kept[:, 1].sum((1, 2)), kept[:, 1].sum((1, 2))], 1)


@pytest.mark.parametrize("plus_plus", [False, True])
def test_by_hand(plus_plus: bool) -> None:
    """The layer's own maps, though ReLU overwrites them in place behind it."""
    images = torch.tensor([[[[1.0, -1.0], [2.0, 3.0]]]], dtype=torch.float64)
    made = Small()
    tap = layers_of(made, (1, 2, 2)).find("maps", "before")
    made.double()
    found = grad_cam(made, images, tap, number=0, plus_plus=plus_plus)
    a = torch.stack([images[0, 0], -3 * images[0, 0]])  # A, before the ReLU
    g = torch.stack([2 * a[0].clamp(min=0), -(a[1] > 0).double()])  # dS/dA
    weights = []
    for k in range(2):
        if not plus_plus:
            weights.append(sum(g[k].flatten().tolist()) / 4)
            continue
        total = sum(float(a[k].flatten()[i]) * float(g[k].flatten()[i]) ** 3 for i in range(4))
        own = 0.0
        for i in range(4):
            gi = float(g[k].flatten()[i])
            if gi:
                own += gi**2 / (2 * gi**2 + total) * max(gi, 0.0)
        weights.append(own)
    by_hand = torch.stack([weights[k] * a[k] for k in range(2)]).sum(0).clamp(min=0)
    assert torch.allclose(found.maps[0], by_hand, atol=1e-12)
    assert float(found.scores[0]) == 1 + 4 + 9 - 3


class Called(nn.Module):
    """A net that calls its last ReLU in one of several ways."""

    def __init__(self, relu: object, *, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity()
        self.act = relu if isinstance(relu, nn.Module) else None
        self.relu = relu
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        maps = self.norm(maps) if isinstance(self.norm, nn.BatchNorm2d) else maps
        maps = self.relu(maps)  # type: ignore[operator]
        maps = maps + 1
        return self.head((maps**2).mean((2, 3)))


WAYS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda x: F.relu(x, inplace=True),
    "functional by name": lambda x: F.relu(input=x),
    "torch in place": torch.relu_,
}


@pytest.mark.parametrize("plus_plus", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_convolution_is_looked_at_behind_its_relu(way: str, norm: bool, plus_plus: bool) -> None:
    """However that is called: A is what the ReLU gives, and dS/dA is of all its positions, those at 0 too."""
    made = Called(WAYS[way], norm=norm).eval()
    tap = layers_of(made, (1, 8, 8)).find("conv", "after")
    images = torch.randn(2, 1, 8, 8)
    found = grad_cam(made, images, tap, number=1, plus_plus=plus_plus)
    a = F.relu(made.norm(made.conv(images))).detach().requires_grad_()
    (g,) = torch.autograd.grad(made.head(((a + 1) ** 2).mean((2, 3)))[:, 1].sum(), a)
    weights = g.mean((2, 3))
    if plus_plus:
        below = 2 * g**2 + (a * g**3).sum((2, 3), keepdim=True)
        weights = (g**2 / below * g.clamp(min=0)).sum((2, 3))
    by_hand = (weights[..., None, None] * a).sum(1).clamp(min=0).detach()
    assert float(by_hand.max()) > 0
    assert torch.allclose(found.maps, by_hand, atol=1e-6)


def test_scores_that_are_not_finite(model: tuple[nn.Module, Tensor]) -> None:
    made, images = model
    with pytest.raises(InputError, match="not finite"):
        grad_cam(made, images * torch.nan, tap_of(made, "stage3"))


def test_the_best_class_of_each_image(model: tuple[nn.Module, Tensor]) -> None:
    made, images = model
    tap = tap_of(made, "stage3")
    found = grad_cam(made, images, tap)
    assert found.classes.tolist() == made(images).argmax(1).tolist()
    for row, number in enumerate(found.classes.tolist()):
        alone = grad_cam(made, images[row : row + 1], tap, number=number)
        assert torch.allclose(alone.maps[0], found.maps[row], atol=1e-12)


def test_the_last_map_and_its_size() -> None:
    net = build("resnet20")
    layers = layers_of(assemble(net), net.input)
    assert last_map(layers) == "stage3"
    assert enlarged(torch.rand(2, 8, 8), (32, 32)).shape == (2, 32, 32)


def test_layers_without_a_map(model: tuple[nn.Module, Tensor]) -> None:
    made, images = model
    with pytest.raises(UsageError, match="needs a layer that gives a map, and fc does not"):
        grad_cam(made, images, tap_of(made, "fc"))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="no layer gives a map"):
        last_map(layers_of(linear, (1, 2, 2)))
