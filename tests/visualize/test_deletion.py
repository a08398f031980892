"""Deletion and insertion: against a loop that changes one pixel after the other, and where the areas are known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cnncli.visualize.deletion import blurred, curves, order_of, random_order


class OnePixel(nn.Module):
    """Class 1 for certain where pixel 1,2 is bright, class 0 where it is 0."""

    def forward(self, images: Tensor) -> Tensor:
        score = 100 * images[:, 0, 1, 2]
        return torch.stack([torch.full_like(score, 50), score], 1)


def test_a_known_pixel() -> None:
    """Its deletion falls at once where it comes first, and at the end where it comes last; its insertion is the other way round."""
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 1, 2] = 1
    best, worst = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    best[0, 0, 1, 2], worst[0, 0, 1, 2] = -1, 0  # the magnitude counts
    found = curves(OnePixel(), image, best, torch.tensor([1]), portions=64)
    assert found.deletion[0].tolist() == pytest.approx([1] + [0] * 64, abs=1e-6)
    assert found.insertion[0].tolist() == pytest.approx([0] + [1] * 64, abs=1e-6)
    deletion, insertion = (float(area[0]) for area in found.areas)
    assert [deletion, insertion] == pytest.approx([0.5 / 64, 1 - 0.5 / 64], abs=1e-6)
    last = curves(OnePixel(), image, worst, torch.tensor([1]), portions=64)
    assert float(last.areas[0][0]) == pytest.approx(1 - 0.5 / 64, abs=1e-6)


@pytest.mark.parametrize("portions", [1, 5, 15, 100])
def test_one_pixel_after_the_other(portions: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 15, 4)).double().requires_grad_(requires_grad=False)
    images, maps = torch.randn(3, 2, 3, 5).double(), torch.randn(3, 2, 3, 5).double()
    classes = torch.tensor([0, 3, 1])
    heard: list[int] = []
    found = curves(model, images, maps, classes, portions=portions, on_progress=heard.append)
    assert heard == [1, 2, 3]
    for row in range(3):
        places = [(i, j) for i in range(3) for j in range(5)]
        places.sort(key=lambda place: -max(abs(float(maps[row, channel][place])) for channel in range(2)))
        deleted, inserted = images[row].clone(), blurred(images[row])
        wanted = []
        for done in range(16):
            wanted.append([float(model(one[None]).softmax(1)[0, classes[row]]) for one in (deleted, inserted)])
            if done < 15:
                i, j = places[done]
                deleted[:, i, j] = 0
                inserted[:, i, j] = images[row, :, i, j]
        counts = [round(float(share) * 15) for share in found.shares]
        assert counts[0] == 0
        assert counts[-1] == 15
        assert found.deletion[row].tolist() == pytest.approx([wanted[count][0] for count in counts])
        assert found.insertion[row].tolist() == pytest.approx([wanted[count][1] for count in counts])
        area = sum((wanted[b][0] + wanted[a][0]) / 2 * (b - a) / 15 for a, b in pairwise(counts))
        assert float(found.areas[0][row]) == pytest.approx(area, abs=1e-6)


def test_the_model_and_the_images_stay() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(9, 2)).train()
    images = torch.randn(1, 1, 3, 3)
    before = images.clone()
    one, other = (curves(model, images, images, torch.tensor([1])) for _ in range(2))
    assert model.training
    assert torch.equal(images, before)
    assert torch.equal(one.deletion, other.deletion), "dropout is off"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 9))
def test_order(values: list[int], seed: int) -> None:
    """Larger ones first; equal ones by the seed alone."""
    maps = torch.tensor(values, dtype=torch.float32).view(1, 2, 3)
    ranks = order_of(maps, seed)
    assert sorted(ranks.flatten().tolist()) == list(range(6))
    ordered = maps.flatten()[ranks.flatten().argsort()]
    assert torch.equal(ordered, maps.flatten().sort(descending=True).values)
    assert torch.equal(ranks, order_of(maps, seed))


def test_equal_pixels_are_shuffled() -> None:
    flat = torch.zeros(1, 16, 16)
    ranks = order_of(flat, 0).flatten()
    assert not torch.equal(ranks, torch.arange(256))
    assert not torch.equal(ranks, order_of(flat, 1).flatten())
    assert torch.equal(random_order(flat[:, None], 3), random_order(flat[:, None], 3))


def test_the_blur_keeps_the_mean() -> None:
    image = torch.randn(3, 20, 20)
    found = blurred(image)
    assert float(found.std()) < 0.3 * float(image.std())
    assert torch.allclose(found.mean((1, 2)), image.mean((1, 2)), atol=1e-5)
    assert torch.allclose(blurred(torch.full((1, 9, 9), 2.0)), torch.full((1, 9, 9), 2.0))
