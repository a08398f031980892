"""Layers that keep the shape: normalisation, activation functions, dropout of units and of branches."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from cnncli.arch.checks import check_choice, check_flag, check_fraction, check_number
from cnncli.arch.layers import Layer, Shape, ShapeError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation with a learned scale and shift per channel (Ioffe & Szegedy 2015)."""

    _: KW_ONLY
    eps: float = 1e-5
    momentum: float = 0.1  # torch's sense: the weight of the new batch in the running statistics
    affine: bool = True

    def __post_init__(self) -> None:
        check_fraction("batch norm", "eps", self.eps, least=0, most=1)
        check_fraction("batch norm", "momentum", self.momentum, least=0, most=1)
        check_flag("batch norm", "affine", self.affine)

    def params(self, shape: Shape) -> int:
        return 2 * shape[0] if self.affine else 0

    def operation(self) -> str:
        return "batch norm"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        return kind(shape[0], eps=self.eps, momentum=self.momentum, affine=self.affine)


@dataclass(frozen=True)
class LocalResponseNorm(Layer):
    """b = a / (k + alpha * sum of a^2 over `size` neighbouring channels)^beta (Krizhevsky et al. 2012, section 3.3).

    torch divides alpha by `size`; here it is the paper's, and `build` converts.
    """

    _: KW_ONLY
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __post_init__(self) -> None:
        check_number("local response norm", "size", self.size, least=1)
        for name in ("alpha", "beta", "k"):
            check_fraction("local response norm", name, getattr(self, name), least=0, most=1000)

    def output(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise ShapeError(f"{self.operation()} needs an image, but its input is a vector of {shape[0]}")
        return shape

    def operation(self) -> str:
        return f"local response norm {self.size}"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.LocalResponseNorm(self.size, alpha=self.alpha * self.size, beta=self.beta, k=self.k)


# name -> (torch module, its arguments). In-place variants are chosen where a net is assembled.
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "leaky-relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "elu": ("ELU", {}),
    "gelu": ("GELU", {}),
    "silu": ("SiLU", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
}


@dataclass(frozen=True)
class Activation(Layer):
    """An activation function on every unit: relu, tanh, sigmoid, ..."""

    kind: str = "relu"
    shares_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("activation", "kind", self.kind, tuple(ACTIVATIONS))

    def operation(self) -> str:
        return self.kind

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        name, arguments = ACTIVATIONS[self.kind]
        module: nn.Module = getattr(nn, name)(**arguments)
        return module


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets each unit to 0 with probability `p` while training (Srivastava et al. 2014)."""

    p: float = 0.5
    shares_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("dropout", "p", self.p, least=0, most=1)

    def operation(self) -> str:
        return f"dropout {self.p:g}"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Dropout(self.p)


@dataclass(frozen=True)
class DropPath(Layer):
    """Stochastic depth: while training, each image loses this branch with probability `rate` (Huang et al. 2016, section 3).

    H = ReLU(b f(x) + x) with b from a Bernoulli distribution of mean 1 - rate (equation 2). The paper draws one b for a batch and
    multiplies by 1 - rate at test time (equation 5). Here every image has its own b, and what is kept is divided by 1 - rate while
    training: the expectation is the same, and at use the layer does nothing. A rate of 1 gives zeros.
    """

    rate: float
    shares_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction("drop path", "rate", self.rate, least=0, most=1)

    def operation(self) -> str:
        return f"drop path {self.rate:g}"

    def build(self, shape: Shape) -> nn.Module:
        return _drop_path(self.rate)


def _drop_path(rate: float) -> nn.Module:
    return _drop_path_module()(rate)


@cache
def _drop_path_module() -> type[nn.Module]:
    """The module's class. It is made when a net is built, since torch is not imported before."""
    import torch
    from torch.nn import functional
    from torch.nn.modules.dropout import _DropoutNd  # which checks the rate, and by which a traced model knows dropout

    class DropPath(_DropoutNd):
        """(N, ...) to the same shape: each of the N is set to 0 with probability p or divided by 1 - p, when in training."""

        def forward(self, branch: torch.Tensor) -> torch.Tensor:
            if not self.training or self.p == 0:
                return branch
            return branch * functional.dropout(branch.new_ones(len(branch), *(1,) * (branch.dim() - 1)), self.p)

        def __reduce__(self) -> tuple[object, ...]:
            """Copies and pickles name the function that makes it: nobody can import a class that stands in a function."""
            return _drop_path, (self.p,), self.__dict__

    return DropPath
