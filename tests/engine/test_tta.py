"""Averages over views of an image, against loops over pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnncli.data.preprocess import Preprocess
from cnncli.engine.tta import averaged, larger
from cnncli.errors import UsageError

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


MARGIN = Preprocess(3, 6, 5, crop_fraction=0.5)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def crop_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 3, 7)).double().eval()


@pytest.mark.parametrize("size", [(23, 40), (40, 23), (12, 12), (100, 13)])
def test_ten_crops_against_crops_of_the_file(size: tuple[int, int]) -> None:
    """Each crop cut out with Pillow of the resized photo's middle, normalised, scored alone; probabilities averaged."""
    model, image = crop_net(), photo(*size)
    wide = larger(MARGIN, "ten-crop")
    assert (wide.height, wide.width) == (12, 10)
    images = wide.normalise(torch.from_numpy(wide.pixels(image))[None]).double()

    scale = max(10 / image.width, 12 / image.height)  # it just covers 10 x 12
    resized = image.resize((int(image.width * scale + 1e-9), int(image.height * scale + 1e-9)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 10) / 2), round((resized.height - 12) / 2)
    square = resized.crop((left, top, left + 10, top + 12))
    total = torch.zeros(7, dtype=torch.float64)
    for x, y in ((0, 0), (5, 0), (0, 6), (5, 6), (round(2.5), 3)):
        crop = square.crop((x, y, x + 5, y + 6))
        for view in (crop, crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            pixels = torch.from_numpy(np.asarray(view).transpose(2, 0, 1).copy())[None]
            total += model(MARGIN.normalise(pixels).double())[0].softmax(0) / 10
    found = averaged(model, images, "ten-crop", (6, 5))
    torch.testing.assert_close(found[0].exp(), total, rtol=1e-9, atol=1e-9)


def test_ten_crops_against_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    model, images = crop_net(), torch.randn(2, 3, 9, 11, dtype=torch.float64)
    crops = transforms.TenCrop((6, 5))(images)
    with torch.no_grad():
        wanted = torch.stack([model(crop).softmax(1) for crop in crops]).mean(0)
        torch.testing.assert_close(averaged(model, images, "ten-crop", (6, 5)).exp(), wanted)


def test_the_middle_of_the_ten_is_the_crop_as_always(flowers: Path) -> None:
    """Of photos that are resized to 256 and cropped to 224."""
    preprocess = Preprocess(3, 224, 224, crop_fraction=0.875)
    wide = larger(preprocess, "ten-crop")
    assert (wide.height, wide.width) == (256, 256)
    compared = 0
    for path in sorted(flowers.glob("*/*.jpg"))[::20]:
        with Image.open(path) as image:
            long = 256 * max(image.size) // min(image.size)
            if long % 2 == 0:  # an odd margin is rounded twice, and may end up a pixel further
                assert np.array_equal(wide.pixels(image)[:, 16:240, 16:240], preprocess.pixels(image))
                compared += 1
    assert compared > 5


def test_other_views_need_no_margin() -> None:
    for views in ("none", "flips", "shifts"):
        assert larger(MARGIN, views) is MARGIN


@pytest.mark.parametrize(
    "preprocess",
    [Preprocess(3, 6, 5), Preprocess(3, 6, 5, crop_fraction=0.99), Preprocess(3, 6, 5, crop_fraction=0.5, resize="stretch")],
    ids=["whole", "less than a pixel", "stretched"],
)
def test_no_margin_is_refused(preprocess: Preprocess) -> None:
    with pytest.raises(UsageError, match=r"ten-crop needs a margin.*--tta flips") as raised:
        larger(preprocess, "ten-crop")
    assert raised.value.path == "--tta"
