"""Signals back to the pixels: against Captum where it is right, against it where it is not, and inside the receptive field alone."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.net import walk
from cnncli.arch.zoo.table import build
from cnncli.engine.layers import layers_of
from cnncli.engine.relu_rules import RULES, Rule
from cnncli.errors import CnnError, UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.backprop import Aim, check_rule, saliency_map, signals, smooth_gradient


def small(name: str, side: int = 64) -> tuple[nn.Module, Tensor]:
    """A net of the zoo in float64 with batch norms that have seen something, and two images."""
    torch.manual_seed(0)
    net = build(name, input=(3, side, side), classes=7)
    model, images = assemble(net).double(), torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        model.train()(torch.randn(8, 3, side, side, dtype=torch.float64))
    return model.eval(), images


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["alexnet-owt", "vgg11", "resnet18"])
def test_captum_agrees_where_relus_are_modules(name: str, rule: Rule) -> None:
    """Its deconvnet sends 1 back where ours sends the activation, as the paper does: the same picture, scaled."""
    attr = pytest.importorskip("captum.attr")
    model, images = small(name)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Captum refuses others
    ours = signals(model, images, Aim(channel=3), rule)
    methods = {"gradient": attr.Saliency, "guided": attr.GuidedBackprop, "deconvnet": attr.Deconvolution}
    options = {"abs": False} if rule == "gradient" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = methods[rule](model).attribute(images.clone().requires_grad_(), target=3, **options)
    if rule == "deconvnet":
        theirs = theirs * ours.values.clamp(min=0)[:, None, None, None]
    assert float((ours.pixels - theirs).abs().max()) <= 1e-10 * max(1.0, float(theirs.abs().max()))
    assert torch.allclose(ours.values, model(images)[:, 3])


@pytest.mark.slow
def test_functional_relus_where_captum_gives_the_plain_gradient() -> None:
    from torchvision.models import get_model

    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model = get_model("googlenet", weights=None, init_weights=False, aux_logits=False).double().eval()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    guided, plain = (signals(model, images, Aim(channel=5), rule) for rule in ("guided", "gradient"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = attr.GuidedBackprop(model).attribute(images.clone().requires_grad_(), target=5)
    assert guided.relus == 57
    assert torch.allclose(theirs, plain.pixels, atol=1e-12), "Captum sees no ReLU here"
    assert not torch.allclose(guided.pixels, plain.pixels, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("alexnet-owt", 64), ("vgg16", 32), ("resnet18", 64)])
def test_nothing_outside_the_receptive_field(name: str, side: int) -> None:
    """For every layer with a map: the projection of its strongest activation by the deconvnet."""
    model, images = small(name, side)
    model, images = model.float(), images.float()[:1]
    net = build(name, input=(3, side, side), classes=7)
    layers = layers_of(model, net.input)
    rows = {row.name: row for row in walk(net)}
    looked_at = 0
    for layer in layers.all:
        row = rows.get(layer.name)
        if row is None or row.field is None or len(layer.shape) != 3:
            continue
        found = signals(model, images, Aim(layer.tap), "deconvnet")
        assert found.positions is not None
        spans = []
        for axis, place in zip((row.field.height, row.field.width), found.positions[0].tolist(), strict=True):
            first = round(axis.start + place * axis.jump - (axis.size - 1) / 2)
            spans.append(slice(max(0, first), max(0, first + axis.size)))
        inside = torch.zeros(side, side, dtype=torch.bool)
        inside[tuple(spans)] = True
        assert not found.pixels[0, :, ~inside].any(), f"{layer.name}: {found.positions}"
        looked_at += 1
    assert looked_at >= 13


class Two(nn.Module):
    """Two numbers of a map of two channels: by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.conv.weight = nn.Parameter(torch.tensor([2.0, -3.0]).view(2, 1, 1, 1))
        self.relu = nn.ReLU()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight = nn.Parameter(torch.tensor([[1.0, 1.0], [5.0, -1.0]]))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.fc(self.relu(self.conv(images)).mean((2, 3)))
        return out


def test_by_hand() -> None:
    model = Two()
    images = torch.tensor([[[[1.0, -1.0], [2.0, 0.5]]]])
    layers = layers_of(model, (1, 2, 2))
    found = signals(model, images, Aim(layers.find("conv", "before"), channel=0), "gradient")
    assert (float(found.values[0]), found.positions.tolist(), found.channels.tolist()) == (4.0, [[1, 0]], [0])
    assert found.pixels.tolist() == [[[[0, 0], [2, 0]]]]
    found = signals(model, images, Aim(layers.find("conv", "after"), channel=1), "deconvnet")
    assert float(found.values[0]) == 3.0
    assert found.pixels.tolist() == [[[[0, 3.0 * -3.0], [0, 0]]]], "the activation itself is sent back"
    found = signals(model, images, Aim(layers.find("conv", "before"), channel=1, position=(0, 0)), "gradient")
    assert (float(found.values[0]), found.pixels.tolist()) == (-3.0, [[[[-3.0, 0], [0, 0]]]])
    strongest = signals(model, images, Aim(), "gradient")
    assert strongest.channels.tolist() == [1]
    assert strongest.positions is None
    # 5 * mean(relu(2x)) - mean(relu(-3x)): d/dx = 5 * 2 / 4 where x > 0, + 3 / 4 where x < 0
    assert strongest.pixels.tolist() == [[[[2.5, 0.75], [2.5, 2.5]]]]
    guided = signals(model, images, Aim(), "guided")
    assert guided.pixels.tolist() == [[[[2.5, 0.0], [2.5, 2.5]]]], "what inhibits the score is left out"


def test_each_image_by_itself() -> None:
    model, images = small("resnet18", 32)
    together = signals(model, images, Aim(), "guided")
    for row in range(2):
        alone = signals(model, images[row : row + 1], Aim(), "guided")
        assert torch.allclose(together.pixels[row], alone.pixels[0], atol=1e-12)
        assert together.channels[row] == alone.channels[0]


def test_the_model_stays_as_it_was() -> None:
    model, images = small("resnet18", 32)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    signals(model, images, Aim(), "guided")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_rules_that_have_nothing_to_say() -> None:
    torch.manual_seed(0)
    net = build("lenet5")
    model, images = assemble(net).eval(), torch.randn(1, *net.input)
    for rule, words in (("guided", "guided backpropagation has a rule for ReLU alone"), ("deconvnet", "the deconvnet has a rule")):
        found = signals(model, images, Aim(), rule)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"{words}.* lenet5 runs 4 tanh; --plain-gradient"):
            check_rule(found, rule, "lenet5")  # type: ignore[arg-type]
        check_rule(signals(model, images, Aim(), "gradient"), "gradient", "lenet5")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="a net runs none"):
        check_rule(signals(linear, torch.randn(1, 1, 2, 2), Aim(), "guided"), "guided", "a net")


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ({"channel": 7}, "no channel 7: there are 7 classes; 0 to 6"),
        ({"channel": -1}, "no channel -1"),
        ({"position": (0, 0)}, "the layer has no map"),
        ({"layer": "conv1", "channel": 64}, "there are 64 channels in conv1; 0 to 63"),
        ({"layer": "conv1", "position": (16, 0)}, "--position 16,0: the map has 16 x 16; 0,0 to 15,15"),
    ],
)
def test_what_is_out_of_range(aim: dict[str, object], message: str) -> None:
    model, images = small("resnet18", 32)
    layer = aim.pop("layer", None)
    tap = None if layer is None else layers_of(model.float(), (3, 32, 32)).find(str(layer), "before")
    with pytest.raises(UsageError, match=message):
        signals(model.double(), images, Aim(tap, **aim), "gradient")  # type: ignore[arg-type]


def test_weights_that_are_not_finite() -> None:
    model, images = small("resnet18", 32)
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(CnnError, match="not finite"):
        signals(model, images, Aim(channel=0), "gradient")


def test_saliency_is_the_largest_magnitude_over_channels() -> None:
    pixels = torch.tensor([[[[1.0, -2.0]], [[-3.0, 1.0]]]])
    assert saliency_map(pixels).tolist() == [[[3.0, 2.0]]]


def test_smooth_gradient_by_hand() -> None:
    """The mean of gradients at noisy copies, of the neuron that was chosen without noise; 0 noise is the gradient."""
    model, images = small("resnet18", 32)
    plain = signals(model, images, Aim(), "gradient")
    assert torch.allclose(smooth_gradient(model, images, Aim(), samples=2, noise=0.0).pixels, plain.pixels)
    found = smooth_gradient(model, images, Aim(), samples=3, noise=0.1, seed=4)
    generator = torch.Generator().manual_seed(4)
    spread = 0.1 * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    for _ in range(3):
        noisy = (images + spread * torch.randn(images.shape[1:], generator=generator, dtype=images.dtype)).requires_grad_()
        score = model(noisy)[torch.arange(2), plain.channels].sum()
        total += torch.autograd.grad(score, noisy)[0]
    assert torch.allclose(found.pixels, total / 3, atol=1e-12)
    alone = smooth_gradient(model, images[1:], Aim(), samples=3, noise=0.1, seed=4)
    assert torch.allclose(alone.pixels, found.pixels[1:], atol=1e-12), "whatever other images there are"
    assert torch.equal(found.channels, plain.channels)
