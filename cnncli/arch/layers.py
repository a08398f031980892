"""The layers. Each states, side by side, what the lecture's summary slide says of a layer: the size of its output,
its number of weights, its cost, the window it looks through, and how it is built in torch.

Shapes are channels x height x width, `(C, H, W)`, or `(features,)` after `Flatten`; the batch is left out.
Costs are multiply-adds (MACs) of convolutions and fully connected layers for one image, without biases.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import gcd, prod
from typing import TYPE_CHECKING, ClassVar

from cnncli.arch.checks import check_choice, check_flag, check_number, check_size
from cnncli.arch.window import Window
from cnncli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
Pair = int | tuple[int, int]


class ShapeError(UsageError):
    """A layer that cannot take its input. `too_small` when a larger input would do."""

    def __init__(self, message: str, hint: str = "", *, too_small: bool = False) -> None:
        super().__init__(message, hint)
        self.too_small = too_small


def pair(value: Pair) -> tuple[int, int]:
    """(height, width) of a number that stands for both, or of a pair."""
    return (value, value) if isinstance(value, int) else value


def size_text(value: Pair) -> str:
    """`3x3` for 3, `1x7` for (1, 7): height x width."""
    return "x".join(str(v) for v in pair(value))


def short_size(value: Pair) -> str:
    """`3` where height and width agree, else `1x7`."""
    height, width = pair(value)
    return str(height) if height == width else f"{height}x{width}"


def stride_and_padding(stride: Pair, padding: Pair) -> str:
    """`, /2, pad 1`; what is at its default (stride 1, no padding) is left out."""
    text = f", /{short_size(stride)}" if pair(stride) != (1, 1) else ""
    return text + (f", pad {short_size(padding)}" if pair(padding) != (0, 0) else "")


def _image(layer: str, shape: Shape) -> tuple[int, int, int]:
    """The shape as (C, H, W), or an error for a layer that slides over an image."""
    if len(shape) != 3:
        raise ShapeError(f"{layer} needs an image, channels x height x width, but its input is a vector of {shape[0]}")
    return shape[0], shape[1], shape[2]


def _slide(layer: str, windows: tuple[Window, Window], height: int, width: int) -> tuple[int, int]:
    """The output size (H, W) of windows that slide over an image, or an error that shows the arithmetic."""
    for window, n, axis in zip(windows, (height, width), ("height", "width"), strict=True):
        if window.size(n) < 1:
            dilated = f", D={window.dilation}" if window.dilation > 1 else ""
            raise ShapeError(
                f"{layer} does not fit its input's {axis}: N={n}, F={window.kernel}, P={window.padding}, S={window.stride}{dilated}"
                f" give ({n} - {window.span} + 2*{window.padding})/{window.stride} + 1 < 1",
                too_small=True,
            )
    return windows[0].size(height), windows[1].size(width)


class Layer:
    """What every layer answers. A layer has one input; `Merge` is the kind with several."""

    # True where the output is a view of the input or overwrites it, so that it needs no memory of its own.
    shares_memory: ClassVar[bool] = False

    def output(self, shape: Shape) -> Shape:
        """The output shape for an input of `shape`; ShapeError when it does not fit."""
        return shape

    def params(self, shape: Shape) -> int:
        """Learnable numbers."""
        return 0

    def macs(self, shape: Shape) -> int:
        """Multiply-adds for one image."""
        return 0

    def windows(self, shape: Shape) -> tuple[Window, Window] | None:
        """The windows (height, width) that a unit looks through; None when it looks at single units."""
        return None

    def strides(self, shape: Shape) -> tuple[float, float] | None:
        """Mean distance between windows (height, width) where it is no whole number, else None."""
        return None

    def operation(self) -> str:
        """What it does, in the words of a table cell."""
        raise NotImplementedError

    def build(self, shape: Shape) -> nn.Module:
        """The torch module for an input of `shape`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Conv(Layer):
    """2-D convolution: F x F x C/groups weights for each of `filters` filters, and one bias each."""

    filters: int
    _: KW_ONLY
    kernel: Pair
    stride: Pair = 1
    padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("filters", "groups"):
            check_number("conv", name, getattr(self, name), least=1)
        for name in ("kernel", "stride", "dilation"):
            check_size("conv", name, getattr(self, name), least=1)
        check_size("conv", "padding", self.padding, least=0)
        check_flag("conv", "bias", self.bias)
        if self.filters % self.groups:
            raise UsageError(f"conv: {self.filters} filters cannot be divided into {self.groups} groups")

    def windows(self, shape: Shape) -> tuple[Window, Window]:
        axes = zip(pair(self.kernel), pair(self.stride), pair(self.padding), pair(self.dilation), strict=True)
        height, width = (Window(f, s, p, d) for f, s, p, d in axes)
        return height, width

    def output(self, shape: Shape) -> Shape:
        channels, height, width = _image(self.operation(), shape)
        if channels % self.groups:
            raise ShapeError(f"{self.operation()} cannot divide {channels} input channels into {self.groups} groups")
        return (self.filters, *_slide(self.operation(), self.windows(shape), height, width))

    def _weights(self, shape: Shape) -> int:
        return self.filters * (shape[0] // self.groups) * prod(pair(self.kernel))

    def params(self, shape: Shape) -> int:
        return self._weights(shape) + (self.filters if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output(shape)
        return self._weights(shape) * height * width

    def operation(self) -> str:
        text = f"conv {size_text(self.kernel)}, {self.filters}" + stride_and_padding(self.stride, self.padding)
        text += f", dilation {short_size(self.dilation)}" if pair(self.dilation) != (1, 1) else ""
        return text + (f", groups {self.groups}" if self.groups > 1 else "")

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Conv2d(
            shape[0],
            self.filters,
            pair(self.kernel),
            stride=pair(self.stride),
            padding=pair(self.padding),
            dilation=pair(self.dilation),
            groups=self.groups,
            bias=self.bias,
        )


@dataclass(frozen=True)
class Pool(Layer):
    """Max or average pooling. Without `stride` the windows do not overlap."""

    kind: str
    _: KW_ONLY
    kernel: Pair
    stride: Pair | None = None
    padding: Pair = 0
    ceil: bool = False
    count_padding: bool = True  # average: whether padded zeros count in the denominator

    def __post_init__(self) -> None:
        check_choice("pool", "kind", self.kind, ("max", "average"))
        check_size("pool", "kernel", self.kernel, least=1)
        check_size("pool", "stride", self._stride(), least=1)
        check_size("pool", "padding", self.padding, least=0)
        check_flag("pool", "ceil", self.ceil)
        check_flag("pool", "count_padding", self.count_padding)
        if any(2 * p > f for p, f in zip(pair(self.padding), pair(self.kernel), strict=True)):
            raise UsageError(f"pool: padding {self.padding} is more than half of the kernel {self.kernel}")

    def _stride(self) -> Pair:
        return self.kernel if self.stride is None else self.stride

    def windows(self, shape: Shape) -> tuple[Window, Window]:
        axes = zip(pair(self.kernel), pair(self._stride()), pair(self.padding), strict=True)
        height, width = (Window(f, s, p, ceil=self.ceil) for f, s, p in axes)
        return height, width

    def output(self, shape: Shape) -> Shape:
        channels, height, width = _image(self.operation(), shape)
        return (channels, *_slide(self.operation(), self.windows(shape), height, width))

    def operation(self) -> str:
        text = f"{self.kind} pool {size_text(self.kernel)}" + stride_and_padding(self._stride(), self.padding)
        return text + (", ceil" if self.ceil else "")

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        kernel, stride, padding = pair(self.kernel), pair(self._stride()), pair(self.padding)
        if self.kind == "max":
            return nn.MaxPool2d(kernel, stride, padding, ceil_mode=self.ceil)
        return nn.AvgPool2d(kernel, stride, padding, ceil_mode=self.ceil, count_include_pad=self.count_padding)


@dataclass(frozen=True)
class AdaptivePool(Layer):
    """Max or average pooling to a fixed output size, whatever the input; size 1 is global pooling.

    Output i covers the input from floor(i N / size) to ceil((i + 1) N / size), as in torch.
    """

    kind: str = "average"
    _: KW_ONLY
    size: Pair = 1

    def __post_init__(self) -> None:
        check_choice("adaptive pool", "kind", self.kind, ("max", "average"))
        check_size("adaptive pool", "size", self.size, least=1)

    def windows(self, shape: Shape) -> tuple[Window, Window]:
        def window(n: int, size: int) -> Window:
            # Starts lie i n mod size = 0, g, 2g, ... behind a whole pixel, g = gcd(n, size), and the largest reaches furthest.
            rest, common = n % size, gcd(n, size)
            widest = n // size + (0 if rest == 0 else 1 if rest == common else 2)
            return Window(widest, max(1, n // size))

        height, width = (window(n, size) for n, size in zip(shape[1:], pair(self.size), strict=True))
        return height, width

    def strides(self, shape: Shape) -> tuple[float, float] | None:
        if not any(n % size for n, size in zip(shape[1:], pair(self.size), strict=True)):
            return None
        return shape[1] / pair(self.size)[0], shape[2] / pair(self.size)[1]

    def output(self, shape: Shape) -> Shape:
        channels, _, _ = _image(self.operation(), shape)
        return (channels, *pair(self.size))

    def operation(self) -> str:
        return f"global {self.kind} pool" if pair(self.size) == (1, 1) else f"{self.kind} pool to {size_text(self.size)}"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.AdaptiveMaxPool2d(pair(self.size)) if self.kind == "max" else nn.AdaptiveAvgPool2d(pair(self.size))


@dataclass(frozen=True)
class Linear(Layer):
    """Fully connected layer on a vector; its number of inputs follows from the layer before it."""

    features: int
    _: KW_ONLY
    bias: bool = True

    def __post_init__(self) -> None:
        check_number("fully connected", "features", self.features, least=1)
        check_flag("fully connected", "bias", self.bias)

    def output(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ShapeError(f"{self.operation()} needs a vector, but its input is {'x'.join(map(str, shape))}", "put a Flatten before it")
        return (self.features,)

    def params(self, shape: Shape) -> int:
        return self.macs(shape) + (self.features if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        return shape[0] * self.features

    def operation(self) -> str:
        return f"fully connected, {self.features}"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Linear(shape[0], self.features, bias=self.bias)


@dataclass(frozen=True)
class Flatten(Layer):
    """Stretches an image into a vector. A unit of the vector's readers sees the whole image, hence the windows."""

    shares_memory: ClassVar[bool] = True

    def output(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def windows(self, shape: Shape) -> tuple[Window, Window] | None:
        return (Window(shape[1]), Window(shape[2])) if len(shape) == 3 else None

    def operation(self) -> str:
        return "flatten"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Flatten()


@dataclass(frozen=True)
class SubsamplePad(Layer):
    """The parameter-free shortcut, option A of He et al. 2015: every `stride`-th pixel, new channels filled with zeros."""

    filters: int
    _: KW_ONLY
    stride: int = 1

    def __post_init__(self) -> None:
        check_number("subsample and pad", "filters", self.filters, least=1)
        check_number("subsample and pad", "stride", self.stride, least=1)

    def windows(self, shape: Shape) -> tuple[Window, Window]:
        return Window(1, self.stride), Window(1, self.stride)

    def output(self, shape: Shape) -> Shape:
        channels, height, width = _image(self.operation(), shape)
        if channels > self.filters:
            raise ShapeError(f"{self.operation()} cannot go from {channels} channels to fewer")
        return (self.filters, *_slide(self.operation(), self.windows(shape), height, width))

    def operation(self) -> str:
        return f"subsample /{self.stride}, zero-pad to {self.filters}"

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        # A 1x1 average pooling with a stride is the slice [::stride]; ZeroPad3d takes (N, C, H, W) for one volume and pads C.
        return nn.Sequential(nn.AvgPool2d(1, self.stride), nn.ZeroPad3d((0, 0, 0, 0, 0, self.filters - shape[0])))
