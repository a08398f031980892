"""mixup and CutMix against one sample at a time in float64; the Beta distribution; the weights of labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cnncli.data.augmenting.mixing import draw_blend, mix, symmetric_beta
from cnncli.data.keyed import MIX_ANGLE, MIX_RADIUS, MIX_X, MIX_Y, MIXING, keyed_uniform

INDICES = np.random.default_rng(0).permutation(1000)[:64]


def slow(images: np.ndarray, labels: np.ndarray, mixup: float, cutmix: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The papers, sample by sample; lambda is Beta's quantile-free draw of the package, which has its own test."""
    count, _, height, width = images.shape
    results, weights = [], []
    for i, index in enumerate(INDICES):

        def uniform(purpose: int, index: int = index) -> float:
            return float(keyed_uniform(8, 9, np.array([index]), purpose)[0])

        cut = bool(cutmix) and (not mixup or uniform(MIXING) < 0.5)
        alpha = cutmix if cut else mixup
        lam = float(symmetric_beta(np.array(alpha), np.array(uniform(MIX_RADIUS)), np.array(uniform(MIX_ANGLE))))
        own, partner = images[i], images[(i - 1) % count]
        if not cut:
            results.append(lam * own + (1 - lam) * partner)
            weights.append(lam)
            continue
        ratio = math.sqrt(1 - lam)
        cut_w, cut_h = int(width * ratio), int(height * ratio)
        cx, cy = int(uniform(MIX_X) * width), int(uniform(MIX_Y) * height)
        x1, x2 = max(cx - cut_w // 2, 0), min(cx + cut_w // 2, width)
        y1, y2 = max(cy - cut_h // 2, 0), min(cy + cut_h // 2, height)
        result = own.copy()
        result[:, y1:y2, x1:x2] = partner[:, y1:y2, x1:x2]
        results.append(result)
        weights.append(1 - (x2 - x1) * (y2 - y1) / (width * height))
    return np.stack(results), np.roll(labels, 1), np.array(weights)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.8, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14)])
def test_equals_the_slow_twin(mixup: float, cutmix: float, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(64, *shape)).astype(np.float32), rng.integers(0, 10, 64)
    blend = draw_blend(8, 9, INDICES, mixup=mixup, cutmix=cutmix, height=shape[1], width=shape[2])
    before = torch.from_numpy(images.copy())
    got, mixed = mix(before, torch.from_numpy(labels), blend)
    want, partners, weights = slow(images.astype(np.float64), labels, mixup, cutmix)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-6)
    assert np.array_equal(mixed.labels.numpy(), partners)
    np.testing.assert_allclose(mixed.weight.numpy(), weights, rtol=1e-6, atol=1e-7)
    assert (got.dtype, mixed.weight.dtype, mixed.labels.dtype) == (torch.float32, torch.float32, torch.int64)
    assert np.array_equal(before.numpy(), images)
    if not mixup:  # cut out: every pixel is exactly one of the two
        assert ((got.numpy() == images) | (got.numpy() == np.roll(images, 1, axis=0))).all()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_the_label_weighs_what_the_image_keeps(mixup: float, cutmix: float) -> None:
    """Ones in every other image, zeros between them: the mean of a mixed image is the share of the ones."""
    count, indices = 2000, np.arange(2000)
    images = (torch.arange(count) % 2).float().view(-1, 1, 1, 1).expand(-1, 1, 16, 24).contiguous()
    blend = draw_blend(0, 0, indices, mixup=mixup, cutmix=cutmix, height=16, width=24)
    got, mixed = mix(images, torch.arange(count) % 2, blend)
    share_of_ones = torch.where(torch.arange(count) % 2 == 1, mixed.weight, 1 - mixed.weight)
    torch.testing.assert_close(got.mean(dim=(1, 2, 3)), share_of_ones, rtol=0, atol=1e-5)
    assert (mixed.weight >= 0).all()
    assert (mixed.weight <= 1).all()


def test_mean_weights() -> None:
    """Half for mixup. CutMix: 1 - E[clipped area], by the same box with numpy's random numbers; both: half of each."""
    count, size = 40_000, 32
    rng = np.random.default_rng(0)
    half = (np.sqrt(rng.uniform(size=count)) * size).astype(int) // 2
    sides = [np.minimum(at + half, size) - np.maximum(at - half, 0) for at in rng.integers(0, size, (2, count))]
    expected = 1 - (sides[0] * sides[1]).mean() / size**2

    def mean(mixup: float, cutmix: float) -> float:
        return draw_blend(0, 0, np.arange(count), mixup=mixup, cutmix=cutmix, height=size, width=size).weight.mean()

    assert abs(mean(0.2, 0) - 0.5) < 0.01
    assert abs(mean(0, 1.0) - expected) < 0.01
    assert abs(mean(0.2, 1.0) - (0.5 + expected) / 2) < 0.01


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 30.0])
def test_lambda_follows_beta(alpha: float) -> None:
    """Kolmogorov and Smirnov's test from 1e-6 to 1 - 1e-6: of a small alpha, much of Beta lies beyond, too close to 1 for numbers."""
    uniform = [keyed_uniform(0, 0, np.arange(50_000), purpose) for purpose in (MIX_RADIUS, MIX_ANGLE)]
    drawn = symmetric_beta(np.full(50_000, alpha), *uniform)
    grid = np.linspace(1e-6, 1 - 1e-6, 2001)
    distance = abs(np.searchsorted(np.sort(drawn), grid, side="right") / 50_000 - stats.beta(alpha, alpha).cdf(grid)).max()
    assert distance < 1.95 / np.sqrt(50_000)  # exceeded once in a thousand
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_ends_of_the_random_numbers_are_harmless() -> None:
    ends = np.array([0.0, 1 - 2**-53])
    for alpha in (0.001, 0.2, 100.0):
        drawn = symmetric_beta(np.full(4, alpha), np.repeat(ends, 2), np.tile(ends, 2))
        assert np.isfinite(drawn).all()
        assert ((drawn >= 0) & (drawn <= 1)).all()


def test_with_both_each_sample_takes_one() -> None:
    blend = draw_blend(0, 0, np.arange(20_000), mixup=0.8, cutmix=1.0, height=32, width=32)
    cut = blend.share == 1
    assert abs(cut.mean() - 0.5) < 0.02
    assert (blend.boxes[~cut] == 0).all()


def test_how_much_depends_on_the_sample_alone() -> None:
    kwargs = {"mixup": 0.8, "cutmix": 1.0, "height": 20, "width": 30}
    whole, some = draw_blend(1, 2, np.arange(300), **kwargs), np.array([299, 4, 0])
    part = draw_blend(1, 2, some, **kwargs)
    for name in ("share", "boxes", "weight"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[some])
    assert not np.array_equal(draw_blend(1, 3, np.arange(300), **kwargs).weight, whole.weight)


def test_a_batch_of_one_stays_what_it_is() -> None:
    image, label = torch.randn(1, 3, 8, 8), torch.tensor([4])
    got, mixed = mix(image, label, draw_blend(0, 0, np.array([5]), mixup=0.8, cutmix=1.0, height=8, width=8))
    torch.testing.assert_close(got, image)
    assert mixed.labels.tolist() == [4]
