"""Kernels and pooling over pictures: the same numbers as scipy, torch and the work by hand, and grey levels that tell the truth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch.nn import functional as F

from cnncli.arch.byhand import CORRELATION, convolution_windows, correlate, pool, pooling_window
from cnncli.arch.kernels import KERNELS
from cnncli.arch.matrix import Matrix, flip, parse_matrix, plain_matrix
from cnncli.data.filtering import filter_picture, pool_picture, show, way_for
from cnncli.errors import UsageError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (9, 11, 3), dtype=np.uint8)


def filtered(pixels: np.ndarray, applied: Matrix, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> np.ndarray:
    down, across = convolution_windows(applied, stride=stride, padding=padding, dilation=dilation)
    return filter_picture(pixels, applied, CORRELATION, down, across)


@pytest.mark.parametrize("name", KERNELS)
def test_named_kernels_against_scipy(name: str) -> None:
    kernel = KERNELS[name].matrix
    found = filtered(GREY, flip(kernel))
    assert np.allclose(found, convolve2d(GREY.astype(float), plain_matrix(kernel), mode="valid"), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", ["1 2; 3 4", "1 0 -1; 2 0 -2; 1 0 -1", "1 2 3 4", "7"])
def test_filter_against_torch(kernel: str, stride: int, padding: int, dilation: int) -> None:
    weights = parse_matrix(kernel, "kernel")
    found = filtered(COLOUR, weights, stride=stride, padding=padding, dilation=dilation)
    planes = torch.tensor(COLOUR, dtype=torch.float64).permute(2, 0, 1)[:, None]
    taps = torch.tensor(plain_matrix(weights), dtype=torch.float64)[None, None]
    want = F.conv2d(planes, taps, stride=stride, padding=padding, dilation=dilation)[:, 0].permute(1, 2, 0).numpy()
    assert found.dtype == np.float32
    assert np.array_equal(found, want)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (2, 3, 1), (4, 1, 2), (5, 4, 0)])
def test_pooling_against_torch(kernel: int, stride: int | None, padding: int, ceil: bool) -> None:
    window = pooling_window(kernel, stride, padding, ceil=ceil)
    planes = torch.tensor(COLOUR, dtype=torch.float64).permute(2, 0, 1)[None]
    for kind, twin in (("max", F.max_pool2d), ("average", F.avg_pool2d)):
        want = twin(planes, kernel, stride, padding, ceil_mode=ceil)[0].permute(1, 2, 0).numpy()
        assert np.allclose(pool_picture(COLOUR, kind, window, window), want, rtol=1e-6)


def test_pictures_and_hands_agree() -> None:
    image = tuple(tuple(int(n) for n in row) for row in GREY)
    kernel = KERNELS["gaussian3"].matrix
    assert plain_matrix(correlate(image, kernel, stride=2, padding=1).output) == filtered(GREY, kernel, stride=2, padding=1).tolist()
    window = pooling_window(3, 2, 1, ceil=True)
    by_hand = pool(image, "max", kernel=3, stride=2, padding=1, ceil=True).output
    assert plain_matrix(by_hand) == pool_picture(GREY, "max", window, window).tolist()


def test_what_is_too_much_or_too_large() -> None:
    with pytest.raises(UsageError, match="below 1"):
        filtered(GREY, ((1,) * 14,) * 14)
    with pytest.raises(UsageError, match="too many"):
        filtered(GREY, ((1, 1), (1, 1)), padding=10_000)
    black = np.zeros((4000, 4000), np.uint8)
    with pytest.raises(UsageError, match="too many"):
        filtered(black, ((1,) * 50,) * 50)


@pytest.mark.parametrize(
    ("kernel", "way"),
    [
        ("0 1 0; 1 -4 1; 0 1 0", "signed"),
        ("1 0 -1", "signed"),
        ("0 -1 0; -1 5 -1; 0 -1 0", "clip"),
        ("1/9 1/9 1/9; 1/9 1/9 1/9; 1/9 1/9 1/9", "clip"),
        ("0.5 0.25", "clip"),
        ("1 2; 3 4", "stretch"),
        ("-1", "stretch"),
        ("0 0", "clip"),
    ],
)
def test_the_way_of_showing_goes_by_the_sum(kernel: str, way: str) -> None:
    assert way_for(parse_matrix(kernel, "kernel")) == way


def levels(values: list[float], way: str) -> list[int]:
    return np.asarray(show(np.array([values], np.float32), way).picture)[0].tolist()


def test_clip() -> None:
    assert levels([0, 0.4, 0.6, 100, 255], "clip") == [0, 0, 1, 100, 255]
    assert show(np.array([[0, 255.4]], np.float32), "clip").way == "as they are"
    assert levels([-3, 7, 300, 255], "clip") == [0, 7, 255, 255]
    shown = show(np.array([[-3, 7, 300, 255]], np.float32), "clip")
    assert (shown.way, shown.least, shown.greatest, shown.cut) == ("clip", -3, 300, 0.5)


def test_signed() -> None:
    assert levels([-100, -50, 0, 50, 100], "signed") == [1, 64, 128, 192, 255]
    assert levels([0, 0, 0], "signed") == [128] * 3
    assert levels([-10, 0, 5], "signed") == [1, 128, 192], "0 stays in the middle where one side reaches further"
    values = np.zeros((100, 100), np.float32)
    values[:, :50] = 10
    values[0, 99] = 1000
    shown = show(values, "signed")
    assert (shown.black, shown.white, shown.greatest) == (-10, 10, 1000), "one extreme does not turn the rest grey"
    assert shown.cut == pytest.approx(1e-4)
    one = np.zeros((100, 100), np.float32)
    one[0, 0] = 7
    assert show(one, "signed").white == 7, "nearly nothing but zeros: the rest still decides"


def test_stretch() -> None:
    assert levels([100, 600, 1100], "stretch") == [0, 128, 255]
    shown = show(np.array([[100, 600, 1100]], np.float32), "stretch")
    assert (shown.black, shown.white, shown.cut) == (100, 1100, 0)
    assert levels([300, 300], "stretch") == [255, 255], "a plain area has no range to stretch"


def test_the_scale_of_signed_can_be_undone() -> None:
    """From what is reported, the results come back to within half a grey level."""
    values = filtered(GREY, flip(KERNELS["sobel-x"].matrix))
    shown = show(values, "signed")
    grey = np.asarray(shown.picture).astype(float)
    back = shown.black + (grey - 1) * (shown.white - shown.black) / 254
    inside = (values > shown.black) & (values < shown.white)
    assert np.abs(back - values)[inside].max() <= (shown.white - shown.black) / 254 / 2 + 1e-3
    assert way_for(((Fraction(1, 2), Fraction(1, 2)),)) == "clip"
