"""The ImageNet ResNets, He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition", table 1 and figure 5.

Stages are called conv2_x, ..., conv5_x, as in the table; pool1 is the pooling at the top of conv2_x. Shortcuts are
identities, and projections where the size changes (option B). Two places for the stride of a bottleneck are in use: the
paper's, in the first 1x1 convolution (`resnet50-v1`: 3.8e9 multiply-adds), and the 3x3 one, "v1.5", with which
torchvision trains (`resnet50`: 4.1e9 and a little more accurate).
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part, Residual, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm

PAPER = "He et al. 2015, Deep residual learning for image recognition"

# Table 1: the kind of block, and how many of them in conv2_x, conv3_x, conv4_x and conv5_x.
TABLE_1 = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
STAGES = (("conv2_x", 64, 1), ("conv3_x", 128, 2), ("conv4_x", 256, 2), ("conv5_x", 512, 2))  # filters, stride of the first block
EXPANSION = 4  # a bottleneck gives four times as many channels as its 3x3 convolution has

NORM = BatchNorm()
RELU = Activation("relu")


def resnet(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str, layers: int, stride_in_3x3: bool = True) -> Net:
    """The column of table 1 with so many layers; `stride_in_3x3` is v1.5, without it the bottlenecks are the paper's."""
    kind, counts = TABLE_1[layers]
    parts: list[tuple[str, Part]] = [
        ("conv1", Conv(64, kernel=7, stride=2, padding=3, bias=False)),
        ("bn1", NORM),
        ("relu1", RELU),
        ("pool1", Pool("max", kernel=3, stride=2, padding=1)),
    ]
    for (stage, filters, stride), count in zip(STAGES, counts, strict=True):
        if kind == "basic":
            outputs, first, other = filters, _basic(filters, stride), _basic(filters, 1)
        else:
            outputs, first, other = EXPANSION * filters, _bottleneck(filters, stride, stride_in_3x3=stride_in_3x3), _bottleneck(filters, 1)
        changes = stride > 1 or kind == "bottleneck"
        shortcut = chain(conv=Conv(outputs, kernel=1, stride=stride, bias=False), bn=NORM) if changes else None
        rest = Residual(other)  # one object for all: 152 layers walk in milliseconds
        blocks = (("block1", Residual(first, shortcut=shortcut)), *((f"block{i}", rest) for i in range(2, count + 1)))
        parts.append((stage, Chain(blocks)))
    parts += [("pool", AdaptivePool("average")), ("flatten", Flatten()), ("fc", Linear(classes))]
    version = ", with the stride in the 3x3 convolutions (v1.5)" if kind == "bottleneck" and stride_in_3x3 else ""
    return Net(name, Chain(tuple(parts)), input, classes, PAPER + version)


def _basic(filters: int, stride: int) -> Chain:
    """Figure 5, left."""
    return chain(
        conv1=Conv(filters, kernel=3, stride=stride, padding=1, bias=False),
        bn1=NORM,
        relu1=RELU,
        conv2=Conv(filters, kernel=3, padding=1, bias=False),
        bn2=NORM,
    )


def _bottleneck(filters: int, stride: int, *, stride_in_3x3: bool = True) -> Chain:
    """Figure 5, right: reduce, convolve, restore."""
    return chain(
        conv1=Conv(filters, kernel=1, stride=1 if stride_in_3x3 else stride, bias=False),
        bn1=NORM,
        relu1=RELU,
        conv2=Conv(filters, kernel=3, stride=stride if stride_in_3x3 else 1, padding=1, bias=False),
        bn2=NORM,
        relu2=RELU,
        conv3=Conv(EXPANSION * filters, kernel=1, bias=False),
        bn3=NORM,
    )
