"""SqueezeNet 1.1, Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", table 1.

Version 1.1 is the authors' own revision, published with their Caffe models: a 3x3 conv1 of 64 filters where the paper has
7x7 and 96, and earlier poolings, which leave 2.4 times less work at the same accuracy. Layer names are theirs, too.
"""

from __future__ import annotations

from cnncli.arch.blocks import INPUT, Chain, Concatenate, Graph, Part
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, Dropout

PAPER = "Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, version 1.1"

# Table 1's columns s1x1, e1x1 and e3x3 for each fire module, and the poolings of version 1.1.
LAYERS: tuple[tuple[str, tuple[int, int, int] | None], ...] = (
    ("pool1", None),
    ("fire2", (16, 64, 64)),
    ("fire3", (16, 64, 64)),
    ("pool3", None),
    ("fire4", (32, 128, 128)),
    ("fire5", (32, 128, 128)),
    ("pool5", None),
    ("fire6", (48, 192, 192)),
    ("fire7", (48, 192, 192)),
    ("fire8", (64, 256, 256)),
    ("fire9", (64, 256, 256)),
)

RELU = Activation("relu")
HALVE = Pool("max", kernel=3, stride=2, ceil=True)


def squeezenet1_1(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "squeezenet1_1") -> Net:
    """There is no fully connected layer: conv10 gives a map of scores for each class, and their mean is its score."""
    parts: list[tuple[str, Part]] = [("conv1", Conv(64, kernel=3, stride=2)), ("relu_conv1", RELU)]
    parts += [(label, HALVE if row is None else _fire(*row)) for label, row in LAYERS]
    parts += [
        ("drop9", Dropout(0.5)),
        ("conv10", Conv(classes, kernel=1)),
        ("relu_conv10", RELU),
        ("pool10", AdaptivePool("average")),
        ("flatten", Flatten()),
    ]
    return Net(name, Chain(tuple(parts)), input, classes, PAPER)


def _fire(squeeze: int, expand_1x1: int, expand_3x3: int) -> Graph:
    """Figure 1: a 1x1 convolution to few channels, which a 1x1 and a 3x3 one read."""
    return Graph(
        (
            ("squeeze1x1", Conv(squeeze, kernel=1), (INPUT,)),
            ("relu_squeeze1x1", RELU, ("squeeze1x1",)),
            ("expand1x1", Conv(expand_1x1, kernel=1), ("relu_squeeze1x1",)),
            ("relu_expand1x1", RELU, ("expand1x1",)),
            ("expand3x3", Conv(expand_3x3, kernel=3, padding=1), ("relu_squeeze1x1",)),
            ("relu_expand3x3", RELU, ("expand3x3",)),
            ("concat", Concatenate(), ("relu_expand1x1", "relu_expand3x3")),
        )
    )
