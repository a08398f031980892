"""The net of the ConvNetJS CIFAR-10 demo, Karpathy 2014: three 5x5 convolutions that keep the size, each pooled to half."""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation

FILTERS = (16, 20, 20)


def convnetjs_cifar10(*, input: tuple[int, int, int] = (3, 32, 32), classes: int = 10, name: str = "convnetjs-cifar10") -> Net:
    """The demo's layer list; its softmax is in the loss here, as everywhere."""
    parts: list[tuple[str, Part]] = []
    for i, filters in enumerate(FILTERS, start=1):
        parts += [
            (f"conv{i}", Conv(filters, kernel=5, padding=2)),
            (f"relu{i}", Activation("relu")),
            (f"pool{i}", Pool("max", kernel=2)),
        ]
    parts += [("flatten", Flatten()), ("fc", Linear(classes))]
    return Net(name, Chain(tuple(parts)), input, classes, "Karpathy 2014, ConvNetJS CIFAR-10 demo")
