"""The weights of a convolution as pictures: in colour where it sees the image, else channel by channel or as norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from cnncli.engine.layers import INPUT, Layers
from cnncli.errors import InputError, UsageError

Show = Literal["auto", "colour", "norms", "channels"]
SHOWS: tuple[Show, ...] = ("auto", "colour", "norms", "channels")
SORTS = ("none", "norm")
CONVOLUTIONS = (nn.Conv2d,)

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Filters:
    """Pictures of filters. layer: whose. pictures: float32 [n, 1 or 3, height, width]. numbers: int64 [n], which filter each is, or with
    `channels` which input channel of it. norms: float32 [n], the L2 norm of each whole filter (or slice). shape: of all weights, [K, C,
    h, w]. show: how they are shown, never auto.
    """

    layer: str
    pictures: Weights
    numbers: npt.NDArray[np.int64]
    norms: Weights
    shape: tuple[int, int, int, int]
    show: Show


def filters_of(
    model: nn.Module, layers: Layers, *, layer: str | None = None, show: Show = "auto", number: int | None = None, sort: str = "none"
) -> Filters:
    """The filters of a convolution, the first that runs by default.

    colour: as they are, of 1 or 3 input channels. norms: [h, w] of each filter, the L2 norm over its input channels. channels: of filter
    `number` its weights for each input channel. auto: colour where that can be, norms else. sort: `norm` puts the strongest first.
    UsageError for a layer that is no convolution, or a filter that it has not; InputError for weights that are not finite.
    """
    path = _convolution(model, layers, layer)
    module = model.get_submodule(path)
    weights = module.weight.detach().float().cpu().numpy()  # type: ignore[operator] # a convolution's
    if not np.isfinite(weights).all():
        raise InputError(f"the weights of {path} are not finite", "use a model from before its training went wrong", path=path)
    count, channels = weights.shape[:2]
    if show == "auto":
        show = "channels" if number is not None else "colour" if channels in (1, 3) else "norms"
    if show == "colour" and channels not in (1, 3):
        raise UsageError(
            f"{path} has {channels} input channels, which are no colours", "--show norms or --show channels --number 0", path="--show"
        )
    if show == "channels":
        if number is None or not 0 <= number < count:
            known = f"--number 0 to {count - 1}" if count > 1 else "--number 0"
            if number is None:
                raise UsageError("--show channels shows one filter", f"say which filter: {known}", path="--number")
            raise UsageError(f"--show channels shows one filter, and there is no filter {number}", known, path="--number")
        pictures = weights[number][:, None]
    elif number is not None:
        raise UsageError("--number is for the input channels of one filter", "--show channels", path="--number")
    else:
        pictures = np.sqrt((weights**2).sum(1, keepdims=True)) if show == "norms" else weights
    norms = np.sqrt((pictures**2).sum((1, 2, 3)))
    order = np.argsort(-norms, kind="stable") if sort == "norm" else np.arange(len(pictures))
    return Filters(path, pictures[order], order, norms[order], tuple(weights.shape), show)


def _convolution(model: nn.Module, layers: Layers, name: str | None) -> str:
    """The path of a convolution."""
    ran = list(dict.fromkeys(layer.name for layer in layers.all if isinstance(model.get_submodule(layer.name), CONVOLUTIONS)))
    if name is None:
        if not ran:
            raise UsageError("the model has no convolution", "its layers: cnn features extract MODEL --list-layers")
        return ran[0]
    called = layers.called(name)
    path, run, _ = called.removesuffix(INPUT).partition("#")
    if path not in ran:
        kind = type(model.get_submodule(path)).__name__
        near = next((one for one in ran if one.startswith(path)), ran[0] if ran else "")
        raise UsageError(f"--layer {name}: {kind} is no convolution", f"for example --layer {near}", path="--layer")
    if called.endswith(INPUT):
        raise UsageError(f"--layer {name}: the weights are the layer's, not of what it is given", f"--layer {path}", path="--layer")
    if run:
        layers.find(called, "before")  # refuses a run that there is not; all runs have the same weights
    return path


def one_scale(pictures: Weights) -> bool:
    """Whether the filters share a scale: kernels of one position by themselves would all be as strong as can be."""
    return pictures.shape[2:] == (1, 1)


def grey_levels(pictures: Weights, show: Show) -> npt.NDArray[np.uint8]:
    """uint8 [n, 1 or 3, h, w]: weights with 0 as the middle grey; norms from 0, black, on. Full strength is each picture's own largest
    magnitude, or where they share a scale that of all.
    """
    size = np.abs(pictures).max(axis=None if one_scale(pictures) else (1, 2, 3), keepdims=True)
    share = pictures / np.where(size > 0, size, 1)
    found: npt.NDArray[np.uint8] = np.round(255 * share if show == "norms" else 127.5 + 127.5 * share).astype(np.uint8)
    return found
