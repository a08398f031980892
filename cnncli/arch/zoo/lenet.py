"""LeNet-5, LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", section II.B.

Deviations, all usual today: C3 reads all of S2 (the paper's table I leaves out connections), S2 and S4 average without a
learned scale and bias and without their sigmoid, tanh is not stretched to 1.7159 tanh(2/3 x), and OUTPUT is fully connected
instead of Euclidean radial basis functions.
"""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation


def lenet5(*, input: tuple[int, int, int] = (1, 32, 32), classes: int = 10, name: str = "lenet5") -> Net:
    """Layer names are the paper's: C1, S2, C3, S4, C5, F6, OUTPUT."""
    root = chain(
        c1=Conv(6, kernel=5),
        tanh1=Activation("tanh"),
        s2=Pool("average", kernel=2),
        c3=Conv(16, kernel=5),
        tanh3=Activation("tanh"),
        s4=Pool("average", kernel=2),
        c5=Conv(120, kernel=5),
        tanh5=Activation("tanh"),
        flatten=Flatten(),
        f6=Linear(84),
        tanh6=Activation("tanh"),
        output=Linear(classes),
    )
    return Net(name, root, input, classes, "LeCun et al. 1998, Gradient-based learning applied to document recognition")
