"""The lecture's multi-layer perceptron: the image stretched into a vector, one hidden layer."""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Flatten, Linear
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation


def mlp(*, input: tuple[int, int, int] = (3, 32, 32), classes: int = 10, name: str = "mlp", hidden: int = 100) -> Net:
    """CIFAR-10's 3072 numbers, `hidden` units, 10 classes, unless told otherwise.

    The lecture's case for convolutions, 200x200 grey pixels read by 40,000 hidden units: 1.6e9 weights in fc1 alone.
    """
    root = chain(flatten=Flatten(), fc1=Linear(hidden), relu1=Activation("relu"), fc2=Linear(classes))
    return Net(name, root, input, classes, "the lecture's two-layer network on stretched pixels")
