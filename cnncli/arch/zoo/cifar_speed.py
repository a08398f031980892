"""A net that learns CIFAR-10 in minutes, after Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498).

A 2x2 convolution for filters that whiten patches (`cnn train --whiten`), then three pairs of 3x3 convolutions, the first of each pair
followed by max pooling, a max pooling of what is left, and a fully connected layer. The paper's widths are 64, 256, 256; these are
narrower, since on a CPU the time goes with the multiply-adds.
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part, chain
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm

PAPER = "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, with narrower layers"
WHITENING = 2  # the side of its patches


def cifar_speed(
    *,
    input: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    name: str = "cifar-speed",
    width1: int = 32,
    width2: int = 128,
    width3: int = 256,
) -> Net:
    """The net with these widths of its three pairs."""
    filters = 2 * input[0] * WHITENING**2
    parts: list[tuple[str, Part]] = [("whiten", Conv(filters, kernel=WHITENING)), ("act", Activation("gelu"))]
    parts += [(f"pair{number}", _pair(width)) for number, width in enumerate((width1, width2, width3), start=1)]
    parts += [("pool", Pool("max", kernel=3)), ("flatten", Flatten()), ("fc", Linear(classes, bias=False))]
    return Net(name, Chain(tuple(parts)), input, classes, PAPER)


def _pair(width: int) -> Part:
    return chain(
        conv1=Conv(width, kernel=3, padding=1, bias=False),
        pool=Pool("max", kernel=2),
        bn1=_norm(),
        act1=Activation("gelu"),
        conv2=Conv(width, kernel=3, padding=1, bias=False),
        bn2=_norm(),
        act2=Activation("gelu"),
    )


def _norm() -> BatchNorm:
    return BatchNorm(eps=1e-12, momentum=0.6)  # a short training has no time for slow averages
