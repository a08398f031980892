"""MobileNetV2, Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2.

A bottleneck expands its input t-fold by a 1x1 convolution, filters each channel by itself (depthwise, 3x3), and projects
back without an activation (table 1). Its narrow ends are joined by a shortcut where their shapes agree.
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part, Residual
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout

PAPER = "Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks"

# Table 2: expansion t, channels c, blocks n, stride s of the first of them.
TABLE_2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FIRST, LAST = 32, 1280  # channels of the first and the last convolution

NORM = BatchNorm()
RELU6 = Activation("relu6")


def mobilenet_v2(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "mobilenet_v2") -> Net:
    """Table 2 from top to bottom; bottleneck3.block2 is the second block of its third row of bottlenecks."""
    parts: list[tuple[str, Part]] = [
        ("conv1", Conv(FIRST, kernel=3, stride=2, padding=1, bias=False)),
        ("bn1", NORM),
        ("relu1", RELU6),
    ]
    channels = FIRST
    for number, (expansion, filters, count, stride) in enumerate(TABLE_2, start=1):
        blocks: list[tuple[str, Part]] = [("block1", _bottleneck(channels, filters, expansion, stride))]
        if count > 1:  # the shapes agree, so these have a shortcut; one object for all
            repeated = Residual(_bottleneck(filters, filters, expansion, 1), then=None)
            blocks += [(f"block{i}", repeated) for i in range(2, count + 1)]
        parts.append((f"bottleneck{number}", Chain(tuple(blocks))))
        channels = filters
    parts += [
        ("conv2", Conv(LAST, kernel=1, bias=False)),
        ("bn2", NORM),
        ("relu2", RELU6),
        ("pool", AdaptivePool("average")),
        ("flatten", Flatten()),
        ("drop", Dropout(0.2)),
        ("fc", Linear(classes)),
    ]
    return Net(name, Chain(tuple(parts)), input, classes, PAPER)


def _bottleneck(channels: int, filters: int, expansion: int, stride: int) -> Chain:
    """Table 1; at expansion 1 there is nothing to expand."""
    wide = expansion * channels
    parts: list[tuple[str, Part]] = []
    if expansion > 1:
        parts += [("expand", Conv(wide, kernel=1, bias=False)), ("expand_bn", NORM), ("expand_relu", RELU6)]
    parts += [
        ("depthwise", Conv(wide, kernel=3, stride=stride, padding=1, groups=wide, bias=False)),
        ("depthwise_bn", NORM),
        ("depthwise_relu", RELU6),
        ("project", Conv(filters, kernel=1, bias=False)),
        ("project_bn", NORM),
    ]
    return Chain(tuple(parts))
