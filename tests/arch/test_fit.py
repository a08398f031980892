"""What does not fit, against a count of the pixels that windows touch."""

from __future__ import annotations

from random import Random

import pytest

from cnncli.arch.blocks import chain
from cnncli.arch.fit import Misfit, all_misfits, consequence, decimal, misfits, remedy, size_arithmetic
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net, walk
from cnncli.arch.window import Window
from cnncli.arch.zoo.table import build


def found_for(layer: Conv | Pool, side: tuple[int, int]) -> tuple[Misfit, ...]:
    (row,) = walk(Net("one", chain(layer=layer), (1, *side), 1))
    return misfits(row)


def counted(n: int, window: Window, size: int) -> tuple[int, int, int]:
    """(unseen image pixels at the end, unseen padding pixels at the end, overhang), by marking what each window covers."""
    covered = {place * window.stride - window.padding + reach for place in range(size) for reach in range(window.span)}
    last = max(covered)
    unseen = list(range(last + 1, n + window.padding))
    return sum(pixel < n for pixel in unseen), sum(pixel >= n for pixel in unseen), max(0, last - (n + window.padding - 1))


def test_the_lecture_s_example() -> None:
    (found,) = found_for(Conv(1, kernel=3, stride=3), (7, 7))
    assert size_arithmetic(found.n, found.window) == "(7 - 3 + 2*0)/3 + 1 = 2.33, rounded down to 2"
    assert (found.axis, found.size, found.dropped, found.unseen_padding, found.overhang) == ("height and width", 2, 1, 0, 0)
    assert found.strides == (2,)  # 4 would skip pixels between 3x3 windows
    assert found.paddings == (1,)
    assert found.inputs == (6, 9)
    assert consequence(found) == "the last pixel of height and width is never seen"
    assert remedy(found) == "fits with stride 2, or with pad 1, or with input 6 or 9"


def test_what_is_dropped_is_counted() -> None:
    rng = Random(0)
    seen = 0
    for _ in range(3000):
        kernel, stride, n = rng.randint(1, 6), rng.randint(1, 5), rng.randint(1, 20)
        padding = rng.randint(0, kernel // 2)
        layer = Pool("max", kernel=kernel, stride=stride, padding=padding, ceil=rng.random() < 0.5)
        window = layer.windows((1, n, n))[0]
        if window.size(n) < 1:
            continue
        dropped, unseen_padding, overhang = counted(n, window, window.size(n))
        for found in found_for(layer, (n, n)):
            seen += 1
            assert (found.dropped, found.unseen_padding, found.overhang) == (dropped, unseen_padding, overhang), (layer, n)
        if not found_for(layer, (n, n)):
            assert (dropped, unseen_padding, overhang) == (0, 0, 0)
    assert seen > 500


def test_every_remedy_fits() -> None:
    rng = Random(1)
    for _ in range(500):
        n = rng.randint(5, 60)
        window = Window(rng.randint(1, 5), rng.randint(2, 6), rng.randint(0, 2), rng.randint(1, 2))
        if window.size(n) < 1:
            continue
        layer = Conv(1, kernel=window.kernel, stride=window.stride, padding=window.padding, dilation=window.dilation)
        for found in found_for(layer, (n, n)):
            assert all(window._replace(stride=stride).fits(n) for stride in found.strides)
            assert all(window._replace(padding=padding).fits(n) for padding in found.paddings)
            assert all(window.fits(m) for m in found.inputs)
            assert window.stride not in found.strides
            assert window.padding not in found.paddings
            assert n not in found.inputs


def test_axes_are_told_apart() -> None:
    both = found_for(Conv(1, kernel=3, stride=2), (8, 9))
    assert [(found.axis, found.n) for found in both] == [("height", 8)]
    both = found_for(Conv(1, kernel=(3, 2), stride=(3, 4)), (8, 9))
    assert [found.axis for found in both] == ["height", "width"]


def test_padding_that_is_not_seen_is_no_lost_pixel() -> None:
    (found,) = misfits(next(row for row in walk(build("resnet20")) if "/2" in row.operation))
    assert (found.dropped, found.unseen_padding) == (0, 1)
    assert "none of the image" in consequence(found)


def test_a_ceil_pool_reaches_past_the_edge() -> None:
    (found,) = found_for(Pool("max", kernel=3, stride=2, ceil=True), (8, 8))
    assert found.overhang == 1
    assert consequence(found) == "the last window reaches 1 pixel past the edge"
    assert "rounded up to 4" in size_arithmetic(found.n, found.window)


def test_a_net_that_fits_has_none() -> None:
    assert all_misfits(walk(build("alexnet"))) == ()
    assert all_misfits(walk(build("vgg16"))) == ()


def test_equal_misfits_are_told_once() -> None:
    found = all_misfits(walk(build("alexnet", input=(3, 224, 224))))
    assert [one.names for one in found] == [("conv1",), ("pool1",), ("pool2",), ("pool3",)]
    net = Net("two", chain(a=Conv(1, kernel=2, stride=2, padding=0), b=Flatten(), c=Linear(2)), (1, 5, 5), 2)
    assert [one.names for one in all_misfits(walk(net))] == [("a",)]


@pytest.mark.parametrize(("number", "text"), [(7 / 3, "2.33"), (54.25, "54.25"), (112.5, "112.5"), (7.0, "7"), (10.0, "10")])
def test_decimals(number: float, text: str) -> None:
    assert decimal(number) == text
