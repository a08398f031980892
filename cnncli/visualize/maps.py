"""The methods that say which pixels a class score depends on, asked in one way so that they can be compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from cnncli.engine.layers import Layers, Tap
from cnncli.engine.relu_rules import Rule
from cnncli.errors import UsageError
from cnncli.visualize.backprop import Aim, check_rule, saliency_map, signals, smooth_gradient
from cnncli.visualize.gradcam import enlarged, grad_cam, last_map
from cnncli.visualize.integrated import integrated_gradients

SAMPLES = 10  # of SmoothGrad: the least of the paper's pictures (Smilkov et al. 2017, figure 4)
STEPS = 20  # of integrated gradients: 20 to 300 are enough (Sundararajan et al. 2017, section 5)


@dataclass(frozen=True)
class Setting:
    """What the methods need besides a model, images and classes.

    tap: the layer of Grad-CAM. baseline: [C, 1, 1], a black pixel as the model sees it, from which integrated gradients start. seed: of
    SmoothGrad's noise, which is the same whenever it is asked.
    """

    tap: Tap | None
    baseline: Tensor
    seed: int = 0


Method = Callable[[nn.Module, Tensor, Tensor, Setting], Tensor]


def _saliency(model: nn.Module, images: Tensor, classes: Tensor, _setting: Setting) -> Tensor:
    return signals(model, images, Aim(None, classes), "gradient").pixels


def _times_input(model: nn.Module, images: Tensor, classes: Tensor, _setting: Setting) -> Tensor:
    return images * signals(model, images, Aim(None, classes), "gradient").pixels


def _smooth(model: nn.Module, images: Tensor, classes: Tensor, setting: Setting) -> Tensor:
    return smooth_gradient(model, images, Aim(None, classes), samples=SAMPLES, seed=setting.seed).pixels


def _guided(model: nn.Module, images: Tensor, classes: Tensor, _setting: Setting) -> Tensor:
    return signals(model, images, Aim(None, classes), "guided").pixels


def _deconvnet(model: nn.Module, images: Tensor, classes: Tensor, _setting: Setting) -> Tensor:
    return signals(_Above(model), images, Aim(None, classes), "deconvnet").pixels


def _grad_cam(model: nn.Module, images: Tensor, classes: Tensor, setting: Setting) -> Tensor:
    tap = setting.tap
    assert tap is not None
    return enlarged(grad_cam(model, images, tap, number=classes).maps, (images.shape[2], images.shape[3]))[:, None]


def _integrated(model: nn.Module, images: Tensor, classes: Tensor, setting: Setting) -> Tensor:
    start = setting.baseline.to(images).expand(images.shape[1:])
    return integrated_gradients(model, images, start, number=classes, steps=STEPS).pixels


# (model, images [N, C, H, W], classes int64 [N], setting) -> signals with their signs [N, C, H, W], of Grad-CAM [N, 1, H, W].
METHODS: dict[str, Method] = {
    "saliency": _saliency,
    "times-input": _times_input,
    "smoothgrad": _smooth,
    "guided": _guided,
    "deconvnet": _deconvnet,
    "gradcam": _grad_cam,
    "integrated": _integrated,
}
_RULED: dict[str, Rule] = {"guided": "guided", "deconvnet": "deconvnet"}


def asked_about(names: Iterable[str], images: Tensor, classes: Tensor, setting: Setting) -> dict[str, Callable[[nn.Module], Tensor]]:
    """The methods of these names for some images and classes: model -> signals."""

    def way(method: Method) -> Callable[[nn.Module], Tensor]:
        return lambda model: method(model, images, classes, setting)

    return {name: way(METHODS[name]) for name in names}


def magnitude(found: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W], from 0 on: the largest magnitude over the channels, as all methods' maps are drawn."""
    return saliency_map(found)


def signed(found: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W]: the sum over the channels."""
    return found.sum(1)


def check_method(name: str, model: nn.Module, image: Tensor, layers: Layers, called: str) -> None:
    """UsageError where a method has nothing to say of a model: no rule for its activations, or no layer with a map for Grad-CAM.

    image: one, [1, C, H, W]. called: the model's name for the message.
    """
    if name == "gradcam":
        last_map(layers)
    elif name in _RULED:
        try:
            check_rule(signals(model, image, Aim(), _RULED[name]), _RULED[name], called)
        except UsageError as error:
            raise UsageError(error.message, f"leave {name} out of --methods", path="--methods") from None


class _Above(nn.Module):
    """A model whose scores are moved up so that the least is 1.

    The deconvnet sends the score back, and nothing for one below 0, as random weights often give; but for its scale its picture does not
    depend on the score. So one is there of every class.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.model(images)
        return scores + (1 - scores.detach().amin(1, keepdim=True))
