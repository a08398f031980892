"""What is kept of an image: the network's exact input, or the whole image and crops of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from cnncli.data.form import Form, crops_on_device
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import open_source

PREPROCESS = Preprocess(3, 56, 48)


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth in large and noisy in small, as photos are."""
    rng = np.random.default_rng([height, width])
    small = rng.integers(0, 256, (5, 6, channels), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(small[:, :, c]).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)
        for c in range(channels)
    ]
    return np.clip(np.stack(planes, axis=2) + rng.integers(-8, 9, (height, width, channels)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.25, 0.1, 0.5, 0.3), (0.9, 0.9, 0.1, 0.1), (0, 0.5, 1, 0.5)])
def test_a_crop_is_torchvisions(interpolation: str, box: tuple[float, ...]) -> None:
    image = picture(90, 130)
    form = Form(replace(PREPROCESS, interpolation=interpolation), whole=True)
    got = form.crop(image, np.array(box, dtype=np.float32))
    top, left, height, width = round(box[0] * 90), round(box[1] * 130), round(box[2] * 90), round(box[3] * 130)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    wanted = v2.functional.resized_crop(planes, top, left, height, width, [56, 48], v2.InterpolationMode(interpolation), antialias=True)
    assert got.shape == (3, 56, 48)
    assert (got.int() - wanted.int()).abs().max() <= 1  # the same kernel on another memory order rounds some halves the other way


@pytest.mark.parametrize("box", [(0, 0, 1e-6, 1e-6), (0.9999, 0.9999, 1e-4, 1e-4), (0.5, 0, 0.004, 1)])
def test_a_crop_is_never_empty(box: tuple[float, ...]) -> None:
    assert Form(PREPROCESS, whole=True).crop(picture(20, 30), np.array(box, dtype=np.float32)).shape == (3, 56, 48)


def test_crops_on_a_device_show_the_same() -> None:
    """What a GPU computes for a batch, here on the CPU: bilinear as the crop one by one, but for its antialiasing."""
    images = torch.from_numpy(np.stack([picture(64, 55), picture(64, 55)[:, ::-1]]))
    boxes = np.array([(0, 0, 1, 1), (0.25, 0.2, 0.5, 0.6)], dtype=np.float32)
    got = crops_on_device(images, torch.from_numpy(boxes), (56, 48))
    form = Form(PREPROCESS, whole=True)
    for image, box, crop in zip(images, boxes, got, strict=True):
        wanted = form.crop(image.numpy(), box).int()
        assert crop.shape == wanted.shape
        assert (crop.int() - wanted).abs().float().mean() < 4
    shifted = crops_on_device(images, torch.from_numpy(boxes[:, [1, 0, 2, 3]]), (56, 48))[1].int()
    assert (shifted - form.crop(images[1].numpy(), boxes[1]).int()).abs().float().mean() > 8  # so the bound above tells something


def test_whole_images_are_stretched_and_know_their_size(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(90, 130)).save(tmp_path / name / "a.png")
    source = open_source(str(tmp_path), val_fraction=0)
    form = Form(PREPROCESS, whole=True)
    image, size = form.decode(source, source.samples("train")[0])
    assert form.shape == image.shape == (64, 55, 3)
    assert size == (90, 130)
    wanted = np.asarray(Image.fromarray(picture(90, 130)).resize((55, 64), Image.Resampling.BILINEAR))
    assert np.abs(image.astype(int) - wanted).max() <= 1
    grey, _ = Form(Preprocess(1, 7, 7), whole=True).decode(source, source.samples("train")[0])
    assert grey.shape == (8, 8, 1)


def test_the_key_follows_the_pixels_alone() -> None:
    key = Form(PREPROCESS).key
    assert Form(replace(PREPROCESS, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))).key == key
    others = [
        *(
            Form(replace(PREPROCESS, **change))
            for change in ({"height": 57}, {"background": (0, 0, 0)}, {"exif": False}, {"resize": "stretch"})
        ),
        *(Form(replace(PREPROCESS, crop_fraction=0.9)), Form(PREPROCESS, whole=True), Form(PREPROCESS, max_pixels=10)),
    ]
    assert len({form.key for form in others} | {key}) == len(others) + 1
    assert Form(replace(PREPROCESS, crop_fraction=0.9), whole=True).key == Form(PREPROCESS, whole=True).key
