"""Batch norms that become part of the layer before them: at use they only scale and shift its output, channel by channel."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# Exactly these: a subclass may compute with other weights than it stores (weight standardisation, spectral norm). timm's convolution with
# TensorFlow's padding pads the input and then computes with the weights as they are.
LAYER_NAMES = {kind.__name__ for kind in LAYERS} | {"Conv2dSame"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def copied(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that shares the tensors of `model`: it takes no memory until some are replaced."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()


def norms(model: nn.Module) -> int:
    """How many batch norms a model has."""
    return sum(isinstance(module, NORMS) for module in model.modules())


@torch.no_grad()
def fold(model: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
    """A copy of `model` that computes the same with fewer batch norms, and how many were folded; the model itself stays as it is.

    A batch norm y = gamma (x - mean) / sqrt(var + eps) + beta after x = W z + b is y = (s W) z + s (b - mean) + beta with
    s = gamma / sqrt(var + eps), one number a channel (Jacob et al. 2018, arXiv 1712.05877, section 3.2). Which layer a batch norm follows
    is seen in a run on `images` [N, C, H, W]: the layer and the norm run once, and nothing else reads the layer's output. So it does
    not matter how the forward pass is written. The copy shares with the model all tensors that did not change.
    """
    made = copied(model)
    pairs = _watched(made, images)
    for norm, layer in pairs.items():
        _absorb(layer, norm)
    replacements = {norm: _rest(norm) for norm in pairs}
    for module in made.modules():
        for name, child in list(module.named_children()):
            if child in replacements:
                setattr(module, name, replacements[child])
    return made, len(pairs)


def _watched(model: nn.Module, images: Tensor) -> dict[nn.Module, Layer]:
    """The layer that each batch norm can be folded into."""
    layers = [module for module in model.modules() if _is_layer(module)]
    found = [module for module in model.modules() if _is_norm(module)]
    watch = _Watch()
    handles = [layer.register_forward_hook(watch.computed) for layer in layers]
    handles += [norm.register_forward_hook(watch.normed) for norm in found]
    try:
        with watch:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return watch.pairs()


@dataclass
class _Output:
    layer: Layer
    tensor: Tensor  # kept, so that no other tensor gets its identity
    readers: int = 0


class _Watch(TorchFunctionMode):
    """Who computes what in a run, and how often it is read. Tensors and modules are told apart by identity."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[int, _Output] = {}
        self.runs: dict[nn.Module, int] = {}
        self.read_by: dict[nn.Module, _Output] = {}

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(True for _ in tensors_in((result,))):  # sizes and types may be asked for as often as one likes
            for tensor in tensors_in((args, kwargs or {})):
                if id(tensor) in self.outputs:
                    self.outputs[id(tensor)].readers += 1
        return result

    def computed(self, layer: Any, _inputs: tuple[Any, ...], output: Tensor) -> None:
        """A layer has run."""
        self.runs[layer] = self.runs.get(layer, 0) + 1
        self.outputs[id(output)] = _Output(layer, output)

    def normed(self, norm: nn.Module, inputs: tuple[Any, ...], _output: Tensor) -> None:
        """A batch norm has run."""
        self.runs[norm] = self.runs.get(norm, 0) + 1
        if inputs and id(inputs[0]) in self.outputs:
            self.read_by[norm] = self.outputs[id(inputs[0])]

    def pairs(self) -> dict[nn.Module, Layer]:
        """Batch norms, each with the layer whose output it alone reads."""
        return {
            norm: output.layer
            for norm, output in self.read_by.items()
            if output.readers == 1 and self.runs[norm] == self.runs[output.layer] == 1 and _fit(output, norm)
        }


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values, and in lists, tuples and dictionaries among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def _is_layer(module: nn.Module) -> bool:
    """Whether it computes with a weight that it stores; with spectral norm, for one, it makes it anew in each run."""
    return isinstance(module, LAYERS) and type(module).__name__ in LAYER_NAMES and "weight" in dict(module.named_parameters(recurse=False))


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a batch norm with fixed averages, followed at most by what timm puts into the same module."""
    if not isinstance(module, NORMS) or module.running_mean is None or module.running_var is None:
        return False
    return type(module) in NORMS or _is_norm_and_act(module)


def _is_norm_and_act(module: nn.Module) -> bool:
    """BatchNormAct2d of timm: batch norm, then its children `drop` and `act`."""
    return type(module).__name__ == "BatchNormAct2d" and [name for name, _ in module.named_children()] == ["drop", "act"]


def _rest(norm: nn.Module) -> nn.Module:
    """What is left to do of a batch norm that has been folded."""
    if not _is_norm_and_act(norm):
        return nn.Identity()
    return nn.Sequential(*(module for module in norm.children() if not isinstance(module, nn.Identity)))


def _fit(output: _Output, norm: Any) -> bool:
    """Whether the norm's channels are those of the layer; a fully connected layer has them last, and a norm second."""
    filters = output.layer.weight.shape[0]
    return bool(norm.num_features == filters and (not isinstance(output.layer, nn.Linear) or output.tensor.dim() == 2))


def _absorb(layer: Layer, norm: Any) -> None:
    """Give the layer new weights: computed in float64, so that they are rounded once."""

    def exact(tensor: Tensor) -> Tensor:
        return tensor.detach().cpu().double()  # the CPU's, since not every device has float64

    scale = torch.rsqrt(exact(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * exact(norm.weight)
    bias = -exact(norm.running_mean) if layer.bias is None else exact(layer.bias) - exact(norm.running_mean)
    bias = bias * scale + (0 if norm.bias is None else exact(norm.bias))
    weight = exact(layer.weight) * scale.view(-1, *[1] * (layer.weight.dim() - 1))
    for name, tensor in (("weight", weight), ("bias", bias)):
        setattr(layer, name, nn.Parameter(tensor.to(layer.weight), requires_grad=False))
