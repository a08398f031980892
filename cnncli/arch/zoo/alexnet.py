"""AlexNet, Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks", section 3.5.

The lecture's reading of it: 227x227 input (the paper's 224 does not fit its own first layer), pooling layers numbered
pool1, pool2, pool3. The paper splits conv2, conv4 and conv5 over two GPUs; `alexnet` is one tower. `alexnet-owt` is the
narrower net of Krizhevsky's later paper, "One weird trick for parallelizing convolutional neural networks", as torchvision has it.
"""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, Dropout, LocalResponseNorm

PAPER = "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks"
PAPER_ONE_WEIRD_TRICK = "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, as in torchvision"


def alexnet(*, input: tuple[int, int, int] = (3, 227, 227), classes: int = 1000, name: str = "alexnet", towers: int = 1) -> Net:
    """One tower, or the paper's two, which exchange features only at conv3 and from fc6 on."""
    root = chain(
        conv1=Conv(96, kernel=11, stride=4),
        relu1=Activation("relu"),
        norm1=LocalResponseNorm(),
        pool1=Pool("max", kernel=3, stride=2),
        conv2=Conv(256, kernel=5, padding=2, groups=towers),
        relu2=Activation("relu"),
        norm2=LocalResponseNorm(),
        pool2=Pool("max", kernel=3, stride=2),
        conv3=Conv(384, kernel=3, padding=1),
        relu3=Activation("relu"),
        conv4=Conv(384, kernel=3, padding=1, groups=towers),
        relu4=Activation("relu"),
        conv5=Conv(256, kernel=3, padding=1, groups=towers),
        relu5=Activation("relu"),
        pool3=Pool("max", kernel=3, stride=2),
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


def alexnet_owt(*, input: tuple[int, int, int] = (3, 224, 224), classes: int = 1000, name: str = "alexnet-owt") -> Net:
    """One tower of 64, 192, 384, 256, 256 filters without normalisation.

    torchvision drops out what fc6 and fc7 read, the first net what they give; and it averages pool3 to 6x6, which changes
    nothing at 224x224 and is left out here.
    """
    root = chain(
        conv1=Conv(64, kernel=11, stride=4, padding=2),
        relu1=Activation("relu"),
        pool1=Pool("max", kernel=3, stride=2),
        conv2=Conv(192, kernel=5, padding=2),
        relu2=Activation("relu"),
        pool2=Pool("max", kernel=3, stride=2),
        conv3=Conv(384, kernel=3, padding=1),
        relu3=Activation("relu"),
        conv4=Conv(256, kernel=3, padding=1),
        relu4=Activation("relu"),
        conv5=Conv(256, kernel=3, padding=1),
        relu5=Activation("relu"),
        pool3=Pool("max", kernel=3, stride=2),
        flatten=Flatten(),
        drop5=Dropout(0.5),
        fc6=Linear(4096),
        relu6=Activation("relu"),
        drop6=Dropout(0.5),
        fc7=Linear(4096),
        relu7=Activation("relu"),
        fc8=Linear(classes),
    )
    return Net(name, root, input, classes, PAPER_ONE_WEIRD_TRICK)
