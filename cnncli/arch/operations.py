"""The operations of cells: what an architecture search chooses between, as parts.

An operation stands in a cell on a state of so many channels, has so many filters, and halves the image at stride 2. What
its name leaves open (how a skip halves an image, for one) is up to the `Conventions` of the code that a paper published.
Equal arguments give the same object, so that a net of equal cells is built and walked once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

from cnncli.arch.blocks import Chain, Concat, Part, chain
from cnncli.arch.layers import Conv, Pool
from cnncli.arch.pointwise import Activation, BatchNorm
from cnncli.arch.shift import Shift

RELU = Activation("relu")
REMEMBERED = 1024  # parts that are kept for reuse: some nets' worth, and a bound for a search over thousands


@dataclass(frozen=True)
class Conventions:
    """What a genotype leaves open.

    factorized_skip: a skip that halves the image is a factorized reduction; else a 1x1 convolution with stride 2.
    raw_start: the first cell's `before` is the stem as it is; else it is projected to the cell's filters, as everywhere.
    final_relu: a ReLU before the global pooling. eps: of batch normalisation.
    """

    factorized_skip: bool
    raw_start: bool
    final_relu: bool
    eps: float = 1e-5


@lru_cache(REMEMBERED)
def batch_norm(conventions: Conventions) -> BatchNorm:
    """Batch normalisation with the conventions' eps."""
    return BatchNorm(eps=conventions.eps)


@lru_cache(REMEMBERED)
def projection(filters: int, stride: int, conventions: Conventions) -> Chain:
    """ReLU, 1x1 convolution, batch normalisation."""
    return chain(relu=RELU, conv=Conv(filters, kernel=1, stride=stride, bias=False), bn=batch_norm(conventions))


@lru_cache(REMEMBERED)
def factorized_reduction(filters: int, conventions: Conventions) -> Chain:
    """Halves the image and drops no pixel: half of the filters see those at even places, half those one down and right of them."""
    even = Conv(filters // 2, kernel=1, stride=2, bias=False)
    odd = chain(shift=Shift(), conv=Conv(filters - filters // 2, kernel=1, stride=2, bias=False))
    return chain(relu=RELU, pixels=Concat((("even", even), ("odd", odd))), bn=batch_norm(conventions))


@lru_cache(REMEMBERED)
def fit(filters: int, stride: int, conventions: Conventions) -> Chain:
    """An input that a cell concatenates as it is, brought to the size of the cell's nodes: without a ReLU."""
    with_relu = factorized_reduction(filters, conventions) if stride > 1 else projection(filters, 1, conventions)
    return Chain(with_relu.parts[1:])


@lru_cache(REMEMBERED)
def _separable(channels: int, filters: int, stride: int, conventions: Conventions, *, kernel: int, dilation: int = 1) -> Chain:
    """ReLU, depthwise and pointwise convolution, batch normalisation."""
    padding = dilation * (kernel // 2)
    depthwise = Conv(channels, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=channels, bias=False)
    return chain(relu=RELU, depthwise=depthwise, pointwise=Conv(filters, kernel=1, bias=False), bn=batch_norm(conventions))


def _skip(channels: int, filters: int, stride: int, conventions: Conventions) -> Part | None:
    if stride == 1 and channels == filters:
        return None
    if stride > 1 and conventions.factorized_skip:
        return factorized_reduction(filters, conventions)
    return projection(filters, stride, conventions)


def _separable_twice(channels: int, filters: int, stride: int, conventions: Conventions, *, kernel: int) -> Part:
    """A separable convolution is applied twice, and strides the first time (Zoph et al. 2017)."""
    first = _separable(channels, filters, stride, conventions, kernel=kernel)
    return chain(sep1=first, sep2=_separable(filters, filters, 1, conventions, kernel=kernel))


def _dilated(channels: int, filters: int, stride: int, conventions: Conventions, *, kernel: int) -> Part:
    return _separable(channels, filters, stride, conventions, kernel=kernel, dilation=2)


def _pool(channels: int, filters: int, stride: int, conventions: Conventions, *, kind: str) -> Part:
    pool = Pool(kind, kernel=3, stride=stride, padding=1, count_padding=False)
    if channels == filters:
        return pool
    return chain(pool=pool, conv=Conv(filters, kernel=1, bias=False), bn=batch_norm(conventions))


def _row_and_column(_channels: int, filters: int, stride: int, conventions: Conventions) -> Part:
    """1x7, then 7x1, between 1x1 convolutions to a quarter of the filters and back (the code of Real et al. 2018)."""
    quarter = max(1, filters // 4)
    bn = batch_norm(conventions)
    return chain(
        relu1=RELU,
        squeeze=Conv(quarter, kernel=1, bias=False),
        bn1=bn,
        relu2=RELU,
        row=Conv(quarter, kernel=(1, 7), stride=(1, stride), padding=(0, 3), bias=False),
        bn2=bn,
        relu3=RELU,
        column=Conv(quarter, kernel=(7, 1), stride=(stride, 1), padding=(3, 0), bias=False),
        bn3=bn,
        relu4=RELU,
        expand=Conv(filters, kernel=1, bias=False),
        bn4=bn,
    )


# name: (channels of the state, filters, stride, conventions) -> the part, or None where the state is read as it is
OPERATIONS: dict[str, Callable[[int, int, int, Conventions], Part | None]] = {
    "skip": _skip,
    "avg3x3": partial(_pool, kind="average"),
    "max3x3": partial(_pool, kind="max"),
    **{f"sep{kernel}x{kernel}": partial(_separable_twice, kernel=kernel) for kernel in (3, 5, 7)},
    **{f"dil{kernel}x{kernel}": partial(_dilated, kernel=kernel) for kernel in (3, 5)},
    "conv1x7_7x1": _row_and_column,
}
