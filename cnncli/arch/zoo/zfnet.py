"""ZFNet, Zeiler & Fergus 2013, "Visualizing and understanding convolutional networks", figure 3.

AlexNet after they had looked inside it: a first layer of 7x7 filters with stride 2. The sizes are the figure's: 110, 55,
26, 13, 13, 13, 13, 6. It says nothing of padding and rounding; a padding of 1 in conv1, none in conv2, and poolings that
round up give exactly these sizes. Layers 1 and 2 are pooled first and normalised across channels afterwards, as the
figure's caption has it; the constants are AlexNet's.
"""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, Dropout, LocalResponseNorm

PAPER = "Zeiler & Fergus 2013, Visualizing and understanding convolutional networks"


def zfnet(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "zfnet") -> Net:
    """Figure 3 from left to right; layers are named as in `alexnet`, whose variant it is."""
    root = chain(
        conv1=Conv(96, kernel=7, stride=2, padding=1),
        relu1=Activation("relu"),
        pool1=Pool("max", kernel=3, stride=2, ceil=True),
        norm1=LocalResponseNorm(),
        conv2=Conv(256, kernel=5, stride=2),
        relu2=Activation("relu"),
        pool2=Pool("max", kernel=3, stride=2, ceil=True),
        norm2=LocalResponseNorm(),
        conv3=Conv(384, kernel=3, padding=1),
        relu3=Activation("relu"),
        conv4=Conv(384, kernel=3, padding=1),
        relu4=Activation("relu"),
        conv5=Conv(256, kernel=3, padding=1),
        relu5=Activation("relu"),
        pool3=Pool("max", kernel=3, stride=2, ceil=True),
        flatten=Flatten(),
        fc6=Linear(4096),
        relu6=Activation("relu"),
        drop6=Dropout(0.5),
        fc7=Linear(4096),
        relu7=Activation("relu"),
        drop7=Dropout(0.5),
        fc8=Linear(classes),
    )
    return Net(name, root, input, classes, PAPER)
