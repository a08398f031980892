"""The methods in one form: each is what its own module computes, of each image's own class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.notation.language import parse
from cnncli.arch.zoo.table import build
from cnncli.engine.layers import Layers, layers_of
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.backprop import Aim, signals
from cnncli.visualize.gradcam import enlarged, grad_cam, last_map
from cnncli.visualize.integrated import integrated_gradients
from cnncli.visualize.maps import METHODS, STEPS, Setting, asked_about, check_method, magnitude, signed

CLASSES = torch.tensor([3, 0, 3])


@pytest.fixture(scope="module")
def made() -> tuple[nn.Module, Tensor, Layers, Setting]:
    torch.manual_seed(0)
    net = parse("conv3-8 bn relu maxpool conv3-12 bn relu conv3-16 relu gap FC-10", input=(3, 32, 32))
    model = assemble(net).eval()
    layers = layers_of(model, net.input)
    setting = Setting(layers.find(last_map(layers), "after"), torch.full((3, 1, 1), -1.0), seed=2)
    return model.double(), torch.randn(3, *net.input, dtype=torch.float64), layers, setting


@pytest.mark.parametrize("name", METHODS)
def test_each_image_by_itself(name: str, made: tuple[nn.Module, Tensor, Layers, Setting]) -> None:
    """Also where classes differ and come in any order; SmoothGrad's noise is of the batch."""
    model, images, _, setting = made
    found = asked_about([name], images, CLASSES, setting)[name](model)
    assert found.shape == (3, 1 if name == "gradcam" else 3, 32, 32)
    assert torch.equal(found, METHODS[name](model, images, CLASSES, setting))
    assert not model.training
    if name == "smoothgrad":
        return
    for row in range(3):
        alone = METHODS[name](model, images[row : row + 1], CLASSES[row : row + 1], setting)
        assert torch.allclose(found[row], alone[0], atol=1e-9)


def test_they_are_what_their_modules_compute(made: tuple[nn.Module, Tensor, Layers, Setting]) -> None:
    model, images, layers, setting = made
    threes, image = torch.tensor([3]), images[:1]
    gradient = signals(model, image, Aim(None, 3), "gradient").pixels
    assert torch.equal(METHODS["saliency"](model, image, threes, setting), gradient)
    assert torch.equal(METHODS["times-input"](model, image, threes, setting), gradient * image)
    assert torch.equal(METHODS["guided"](model, image, threes, setting), signals(model, image, Aim(None, 3), "guided").pixels)
    cam = grad_cam(model, image, layers.find(last_map(layers), "after"), number=3).maps
    assert torch.equal(METHODS["gradcam"](model, image, threes, setting)[:, 0], enlarged(cam, (32, 32)))
    whole = integrated_gradients(model, image, torch.full((3, 32, 32), -1.0, dtype=torch.float64), number=3, steps=STEPS).pixels
    assert torch.equal(METHODS["integrated"](model, image, threes, setting), whole)


def test_the_deconvnet_of_a_score_below_0_is_that_of_another_scale(made: tuple[nn.Module, Tensor, Layers, Setting]) -> None:
    model, images, _, setting = made
    scores = model(images[:1])[0]
    best, least = int(scores.argmax()), int(scores.argmin())
    assert scores[least] < 0 < scores[best], "else the test shows nothing"
    assert METHODS["deconvnet"](model, images[:1], torch.tensor([least]), setting).any()
    ours = METHODS["deconvnet"](model, images[:1], torch.tensor([best]), setting)
    theirs = signals(model, images[:1], Aim(None, best), "deconvnet").pixels
    assert torch.allclose(ours / ours.abs().max(), theirs / theirs.abs().max(), atol=1e-5)


def test_magnitude_and_sign() -> None:
    found = torch.tensor([[[[1.0, -2.0]], [[-3.0, 1.0]]]])
    assert magnitude(found).tolist() == [[[3.0, 2.0]]]
    assert signed(found).tolist() == [[[-2.0, -1.0]]]


def test_what_has_nothing_to_say_of_a_model(made: tuple[nn.Module, Tensor, Layers, Setting]) -> None:
    model, images, layers, _ = made
    for name in METHODS:  # nothing is raised
        check_method(name, model, images[:1], layers, "resnet20")
    net = build("lenet5")
    tanh = assemble(net).eval()
    of_tanh = layers_of(tanh, net.input)
    for name in ("guided", "deconvnet"):
        with pytest.raises(UsageError, match=f"lenet5 runs 4 tanh; leave {name} out of --methods"):
            check_method(name, tanh, torch.randn(1, *net.input), of_tanh, "lenet5")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="no layer gives a map"):
        check_method("gradcam", linear, torch.randn(1, 1, 2, 2), layers_of(linear, (1, 2, 2)), "a net")
