"""Random erasing against Algorithm 1 of Zhong et al. 2017, one image at a time; and the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cnncli.data.augmenting.erasing import BANK, erase, noise_places, random_rectangles
from cnncli.data.keyed import ERASE, ERASED, keyed_uniform


def slow(seed: int, epoch: int, index: int, p: float) -> tuple[float, float, float, float] | None:
    """Algorithm 1, line by line, on an image of 1 x 1; Rand is the keyed one."""
    sl, sh, r1, r2 = 0.02, 0.4, 0.3, 1 / 0.3
    counter = iter(range(ERASE, ERASE + 1000))

    def rand(low: float, high: float, purpose: int | None = None) -> float:
        number = keyed_uniform(seed, epoch, np.array([index]), next(counter) if purpose is None else purpose)[0]
        return float(low + number * (high - low))

    if rand(0, 1, ERASED) >= p:
        return None
    while True:
        s_e, r_e = rand(sl, sh), rand(r1, r2)
        h_e, w_e = math.sqrt(s_e * r_e), math.sqrt(s_e / r_e)
        y_e, x_e = rand(0, 1), rand(0, 1)
        if x_e + w_e <= 1 and y_e + h_e <= 1:
            return y_e, x_e, h_e, w_e


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_rectangles_equal_the_papers_algorithm(p: float) -> None:
    got = random_rectangles(5, 6, np.arange(300), p)
    want = [slow(5, 6, index, p) or (0, 0, 0, 0) for index in range(300)]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_so_many_are_erased_and_none_is_left_out() -> None:
    rectangles = random_rectangles(0, 0, np.arange(40_000), 0.25)
    assert abs((rectangles[:, 2] > 0).mean() - 0.25) < 0.01
    assert (random_rectangles(0, 1, np.arange(40_000), 1.0)[:, 2] > 0).all()
    erased = rectangles[rectangles[:, 2] > 0]
    area, ratio = erased[:, 2] * erased[:, 3], erased[:, 2] / erased[:, 3]
    assert 0.02 * 0.9999 <= area.min()
    assert area.max() <= 0.4 * 1.0001
    assert 0.3 * 0.9999 <= ratio.min()
    assert ratio.max() <= 1.0001 / 0.3


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 20, 50), (1, 4, 4), (3, 1, 1)])
def test_pixels_are_noise_inside_and_untouched_outside(shape: tuple[int, int, int]) -> None:
    """Against slices, one image at a time."""
    _, height, width = shape
    count = 200
    batch = torch.full((count, *shape), 77, dtype=torch.uint8)
    rectangles = random_rectangles(1, 1, np.arange(count), 0.7)
    got = erase(batch, torch.from_numpy(rectangles), torch.from_numpy(noise_places(1, 1, np.arange(count))))
    assert (batch == 77).all()
    for image, (top, left, high, wide) in zip(got.numpy(), rectangles.astype(np.float64), strict=True):
        outside = np.ones((height, width), dtype=bool)
        if high > 0:
            rows, columns = max(1, round(high * height)), max(1, round(wide * width))
            first, start = min(round(top * height), height - rows), min(round(left * width), width - columns)
            outside[first : first + rows, start : start + columns] = False
        assert (image[:, outside] == 77).all()
        inside = image[:, ~outside]
        assert inside.size < 60 or (inside != 77).mean() > 0.9
        assert outside.all() == (high == 0)


def test_noise_is_uniform_and_differs_between_samples_and_epochs() -> None:
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(100, 4)
    batch = torch.zeros(100, 3, 32, 32, dtype=torch.uint8)
    noise = [erase(batch, whole, torch.from_numpy(noise_places(0, epoch, np.arange(100)))).numpy() for epoch in (0, 1)]
    assert stats.chisquare(np.bincount(noise[0].ravel(), minlength=256)).pvalue > 0.001
    flat = np.concatenate(noise).reshape(200, -1).astype(float)
    assert abs(np.corrcoef(flat) - np.eye(200)).max() < 0.1  # 5 standard deviations of one pair are 0.09
    assert abs(np.corrcoef(flat[:, :-1].ravel(), flat[:, 1:].ravel())[0, 1]) < 0.01
    assert noise_places(0, 0, np.arange(10_000)).max() < BANK
