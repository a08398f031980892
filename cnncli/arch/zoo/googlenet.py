"""GoogLeNet, Szegedy et al. 2014, "Going deeper with convolutions", table 1 and figure 3, without the auxiliary classifiers.

Layer names follow table 1 and the Caffe model: inception_4a.3x3_reduce is the 1x1 convolution in front of the 3x3 one.
`googlenet-v1` is the paper's: biases, local response normalisation, 5x5 convolutions. `googlenet` is the net that
torchvision trained: batch normalisation, no biases, and 3x3 convolutions in the places called 5x5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnncli.arch.blocks import INPUT, Chain, Concatenate, Graph, Part
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, LocalResponseNorm

PAPER = "Szegedy et al. 2014, Going deeper with convolutions"

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj of each inception module; pooling stands between 3, 4 and 5.
TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}

Named = tuple[str, Part]
Unit = Callable[..., Iterator[Named]]  # (name, filters, kernel, stride=1) -> a convolution and what always follows it

RELU = Activation("relu")
NORM = LocalResponseNorm()
TORCHVISION_NORM = BatchNorm(eps=1e-3)
HALVE = Pool("max", kernel=3, stride=2, ceil=True)  # 112 to 56: table 1's sizes need rounding up
KEEP = Pool("max", kernel=3, stride=1, padding=1)


def googlenet_v1(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "googlenet-v1") -> Net:
    """Table 1; the places of the two normalisations are figure 3's."""
    unit = _conv_relu
    parts: list[Named] = [
        *unit("conv1", 64, 7, stride=2),
        ("pool1", HALVE),
        ("norm1", NORM),
        *unit("conv2_reduce", 64, 1),
        *unit("conv2", 192, 3),
        ("norm2", NORM),
        ("pool2", HALVE),
        *_inceptions("3", unit, five=5),
        ("pool3", HALVE),
        *_inceptions("4", unit, five=5),
        ("pool4", HALVE),
        *_inceptions("5", unit, five=5),
        ("pool5", Pool("average", kernel=7, stride=1)),
        ("drop", Dropout(0.4)),
        ("flatten", Flatten()),
        ("fc", Linear(classes)),
    ]
    return Net(name, Chain(tuple(parts)), input, classes, PAPER)


def googlenet(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "googlenet") -> Net:
    """As torchvision trained it; its pool4 is 2x2 and its dropout 0.2."""
    unit = _conv_norm_relu
    parts: list[Named] = [
        *unit("conv1", 64, 7, stride=2),
        ("pool1", HALVE),
        *unit("conv2_reduce", 64, 1),
        *unit("conv2", 192, 3),
        ("pool2", HALVE),
        *_inceptions("3", unit, five=3),
        ("pool3", HALVE),
        *_inceptions("4", unit, five=3),
        ("pool4", Pool("max", kernel=2, ceil=True)),
        *_inceptions("5", unit, five=3),
        ("pool5", AdaptivePool("average")),
        ("flatten", Flatten()),
        ("drop", Dropout(0.2)),
        ("fc", Linear(classes)),
    ]
    return Net(name, Chain(tuple(parts)), input, classes, f"{PAPER}, as in torchvision")


def _conv_relu(name: str, filters: int, kernel: int, stride: int = 1) -> Iterator[Named]:
    yield name, Conv(filters, kernel=kernel, stride=stride, padding=kernel // 2)
    yield f"relu_{name}", RELU


def _conv_norm_relu(name: str, filters: int, kernel: int, stride: int = 1) -> Iterator[Named]:
    yield name, Conv(filters, kernel=kernel, stride=stride, padding=kernel // 2, bias=False)
    yield f"bn_{name}", TORCHVISION_NORM
    yield f"relu_{name}", RELU


def _inceptions(stage: str, unit: Unit, *, five: int) -> Iterator[Named]:
    """The modules of one stage of table 1, in order."""
    return ((f"inception_{label}", _inception(row, unit, five)) for label, row in TABLE_1.items() if label.startswith(stage))


def _inception(row: tuple[int, int, int, int, int, int], unit: Unit, five: int) -> Graph:
    """Figure 2b: four branches that read the same input, concatenated; `five` is the kernel in the place that the paper calls 5x5."""
    one, three_reduce, three, five_reduce, five_filters, proj = row
    branches: tuple[tuple[Named, ...], ...] = (
        (*unit("1x1", one, 1),),
        (*unit("3x3_reduce", three_reduce, 1), *unit("3x3", three, 3)),
        (*unit("5x5_reduce", five_reduce, 1), *unit("5x5", five_filters, five)),
        (("pool", KEEP), *unit("pool_proj", proj, 1)),
    )
    nodes: list[tuple[str, Part, tuple[str, ...]]] = []
    for branch in branches:
        before = INPUT
        for name, part in branch:
            nodes.append((name, part, (before,)))
            before = name
    nodes.append(("concat", Concatenate(), tuple(branch[-1][0] for branch in branches)))
    return Graph(tuple(nodes))
