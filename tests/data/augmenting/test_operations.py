"""Every operation against torchvision's, image by image, over the range of its values; and groups against single samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from cnncli.data.augmenting.operations import Operation, operate

FILL = (7, 250, 128)
STRENGTHS = np.arange(31) / 30
SIGNED = np.concatenate([-STRENGTHS, STRENGTHS])

# What torchvision calls each operation, and the values that it is tried with: all of TrivialAugment's, which go furthest.
COLOURS = {
    Operation.BRIGHTNESS: (functional.adjust_brightness, 1 + 0.99 * SIGNED),
    Operation.COLOR: (functional.adjust_saturation, 1 + 0.99 * SIGNED),
    Operation.CONTRAST: (functional.adjust_contrast, 1 + 0.99 * SIGNED),
    Operation.SHARPNESS: (functional.adjust_sharpness, 1 + 0.99 * SIGNED),
    Operation.POSTERIZE: (lambda image, bits: functional.posterize(image, int(bits)), np.arange(9.0)),
    Operation.SOLARIZE: (functional.solarize, 255 * STRENGTHS),
    Operation.AUTO_CONTRAST: (lambda image, _: functional.autocontrast(image), np.zeros(8)),
    Operation.EQUALIZE: (lambda image, _: functional.equalize(image), np.zeros(8)),
    Operation.IDENTITY: (lambda image, _: image, np.zeros(3)),
}
GEOMETRY = {
    Operation.SHEAR_X: 0.99 * SIGNED,
    Operation.SHEAR_Y: 0.99 * SIGNED,
    Operation.TRANSLATE_X: 32 * SIGNED,
    Operation.TRANSLATE_Y: 32 * SIGNED,
    Operation.ROTATE: 135 * SIGNED,
}
SHAPES = [(3, 16, 32), (1, 28, 28), (3, 21, 34), (3, 3, 3), (1, 1, 2)]


def pictures(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Noise, faint noise, plain colours and ramps in turn: what stretches, equalises and cuts differently."""
    rng = np.random.default_rng([count, *shape])
    images = rng.integers(0, 256, (count, *shape))
    images[1::4] = images[1::4] // 5 + rng.integers(0, 200, (len(images[1::4]), 1, 1, 1))
    images[2::4] = rng.integers(0, 256, (len(images[2::4]), shape[0], 1, 1))
    images[3::4] = np.linspace(0, 255, shape[1] * shape[2]).reshape(shape[1:]).round()
    return torch.from_numpy(images.astype(np.uint8))


def ours(images: torch.Tensor, operation: Operation, values: np.ndarray) -> torch.Tensor:
    return operate(images, np.full(len(values), operation, np.int8), values, FILL[: images.shape[1]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operation", COLOURS)
def test_colours_equal_torchvision_to_the_bit(operation: Operation, shape: tuple[int, int, int]) -> None:
    """Where an image's pixels are no multiple of 16, torchvision itself rounds some of the last ones differently: there within a level."""
    reference, values = COLOURS[operation]
    values = values[:: 3 if len(values) > 50 else 1]
    images = pictures(len(values), shape)
    want = torch.stack([reference(image, float(value)) for image, value in zip(images, values, strict=True)])
    got = ours(images, operation, values)
    assert got.dtype == torch.uint8
    if shape[1] * shape[2] % 16 == 0:
        assert torch.equal(got, want)
    difference = (got.int() - want.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 2e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_hue_is_within_a_level_of_torchvision(shape: tuple[int, int, int]) -> None:
    values = 0.5 * SIGNED
    images = pictures(len(values), shape)
    want = torch.stack([functional.adjust_hue(image, float(value)) for image, value in zip(images, values, strict=True)])
    difference = (ours(images, Operation.HUE, values).int() - want.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3


def torchvision_geometry(image: torch.Tensor, operation: Operation, value: float) -> torch.Tensor:
    """As torchvision's TrivialAugment calls it."""
    kwargs = {"angle": 0.0, "scale": 1.0, "fill": list(FILL[: len(image)])}
    degrees = math.degrees(math.atan(value))
    if operation == Operation.SHEAR_X:
        return functional.affine(image, translate=[0, 0], shear=[degrees, 0.0], center=[0, 0], **kwargs)
    if operation == Operation.SHEAR_Y:
        return functional.affine(image, translate=[0, 0], shear=[0.0, degrees], center=[0, 0], **kwargs)
    if operation == Operation.TRANSLATE_X:
        return functional.affine(image, translate=[int(value), 0], shear=[0.0, 0.0], **kwargs)
    if operation == Operation.TRANSLATE_Y:
        return functional.affine(image, translate=[0, int(value)], shear=[0.0, 0.0], **kwargs)
    return functional.rotate(image, value, fill=kwargs["fill"])


def seen(operation: Operation, value: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's middle comes from, in pixels from the upper left corner of the image: (row, column), float64 [H, W].

    Pixel i covers i..i+1, so it is the one whose number is the whole part.
    """
    row, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    if operation == Operation.SHEAR_X:
        return row, column + value * row
    if operation == Operation.SHEAR_Y:
        return row + value * column, column
    if operation == Operation.TRANSLATE_X:
        return row, column - int(value)
    if operation == Operation.TRANSLATE_Y:
        return row - int(value), column
    angle, down, right = math.radians(value), row - height / 2, column - width / 2
    return (
        height / 2 + math.sin(angle) * right + math.cos(angle) * down,
        width / 2 + math.cos(angle) * right - math.sin(angle) * down,
    )


@pytest.mark.parametrize("shape", [*SHAPES, (3, 96, 70)])
@pytest.mark.parametrize("operation", GEOMETRY)
def test_geometry_shows_the_nearest_pixel(operation: Operation, shape: tuple[int, int, int]) -> None:
    """Equal to a float64 twin, and to torchvision, except at points within 1e-4 of the line between two pixels: there either is nearest."""
    values, (_, height, width) = GEOMETRY[operation], shape
    values = values[:: max(2, height // 8)]
    images = pictures(len(values), shape)
    got = ours(images, operation, values)
    exceptions = 0
    for image, value, moved in zip(images, values, got, strict=True):
        row, column = seen(operation, value, height, width)
        clear = (abs(row - row.round()) > 1e-4) & (abs(column - column.round()) > 1e-4)
        exceptions += (~clear).sum()
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = image.numpy()[:, row.astype(int).clip(0, height - 1), column.astype(int).clip(0, width - 1)]
        want = np.where(inside, at, np.array(FILL[: len(image)])[:, None, None])
        np.testing.assert_array_equal(moved.numpy()[:, clear], want[:, clear])
        np.testing.assert_array_equal(moved.numpy()[:, clear], torchvision_geometry(image, operation, value).numpy()[:, clear])
    assert exceptions < 0.05 * len(values) * height * width + 30  # a quarter turn of 21 x 34 has no other points


def test_a_translation_by_a_share_is_cut_to_whole_pixels() -> None:
    images = pictures(6, (3, 20, 30))
    shares = np.array([0.25, -0.25, 0.09, 0.34, -0.34, 1.0])
    for by_share, by_pixels, size in (
        (Operation.TRANSLATE_X_SHARE, Operation.TRANSLATE_X, 30),
        (Operation.TRANSLATE_Y_SHARE, Operation.TRANSLATE_Y, 20),
    ):
        assert torch.equal(ours(images, by_share, shares), ours(images, by_pixels, np.trunc(shares * size)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 17, 19), (1, 28, 28)])
def test_a_sample_meets_the_same_in_any_company(shape: tuple[int, int, int]) -> None:
    """All operations in one batch, in groups of any size, and in another order: each sample's result is the same bits."""
    rng = np.random.default_rng(0)
    operations = rng.integers(0, len(Operation), 150).astype(np.int8)
    values = np.where(operations >= Operation.HUE, 0.3, np.where(operations >= Operation.BRIGHTNESS, 1.7, 0.4)) * rng.uniform(0.5, 1, 150)
    images, fill = pictures(150, shape), FILL[: shape[0]]
    whole = operate(images, operations, values, fill)
    assert not torch.equal(whole, images)
    for size in (1, 7, 64):
        parts = [operate(images[i : i + size], operations[i : i + size], values[i : i + size], fill) for i in range(0, 150, size)]
        assert torch.equal(torch.cat(parts), whole)
    order = rng.permutation(150)
    assert torch.equal(operate(images[order], operations[order], values[order], fill), whole[order])


def test_the_batch_itself_is_left_alone() -> None:
    images = pictures(4 * len(Operation), (3, 9, 9))
    before = images.clone()
    operate(images, np.tile(np.array(Operation, np.int8), 4), np.full(len(images), 0.4), FILL)
    assert torch.equal(images, before)
