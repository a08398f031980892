"""DenseNet-BC, Huang, Liu, van der Maaten, Weinberger 2016, "Densely connected convolutional networks".

Every layer of a block reads the outputs of all layers before it and adds k channels, the growth rate. B: a 1x1 convolution
to 4k channels stands in front of each 3x3 one. C: transitions halve the channels. Normalisation and ReLU come before
their convolution (section 3).
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Dense, Part, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm

PAPER = "Huang et al. 2016, Densely connected convolutional networks"

# Table 1, for ImageNet with k = 32: layers of dense blocks 1 to 4. A layer of a block is two convolutions.
TABLE_1 = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
IMAGENET_GROWTH = 32
BOTTLENECK = 4  # section 3: each 1x1 convolution gives 4k feature maps
COMPRESSION = 0.5  # section 3: theta, the share of the channels that a transition keeps

NORM = BatchNorm()
RELU = Activation("relu")


def densenet(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str, layers: int) -> Net:
    """One column of table 1: a 7x7 convolution to 2k channels and a pooling in front of four blocks."""
    stem: tuple[tuple[str, Part], ...] = (
        ("conv1", Conv(2 * IMAGENET_GROWTH, kernel=7, stride=2, padding=3, bias=False)),
        ("bn1", NORM),
        ("relu1", RELU),
        ("pool1", Pool("max", kernel=3, stride=2, padding=1)),
    )
    root = _blocks_and_head(stem, TABLE_1[layers], IMAGENET_GROWTH, classes)
    return Net(name, root, input, classes, f"{PAPER}, table 1")


def densenet_cifar(*, input: tuple[int, int, int] = (3, 32, 32), classes: int = 10, name: str, layers: int, growth: int) -> Net:
    """The nets of table 2: a 3x3 convolution to 2k channels in front of three blocks of (L - 4)/6 layers each."""
    stem: tuple[tuple[str, Part], ...] = (("conv1", Conv(2 * growth, kernel=3, padding=1, bias=False)),)
    root = _blocks_and_head(stem, ((layers - 4) // 6,) * 3, growth, classes)
    return Net(name, root, input, classes, f"{PAPER}, table 2, L={layers}, k={growth}")


def _blocks_and_head(stem: tuple[tuple[str, Part], ...], counts: tuple[int, ...], growth: int, classes: int) -> Chain:
    layer = chain(  # one object for all layers of all blocks: 201 layers walk in milliseconds
        bn1=NORM,
        relu1=RELU,
        conv1=Conv(BOTTLENECK * growth, kernel=1, bias=False),
        bn2=NORM,
        relu2=RELU,
        conv2=Conv(growth, kernel=3, padding=1, bias=False),
    )
    parts = list(stem)
    channels = 2 * growth
    for number, count in enumerate(counts, start=1):
        parts.append((f"block{number}", Dense(tuple((f"layer{i}", layer) for i in range(1, count + 1)))))
        channels += count * growth
        if number < len(counts):
            channels = int(COMPRESSION * channels)
            transition = chain(bn=NORM, relu=RELU, conv=Conv(channels, kernel=1, bias=False), pool=Pool("average", kernel=2))
            parts.append((f"transition{number}", transition))
    parts += [("bn", NORM), ("relu", RELU), ("pool", AdaptivePool("average")), ("flatten", Flatten()), ("fc", Linear(classes))]
    return Chain(tuple(parts))
