"""(N - F + 2P)/S + 1: the lecture's examples, and brute force over every small case."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
import torch
from published import FITS
from torch.nn import functional as F

from cnncli.arch.window import Window

SMALL = [Window(f, s, p, d) for f, s, p, d in product(range(1, 6), range(1, 6), range(4), range(1, 4))]


def visited(window: Window, n: int) -> list[int]:
    """Starts of the windows that lie within the padded input, counted one by one (-P is its first pixel)."""
    starts, start = [], -window.padding
    while start + window.span <= n + window.padding:
        starts.append(start)
        start += window.stride
    return starts


@pytest.mark.parametrize(("n", "f", "s", "p", "text"), FITS)
def test_the_lecture_s_table(n: int, f: int, s: int, p: int, text: str) -> None:
    window, exact = Window(f, s, p), Fraction(text)
    assert window.exact(n) == exact
    assert window.fits(n) == (exact.denominator == 1)
    assert window.size(n) == int(exact)  # floored
    assert (window.remainder(n) == 0) == window.fits(n)


def test_alexnet_s_224_is_the_lecture_s_55_25() -> None:
    assert float(Window(11, 4, 2).exact(224)) == 55.25
    assert Window(11, 4, 2).size(224) == 55
    assert Window(11, 4, 2).remainder(224) == 1
    assert Window(11, 4, 2).nearest_inputs(224) == (223, 227)


def test_size_fit_and_remainder_against_counting() -> None:
    for window in SMALL:
        for n in range(1, 20):
            starts = visited(window, n)
            size = window.size(n)
            assert max(size, 0) == len(starts), (window, n)
            unseen = n + window.padding - (starts[-1] + window.span) if starts else n + 2 * window.padding
            assert window.remainder(n) == unseen, (window, n)
            assert window.fits(n) == (bool(starts) and unseen == 0), (window, n)
            assert window.fits(n) == (window.exact(n).denominator == 1 and window.exact(n) >= 1)


def test_span_is_what_a_dilated_kernel_covers() -> None:
    for f, d in product(range(1, 6), range(1, 5)):
        touched = [i * d for i in range(f)]
        assert Window(f, dilation=d).span == touched[-1] - touched[0] + 1


def test_nearest_inputs_against_brute_force() -> None:
    for window in SMALL:
        fitting = [m for m in range(1, 60) if visited(window, m) and window.remainder(m) == 0]
        for n in range(1, 25):
            below = [m for m in fitting if m < n][-1:]
            above = [m for m in fitting if m > n][:1]
            want = [n] if n in fitting else below + above
            assert list(window.nearest_inputs(n)) == want, (window, n)


def nearest(fitting: list[int], own: int) -> list[int]:
    """Out of the values that fit: `own`, or else the nearest below and above it."""
    return [own] if own in fitting else [m for m in fitting if m < own][-1:] + [m for m in fitting if m > own][:1]


def fits_by_counting(window: Window, n: int) -> bool:
    """Whether the last of the windows, counted one by one, ends with the padded input."""
    starts = visited(window, n)
    return bool(starts) and starts[-1] + window.span == n + window.padding


def test_nearest_strides_against_brute_force() -> None:
    for window, n in product(SMALL, range(1, 25)):
        tried = {*range(1, window.span + 1), *range(1, window.stride + 1)}
        fitting = [s for s in sorted(tried) if fits_by_counting(window._replace(stride=s), n)]
        assert list(window.nearest_strides(n)) == nearest(fitting, window.stride), (window, n)


def test_nearest_paddings_against_brute_force() -> None:
    for plain, n, padding in product(SMALL[::4], range(1, 25), range(18)):  # 18: beyond every span
        window = plain._replace(padding=padding)
        fitting = [p for p in range(window.span) if fits_by_counting(window._replace(padding=p), n)]
        own = [padding] if fits_by_counting(window, n) and padding not in fitting else []
        assert list(window.nearest_paddings(n)) == nearest(fitting + own, padding), (window, n)


def test_nearest_strides_and_paddings_of_the_lecture() -> None:
    assert Window(3, 3).nearest_strides(7) == (2,)  # 4 = 7 - 3 is divided by 1, 2 and 4; 4 would leave gaps
    assert Window(3, 3).nearest_paddings(7) == (1,)  # (7 - 3 + 2)/3 + 1 = 3
    assert Window(11, 4, 2).nearest_strides(224) == (1, 7)  # 217 = 7 * 31
    assert Window(11, 4, 2).nearest_paddings(224) == ()  # 213 + 2P is odd
    assert Window(3, 2).nearest_strides(2) == ()  # the window is larger than the input
    assert Window(3, 2).nearest_paddings(2) == ()
    assert Window(3, 1).nearest_paddings(2) == (1,)


def test_smallest_against_brute_force() -> None:
    for plain in SMALL:
        for window in (plain, plain._replace(ceil=True)):
            assert window.smallest() == next(n for n in range(1, 60) if window.size(n) >= 1), window
            assert list(window.nearest_inputs(3)) == list(plain.nearest_inputs(3))  # an exact fit needs no rounding


def test_ceil_rule_against_torch() -> None:
    for f, s, n in product(range(1, 6), range(1, 7), range(1, 14)):
        for p in range(f // 2 + 1):
            window = Window(f, s, p, ceil=True)
            try:
                want = F.max_pool1d(torch.zeros(1, 1, n), f, s, p, ceil_mode=True).shape[-1]
            except RuntimeError:
                want = 0
            assert max(0, window.size(n)) == want, (window, n)
            assert window.size(n) >= window._replace(ceil=False).size(n)


def test_ceil_leaves_no_pixel_unseen_but_padding() -> None:
    for f, s, n in product(range(1, 6), range(1, 7), range(1, 14)):
        window = Window(f, s, 0, ceil=True)
        last = (window.size(n) - 1) * s + f
        # pixels between windows (stride beyond kernel) are never counted: only what lies behind the last window is
        assert window.remainder(n) == (max(0, n - last) if window.size(n) >= 1 else n)
        if f >= s and window.size(n) >= 1:
            assert window.remainder(n) == 0
