"""Averages over views of an image, against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncli.engine.tta import averaged

HEIGHT, WIDTH = 4, 5


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * HEIGHT * WIDTH, 4)).double().eval()


def moved(image: torch.Tensor, down: int, right: int, *, mirrored: bool) -> torch.Tensor:
    """A loop: the pixel at (y, x) comes from (y - down, x - right), mirrored at the border without repeating its edge."""

    def inside(place: int, size: int) -> int:
        return -place if place < 0 else 2 * (size - 1) - place if place >= size else place

    out = torch.empty_like(image)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            at = WIDTH - 1 - x if mirrored else x
            out[:, y, x] = image[:, inside(y - down, HEIGHT), inside(at - right, WIDTH)]
    return out


@pytest.mark.parametrize(
    ("views", "weighted"), [("flips", {(0, 0): 1.0}), ("shifts", {(0, 0): 0.5, (1, 1): 0.25, (-1, -1): 0.25})], ids=["flips", "shifts"]
)
def test_against_a_slow_version(views: str, weighted: dict[tuple[int, int], float]) -> None:
    model, images = net(), torch.randn(3, 2, HEIGHT, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        found = averaged(model, images, views)
        for number, image in enumerate(images):
            expected = torch.zeros(4, dtype=torch.float64)
            for (down, right), weight in weighted.items():
                for mirrored in (False, True):
                    expected += weight / 2 * model(moved(image, down, right, mirrored=mirrored)[None])[0].softmax(0)
            torch.testing.assert_close(found[number].exp(), expected, rtol=1e-12, atol=1e-12)


def test_none_is_the_net_itself() -> None:
    model, images = net(), torch.randn(3, 2, HEIGHT, WIDTH, dtype=torch.float64)
    assert torch.equal(averaged(model, images, "none"), model(images))


@pytest.mark.parametrize("views", ["flips", "shifts"])
def test_probabilities(views: str) -> None:
    with torch.no_grad():
        found = averaged(net(), torch.randn(3, 2, HEIGHT, WIDTH, dtype=torch.float64), views)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3, dtype=torch.float64))


def test_a_net_that_sees_no_difference_gives_the_same() -> None:
    """Scores from channel means do not change in a mirror; from images of one colour they do not change when moved either."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)).double()
    images = torch.randn(3, 2, HEIGHT, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(averaged(model, images, "flips"), model(images).log_softmax(1))
        plain = images.mean((2, 3), keepdim=True).expand_as(images)
        torch.testing.assert_close(averaged(model, plain, "shifts"), model(plain).log_softmax(1))
