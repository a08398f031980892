"""Where a class is seen: Grad-CAM and Grad-CAM++, maps of a layer's activations weighted by how they change the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from cnncli.engine.layers import Layers, Tap
from cnncli.errors import UsageError
from cnncli.visualize.backprop import check_finite


@dataclass(frozen=True)
class Cam:
    """maps: [N, h, w], from 0 on, of the layer's size. scores: [N], of the classes [N] that were asked about."""

    maps: Tensor
    scores: Tensor
    classes: Tensor


def grad_cam(model: nn.Module, images: Tensor, tap: Tap, *, number: int | Tensor | None = None, plus_plus: bool = False) -> Cam:
    """Grad-CAM of a layer for a class (None: each image's best; int64 [N]: each image's own), of images [N, C, H, W], in evaluation mode.

    With A_k the layer's k-th map and S the score before softmax,

        L = ReLU(sum_k w_k A_k),   w_k = mean_ij dS/dA_k,ij       (Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2)

    plus_plus: w_k = sum_ij a_k,ij ReLU(g),  a = g^2 / (2 g^2 + sum_ij A g^3),  g = dS/dA_k,ij (Chattopadhay et al. 2018, "Grad-CAM++",
    equations 10 and 19, for Y = exp(S), whose own factor exp(S) only scales an image's map and is left out).

    UsageError for a layer without a map, or one that the score does not depend on.
    """
    if tap.given or len(tap.shape) != 3:
        raise UsageError(f"Grad-CAM needs a layer that gives a map, and {tap.path} does not", "name another: --layer NAME", path="--layer")
    was = model.training
    model.eval()
    try:
        with torch.enable_grad():
            watch, output = _watched(model, images, tap)
            check_finite(output)
            classes = output.argmax(1) if number is None else torch.as_tensor(number, device=images.device).expand(len(images))
            scores = output[torch.arange(len(images), device=images.device), classes]
            if watch.start is not None:
                torch.autograd.grad(scores.sum(), watch.start, allow_unused=True)
    finally:
        model.train(was)
    maps, gradients, scores = watch.maps, watch.gradients, scores.detach()
    if maps is None or gradients is None:
        raise UsageError(f"the scores do not depend on {tap.path}", "name a layer before the classifier", path="--layer")
    weights = _weights_plus_plus(maps, gradients) if plus_plus else gradients.mean((2, 3))
    return Cam((weights[:, :, None, None] * maps).sum(1).clamp(min=0), scores, classes)


def _weights_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    square = gradients**2
    below = 2 * square + (maps * gradients**3).sum((2, 3), keepdim=True)
    alpha = torch.where(square > 0, square / torch.where(below == 0, torch.ones_like(below), below), torch.zeros_like(square))
    return (alpha * gradients.clamp(min=0)).sum((2, 3))


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, h, w] -> [N, H, W], bilinear, as the paper enlarges them."""
    return interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def last_map(layers: Layers) -> str:
    """The name of the last layer that gives a map of more than one pixel, which the paper takes."""
    names = [layer.name for layer in layers.all if layers.is_map(layer.shape) and min(layer.shape[1:]) > 1 and layer.runs == 1]
    if not names:
        raise UsageError("no layer gives a map of more than one pixel", "its layers: cnn features extract MODEL --list-layers")
    return names[-1]


def _watched(model: nn.Module, images: Tensor, tap: Tap) -> tuple[Watch, Tensor]:
    """(the layer's maps and how the score changes with them; the scores). The graph of gradients is that of the scores."""
    watch = Watch()
    runs = 0

    def hook(_module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        nonlocal runs
        runs += 1
        if runs - 1 != tap.run:
            return None
        watch.start = output if output.requires_grad else output.detach().requires_grad_()
        given = watch.start.clone()  # what comes behind works on a copy, and may overwrite it
        if tap.behind is None:
            watch.see(given)
        else:
            watch.activated = given
        return given

    handle = model.get_submodule(tap.path).register_forward_hook(hook)
    try:
        with watch:
            output: Tensor = model(images)
    finally:
        handle.remove()
    return watch, output


class Watch(TorchFunctionMode):
    """Sees maps on the way through a model: those of a module, or what the function makes of them that is called next with `activated`.

    maps: [N, K, h, w]. start: a tensor before them, whose gradient leads back through them. gradients: once that has been computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start: Tensor | None = None
        self.activated: Tensor | None = None
        self.maps: Tensor | None = None
        self.gradients: Tensor | None = None

    def see(self, maps: Tensor) -> None:
        """Take these numbers, and their gradients when they come: of these, whatever is written into the tensor later."""
        self.maps = maps.detach().clone()
        maps.register_hook(self._back)  # type: ignore[no-untyped-call] # torch does not say

    def _back(self, gradients: Tensor) -> None:
        self.gradients = gradients

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        given = args[0] if args else kwargs.get("input")
        if self.activated is not None and self.maps is None and given is self.activated and isinstance(result, Tensor):
            self.see(result)
        return result
