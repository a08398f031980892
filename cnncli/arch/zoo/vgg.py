"""VGG, Simonyan & Zisserman 2014, "Very deep convolutional networks for large-scale image recognition", table 1.

Layer names follow the authors' Caffe models: conv3_2 is the second convolution of the third group, then pool3, ... fc6, fc7, fc8.
The variants with batch normalisation behind every convolution are torchvision's: the paper came before it.
"""

from __future__ import annotations

from cnncli.arch.blocks import Chain, Part
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, LocalResponseNorm

PAPER = "Simonyan & Zisserman 2014, Very deep convolutional networks for large-scale image recognition"

# Table 1, column by column, in the paper's own labels: conv<kernel>-<filters>.
TABLE_1 = {
    "A": """conv3-64 maxpool conv3-128 maxpool conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool""",
    "A-LRN": """conv3-64 LRN maxpool conv3-128 maxpool conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool""",
    "B": """conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool""",
    "C": """conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool conv3-256 conv3-256 conv1-256 maxpool
            conv3-512 conv3-512 conv1-512 maxpool conv3-512 conv3-512 conv1-512 maxpool""",
    "D": """conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool conv3-256 conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 conv3-512 maxpool conv3-512 conv3-512 conv3-512 maxpool""",
    "E": """conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool conv3-256 conv3-256 conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 conv3-512 conv3-512 maxpool conv3-512 conv3-512 conv3-512 conv3-512 maxpool""",
}
FULLY_CONNECTED = (("fc6", 4096), ("fc7", 4096))


def vgg(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str, column: str, batch_norm: bool = False) -> Net:
    """The net of one column of table 1, with batch normalisation in front of the ReLUs of its convolutions if asked."""
    parts = _features(TABLE_1[column].split(), batch_norm=batch_norm)
    parts.append(("flatten", Flatten()))
    for fc, features in FULLY_CONNECTED:
        parts += [(fc, Linear(features)), (f"relu{fc[2:]}", Activation("relu")), (f"drop{fc[2:]}", Dropout(0.5))]
    parts.append(("fc8", Linear(classes)))
    paper = f"{PAPER}, column {column}" + (", with batch norm as in torchvision" if batch_norm else "")
    return Net(name, Chain(tuple(parts)), input, classes, paper)


def _features(labels: list[str], *, batch_norm: bool) -> list[tuple[str, Part]]:
    parts: list[tuple[str, Part]] = []
    group, number = 1, 0
    for label in labels:
        if label == "maxpool":
            parts.append((f"pool{group}", Pool("max", kernel=2)))
            group, number = group + 1, 0
        elif label == "LRN":
            parts.append((f"norm{group}_{number}", LocalResponseNorm()))
        else:
            kernel, filters = label.removeprefix("conv").split("-")
            number += 1
            # The spatial size is preserved: pad 1 for 3x3 (section 2.1), none for 1x1.
            conv = Conv(int(filters), kernel=int(kernel), padding=int(kernel) // 2)
            parts.append((f"conv{group}_{number}", conv))
            if batch_norm:
                parts.append((f"bn{group}_{number}", BatchNorm()))
            parts.append((f"relu{group}_{number}", Activation("relu")))
    return parts
