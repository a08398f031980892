"""The CIFAR-10 ResNets and their plain twins, He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition", section 4.2.

6n + 2 layers: a 3x3 convolution, three stages of 2n 3x3 convolutions on maps of 32, 16, 8 with 16, 32, 64 filters, global
average pooling and a 10-way fully connected layer. Shortcuts are parameter-free identities (option A) in all cases.
n = 200 gives the paper's net of 1202 layers.
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part, Residual, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, SubsamplePad
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm

PAPER = "He et al. 2015, Deep residual learning for image recognition, section 4.2"
STAGES = ((16, 1), (32, 2), (64, 2))  # filters, stride of the first block


def resnet_cifar(*, input: tuple[int, int, int] = (3, 32, 32), classes: int = 10, name: str, n: int, residual: bool = True) -> Net:
    """The net with 6n + 2 layers, with or without its shortcuts."""
    parts: list[tuple[str, Part]] = [
        ("conv1", Conv(16, kernel=3, padding=1, bias=False)),
        ("bn1", BatchNorm()),
        ("relu1", Activation("relu")),
    ]
    for number, (filters, stride) in enumerate(STAGES, start=1):
        first = _block(filters, stride, residual=residual)
        other = first if stride == 1 else _block(filters, 1, residual=residual)  # one object for all: 1202 layers walk in milliseconds
        blocks = (("block1", first), *((f"block{i}", other) for i in range(2, n + 1)))
        parts.append((f"stage{number}", Chain(blocks)))
    parts += [("pool", AdaptivePool("average")), ("flatten", Flatten()), ("fc", Linear(classes))]
    return Net(name, Chain(tuple(parts)), input, classes, PAPER)


def _block(filters: int, stride: int, *, residual: bool) -> Part:
    body = chain(
        conv1=Conv(filters, kernel=3, stride=stride, padding=1, bias=False),
        bn1=BatchNorm(),
        relu1=Activation("relu"),
        conv2=Conv(filters, kernel=3, padding=1, bias=False),
        bn2=BatchNorm(),
    )
    if residual:
        return Residual(body, shortcut=SubsamplePad(filters, stride=stride) if stride > 1 else None)
    return Chain((*body.parts, ("relu2", Activation("relu"))))
