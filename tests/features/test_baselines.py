from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from cnncli.data.preprocess import Preprocess
from cnncli.errors import EnvironmentFault
from cnncli.features.baselines import hog, hog_size, pixel_space, pixels

SIZES = [(1, 1, 1), (1, 8, 8), (3, 3, 3), (1, 28, 28), (3, 32, 32), (3, 1, 5), (3, 90, 20), (3, 224, 224), (3, 300, 40), (1, 2, 900)]


def images(*shape: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_known_beforehand_and_numbers_lie_in_0_to_1(size: tuple[int, int, int]) -> None:
    found, plain = hog(images(*size)), pixels(images(*size))
    assert found.shape == (2, hog_size(*size))
    assert plain.shape == (2, np.prod(pixel_space(Preprocess(*size))))
    for numbers in (found, plain):
        assert numbers.dtype == torch.float32
        assert 0 <= float(numbers.min()) <= float(numbers.max()) <= 1


def test_small_images_stay_as_they_are() -> None:
    given = images(3, 32, 20)
    assert torch.equal(pixels(given), (given.float() / 255).flatten(1))


def test_large_images_become_means_of_squares() -> None:
    given = images(3, 224, 112)
    expected = (given.double() / 255).view(2, 3, 32, 7, 16, 7).mean((3, 5))
    torch.testing.assert_close(pixels(given).double(), expected.flatten(1), atol=1e-6, rtol=0)


def test_hog_of_an_edge_votes_for_its_gradient_alone() -> None:
    """A vertical edge has a horizontal gradient: of 9 orientations the first, in every block that has one."""
    given = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    given[..., 16:] = 255
    blocks = hog(given).view(7, 7, 2, 2, 9)
    assert float(blocks[..., 1:].abs().max()) == 0
    assert bool((blocks[:, 2:5].sum((2, 3, 4)) > 0).all())  # the edge lies in cells 3 and 4, which are of blocks 2, 3 and 4
    assert float(blocks[:, :2].abs().max()) == float(blocks[:, 5:].abs().max()) == 0


def test_hog_is_that_of_the_paper_written_slowly() -> None:
    given = images(1, 32, 32, count=1)
    image = given[0, 0].double().numpy() / 255
    down, across = np.zeros_like(image), np.zeros_like(image)
    down[1:-1], across[:, 1:-1] = image[2:] - image[:-2], image[:, 2:] - image[:, :-2]
    length, angle = np.hypot(down, across), np.rad2deg(np.arctan2(down, across)) % 180
    cells = np.zeros((8, 8, 9))
    for i, j in np.ndindex(32, 32):
        cells[i // 4, j // 4, min(8, int(angle[i, j] // 20))] += length[i, j] / 16
    expected = []
    for i, j in np.ndindex(7, 7):
        block = cells[i : i + 2, j : j + 2].ravel()
        block = np.minimum(block / np.sqrt((block**2).sum() + 1e-10), 0.2)
        expected.append(block / np.sqrt((block**2).sum() + 1e-10))
    np.testing.assert_allclose(hog(given)[0], np.concatenate(expected), atol=1e-4)


def test_hog_of_an_image_does_not_depend_on_the_others_and_ignores_more_light() -> None:
    given = images(3, 40, 40, count=3) // 2
    assert torch.equal(hog(given)[1:2], hog(given[1:2]))
    torch.testing.assert_close(hog(given + 100), hog(given), atol=1e-4, rtol=0)


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(EnvironmentFault, match="scikit-image"):
        hog(images(1, 8, 8))
