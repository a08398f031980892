"""What each channel of a layer sees in an image: its map, how strong it is, and which channels are worth drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cnncli.engine.capture import capture
from cnncli.engine.layers import Activation, Layers, Tap
from cnncli.errors import InputError, UsageError

Order = Literal["strength", "number"]


@dataclass(frozen=True)
class Strength:
    """Of the maps [N, K, h, w] of a layer, each [N, K]: the largest value, the mean, and the share of positions above 0."""

    largest: Tensor
    mean: Tensor
    active: Tensor


def map_layer(layers: Layers, name: str | None, activation: Activation) -> tuple[str, Tap]:
    """(the name, where its maps are taken). None: the first layer that gives a map.

    UsageError for a layer that gives none, with the last one before it that does.
    """
    ran = [layer.name for layer in layers.all]
    maps = [layer.name for layer in layers.all if layers.is_map(layer.shape) and layer.runs == 1]
    if name is None:
        if not maps:
            raise UsageError("no layer gives a map of more than one pixel", "its layers: --list-layers", path="--layer")
        name = maps[0]
    tap = layers.find(name, activation)
    last = layers.channels_last(tap.shape)
    if len(tap.shape) != 3 or last:  # maps of one pixel are drawn where they are asked for
        plain = name.partition("#")[0].partition(":")[0]
        before = [one for one in maps if plain in ran and ran.index(one) < ran.index(plain)] or maps
        hint = f"for example --layer {before[-1]}" if before else "the model gives none"
        raise UsageError(
            f"{name} gives {'x'.join(map(str, tap.shape))} numbers an image{', channels last,' * last} and no map", hint, path="--layer"
        )
    return name, tap


@torch.inference_mode()
def activation_maps(model: nn.Module, images: Tensor, tap: Tap) -> Tensor:
    """[N, K, h, w] of images [N, C, H, W], in evaluation mode. InputError where they are not finite."""
    was = model.training
    model.eval()
    try:
        found = capture(model, images, [tap])[0]
    finally:
        model.train(was)
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"the maps of {tap.path} are not finite", "look at its weights: cnn eval names the first that is not")
    return found


def strength_of(maps: Tensor) -> Strength:
    """How strong each map of [N, K, h, w] is."""
    return Strength(maps.amax((2, 3)), maps.mean((2, 3)), (maps > 0).float().mean((2, 3)))


def ordered(largest: Tensor, order: Order, *, among: Sequence[int] | None = None, most: int | None = None) -> list[int]:
    """Channels of an image, of `among` or all; the strongest first, or by number; of these the first `most`.

    largest: [K], each channel's largest value. Of equal ones the lower number comes first.
    """
    if order == "number":
        numbers = sorted(set(among)) if among is not None else list(range(len(largest)))
    else:
        by_strength: list[int] = torch.argsort(largest, descending=True, stable=True).tolist()
        numbers = by_strength if among is None else [number for number in by_strength if number in set(among)]
    return numbers[:most]
