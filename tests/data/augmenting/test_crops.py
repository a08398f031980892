"""Random boxes against torchvision's: a twin of its code on the same random numbers, its distributions, and its last resort."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from cnncli.data.augmenting.crops import TRIES, random_boxes
from cnncli.data.keyed import CROP, keyed_uniform


def pixels(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.rint(boxes.astype(np.float64) * np.tile(sizes, 2)).astype(int)


def slow(seed: int, epoch: int, index: int, height: int, width: int, least: float) -> tuple[int, int, int, int]:
    """One image at a time, with Python's numbers."""

    def uniform(purpose: int) -> float:
        return float(keyed_uniform(seed, epoch, np.array([index]), purpose)[0])

    low, high = math.log(3 / 4), math.log(4 / 3)
    for number in range(10):
        area, log_ratio, top, left = (uniform(CROP + 4 * number + kind) for kind in range(4))
        area = height * width * (least + area * (1 - least))
        ratio = math.exp(low + log_ratio * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("least", [0.08, 0.35, 0.9, 0.99])
def test_equals_the_slow_twin(least: float) -> None:
    sizes = np.random.default_rng(1).integers(1, 400, (120, 2))
    boxes = random_boxes(3, 4, np.arange(120) * 7, sizes, least)
    assert boxes.dtype == np.float32
    want = [slow(3, 4, 7 * i, *size, least) for i, size in enumerate(sizes.tolist())]
    np.testing.assert_array_equal(pixels(boxes, sizes), want)
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 1 + 1e-6
    assert boxes.min() >= 0


@pytest.mark.parametrize(("size", "least"), [((224, 224), 0.08), ((375, 500), 0.08), ((480, 320), 0.35), ((32, 32), 0.5)])
def test_areas_ratios_and_places_are_distributed_as_torchvisions(size: tuple[int, int], least: float) -> None:
    count = 2500
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(1, scale=(least, 1))
    blank = torch.empty(1, *size)
    wanted = [crop.make_params([blank]) for _ in range(count)]
    want = np.array([[params[name] for name in ("top", "left", "height", "width")] for params in wanted], dtype=float)
    sizes = np.tile(size, (count, 1))
    got = pixels(random_boxes(0, 0, np.arange(count), sizes, least), sizes).astype(float)
    for name, of in {
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "how far down, of what is possible": lambda box: box[:, 0] / (size[0] - box[:, 2] + 1),
        "how far right, of what is possible": lambda box: box[:, 1] / (size[1] - box[:, 3] + 1),
    }.items():
        assert stats.ks_2samp(of(got), of(want)).pvalue > 0.001, name


@pytest.mark.parametrize("size", [(2, 2000), (2000, 2), (10, 700), (333, 5), (1, 1), (1, 9), (7, 9), (90, 119), (1500, 1000)])
def test_the_last_resort_is_torchvisions(size: tuple[int, int]) -> None:
    """With the whole area asked for, no other box fits an image that is narrower or wider than the ratios; and few fit any other."""
    crop = v2.RandomResizedCrop(1, scale=(1.0, 1.0))
    torch.manual_seed(0)
    wanted = [crop.make_params([torch.empty(1, *size)]) for _ in range(20)]
    want = {tuple(params[name] for name in ("top", "left", "height", "width")) for params in wanted}
    sizes = np.tile(size, (200, 1))
    got = {tuple(box) for box in pixels(random_boxes(0, 0, np.arange(200), sizes, 1.0), sizes).tolist()}
    if not 3 / 4 <= size[1] / size[0] <= 4 / 3:
        assert len(want) == 1
        assert got == want
    assert want <= got


def test_a_box_depends_on_its_sample_alone() -> None:
    sizes = np.random.default_rng(2).integers(5, 300, (500, 2))
    whole = random_boxes(1, 2, np.arange(500), sizes, 0.08)
    some = np.array([499, 0, 31])
    assert np.array_equal(random_boxes(1, 2, some, sizes[some], 0.08), whole[some])
    assert not np.array_equal(random_boxes(1, 3, np.arange(500), sizes, 0.08), whole)
    assert random_boxes(0, 0, np.arange(0), np.zeros((0, 2), int), 0.5).shape == (0, 4)
    assert TRIES == 10
