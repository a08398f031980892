"""Pictures inside the page: what is seen in them, and their form."""

from __future__ import annotations

import io
from base64 import b64decode
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cnncli.arch.zoo.table import build
from cnncli.reports.page.pictures import FILTER_GAP, MOST_FILTERS, Embedded, diagram, filter_grid, filter_picture, thumbnail


def opened(picture: Embedded) -> Image.Image:
    head, _, body = picture.uri.partition(";base64,")
    image = Image.open(io.BytesIO(b64decode(body)))
    assert head == f"data:image/{image.format.lower()}"
    assert image.size == (picture.width, picture.height)
    return image


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (6, 1, 5, 5), (96, 3, 11, 11), (7, 3, 2, 4), (3, 1, 60, 60)])
def test_filters_against_a_loop(shape: tuple[int, int, int, int]) -> None:
    """Every weight's square has the grey that its value asks for, in the order of the filters, row by row."""
    weights = np.random.default_rng(0).normal(size=shape)
    sheet = filter_grid(weights)
    count, channels, height, width = shape
    side = max(1, round(56 / max(height, width)))
    columns = (sheet.shape[1] + FILTER_GAP) // (width * side + FILTER_GAP)
    for number in range(count):
        top = number // columns * (height * side + FILTER_GAP)
        left = number % columns * (width * side + FILTER_GAP)
        largest = abs(weights[number]).max()
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    square = sheet[top + y * side : top + (y + 1) * side, left + x * side : left + (x + 1) * side]
                    assert square.shape[:2] == (side, side)
                    wanted = 127.5 + 127.5 * weights[number, channel, y, x] / largest
                    assert abs(square[..., channel].astype(float) - wanted).max() <= 0.5
                    assert (square[..., -1] == 255).all()
    assert (sheet[..., -1] == 255).sum() == count * height * width * side * side, "between filters nothing is drawn"


def test_filters_without_weights_or_with_broken_ones() -> None:
    assert (filter_grid(np.zeros((2, 3, 3, 3)))[:40, :40, :3] == 128).all(), "zero is the middle"
    broken = np.array([np.nan, np.inf, -1.0, 2.0]).reshape(1, 1, 2, 2)
    sheet = filter_grid(broken)
    assert set(np.unique(sheet[..., 0])) == {64, 128, 255}


def test_of_many_filters_the_first_are_shown() -> None:
    many = np.random.default_rng(0).normal(size=(MOST_FILTERS + 40, 1, 3, 3))
    assert (filter_grid(many) == filter_grid(many[:MOST_FILTERS])).all()


def test_filter_picture() -> None:
    colour = opened(filter_picture(np.random.default_rng(0).normal(size=(8, 3, 5, 5))))
    assert colour.mode == "RGBA"
    assert opened(filter_picture(np.random.default_rng(0).normal(size=(8, 1, 5, 5)))).mode == "LA"


def test_thumbnails_keep_the_pixels_of_small_images() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    shown = small.resize((160, 160), Image.Resampling.NEAREST)
    made = thumbnail(shown)
    assert made.pixelated
    assert (np.asarray(opened(made)) == np.asarray(shown)).all()


def test_thumbnails_of_photos_are_small() -> None:
    y, x = np.mgrid[0:120, 0:160]
    smooth = np.stack([127 + 120 * np.sin(x / 23 + y / 31), 127 + 120 * np.cos(x / 17), y * 2.0], -1)
    grain = np.random.default_rng(0).normal(scale=4, size=smooth.shape)
    made = thumbnail(Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)))
    assert opened(made).format == "JPEG"
    assert not made.pixelated
    assert len(made.uri) < 20_000


def test_diagram() -> None:
    net = build("lenet5")
    made = diagram(net)
    head, _, body = made.uri.partition(";base64,")
    assert head == "data:image/svg+xml"
    root = ET.fromstring(b64decode(body))
    words = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"120", "input 1x32x32"} <= words
    assert float(root.get("width").removesuffix("pt")) * 96 / 72 == pytest.approx(made.width, abs=1)
    assert diagram(net) == made, "one net, the same bytes"
