"""The spaces against torchvision's tables; what is drawn from them, and colour jitter against torchvision's, operation by operation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from cnncli.data.augmenting.operations import Operation, operate
from cnncli.data.augmenting.policies import BINS, RAND, TRIVIAL_WIDE, colour_jitter, joined, rand_augment, trivial_augment

INDICES = np.arange(42_000)
NAMES = {
    Operation.IDENTITY: "Identity",
    Operation.SHEAR_X: "ShearX",
    Operation.SHEAR_Y: "ShearY",
    Operation.TRANSLATE_X: "TranslateX",
    Operation.TRANSLATE_Y: "TranslateY",
    Operation.TRANSLATE_X_SHARE: "TranslateX",
    Operation.TRANSLATE_Y_SHARE: "TranslateY",
    Operation.ROTATE: "Rotate",
    Operation.BRIGHTNESS: "Brightness",
    Operation.COLOR: "Color",
    Operation.CONTRAST: "Contrast",
    Operation.SHARPNESS: "Sharpness",
    Operation.POSTERIZE: "Posterize",
    Operation.SOLARIZE: "Solarize",
    Operation.AUTO_CONTRAST: "AutoContrast",
    Operation.EQUALIZE: "Equalize",
}


@pytest.mark.parametrize(("space", "reference"), [(TRIVIAL_WIDE, v2.TrivialAugmentWide), (RAND, v2.RandAugment)])
def test_spaces_are_torchvisions(space, reference) -> None:
    table = reference._AUGMENTATION_SPACE
    assert [NAMES[choice.operation] for choice in space] == list(table)
    width, height = 331, 662
    strength = np.arange(BINS + 1) / BINS
    for choice, (magnitudes, signed) in zip(space, table.values(), strict=True):
        assert choice.signed == signed
        wanted = magnitudes(BINS + 1, height, width)
        got = choice.value(strength) * {Operation.TRANSLATE_X_SHARE: width, Operation.TRANSLATE_Y_SHARE: height}.get(choice.operation, 1)
        got = got / 255 if choice.operation == Operation.SOLARIZE else got
        np.testing.assert_allclose(got, np.zeros(BINS + 1) if wanted is None else wanted.numpy(), rtol=1e-6, atol=1e-6)
        if signed:  # torchvision adds 1 to the factors of colours
            assert choice.rest == (choice.operation >= Operation.BRIGHTNESS)


def test_trivial_augment_draws_each_operation_and_strength_alike() -> None:
    layers = trivial_augment(0, 0, INDICES)
    assert layers.operations.shape == layers.values.shape == (len(INDICES), 1)
    operations, values = layers.operations[:, 0], layers.values[:, 0]
    assert stats.chisquare(np.unique(operations, return_counts=True)[1]).pvalue > 0.001
    assert set(operations) == {choice.operation for choice in TRIVIAL_WIDE}
    for choice in TRIVIAL_WIDE:
        drawn, counts = np.unique(values[operations == choice.operation], return_counts=True)
        if choice.signed:  # 31 strengths, each with two signs, of which 0 has one value
            assert len(drawn) == 2 * BINS + 1
            counts[BINS] /= 2
            assert stats.chisquare(np.insert(counts, BINS, counts[BINS]) * (counts.sum() / (counts.sum() + counts[BINS]))).pvalue > 0.001
            assert abs(drawn - choice.rest).max() == pytest.approx(choice.value(np.ones(1))[0])
        elif choice.operation == Operation.SOLARIZE:
            assert stats.chisquare(counts).pvalue > 0.001


def test_rand_augment_draws_its_layers_independently_at_one_strength() -> None:
    layers = rand_augment(0, 0, INDICES, layers=3, magnitude=9)
    assert layers.operations.shape == (len(INDICES), 3)
    for one, other in itertools.combinations(layers.operations.T, 2):
        table = stats.contingency.crosstab(one, other).count
        assert table.shape == (14, 14)
        assert stats.chisquare(table.ravel()).pvalue > 0.001
    turned = layers.values[layers.operations == Operation.ROTATE]
    assert set(turned) == {-9.0, 9.0}
    assert abs((turned > 0).mean() - 0.5) < 0.02


def test_drawn_for_a_sample_whatever_its_company() -> None:
    for draw in (
        lambda seed, epoch, indices: trivial_augment(seed, epoch, indices),
        lambda seed, epoch, indices: rand_augment(seed, epoch, indices, layers=2, magnitude=15),
        lambda seed, epoch, indices: colour_jitter(seed, epoch, indices, strength=0.4, turn=0.1),
    ):
        whole, some = draw(1, 2, np.arange(500)), np.array([7, 499, 3])
        part = draw(1, 2, some)
        assert np.array_equal(part.operations, whole.operations[some])
        assert np.array_equal(part.values, whole.values[some])
        assert not np.array_equal(draw(1, 3, np.arange(500)).values, whole.values)
        assert not np.array_equal(draw(2, 2, np.arange(500)).values, whole.values)


@pytest.mark.parametrize(("strength", "turn", "kinds"), [(0.4, 0.0, 3), (0.4, 0.1, 4), (0.0, 0.5, 1), (1.0, 0.0, 3)])
def test_jitter_is_uniform_in_any_order(strength: float, turn: float, kinds: int) -> None:
    layers = colour_jitter(0, 0, INDICES, strength=strength, turn=turn)
    assert layers.operations.shape == (len(INDICES), kinds)
    if kinds > 1:
        orders = np.unique(layers.operations, axis=0, return_counts=True)[1]
        assert len(orders) == len(list(itertools.permutations(range(kinds))))
        assert stats.chisquare(orders).pvalue > 0.001
    for operation in np.unique(layers.operations):
        values = layers.values[layers.operations == operation]
        low, high = (-turn, turn) if operation == Operation.HUE else (1 - strength, 1 + strength)
        assert len(values) == len(INDICES)
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.001
    by_kind = np.take_along_axis(layers.values, layers.operations.argsort(axis=1), axis=1)
    assert abs(np.corrcoef(by_kind.T) - np.eye(kinds)).max() < 0.02


def test_jitter_does_what_torchvisions_does_in_that_order() -> None:
    layers = colour_jitter(3, 4, np.arange(64), strength=0.6, turn=0.0)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16), dtype=np.uint8))
    got = images
    for operations, values in zip(layers.operations.T, layers.values.T, strict=True):
        got = operate(got, operations, values, ())
    numbers = [Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR]  # as torchvision's ColorJitter counts them
    for image, jittered, operations, values in zip(images, got, layers.operations, layers.values, strict=True):
        factors = dict(zip(operations, values, strict=True))
        b, c, s = (float(factors[number]) for number in numbers)
        order = torch.tensor([numbers.index(operation) for operation in operations])
        params = {"fn_idx": order, "brightness_factor": b, "contrast_factor": c, "saturation_factor": s, "hue_factor": None}
        assert torch.equal(jittered, v2.ColorJitter().transform(image, params))


def test_layers_come_one_after_the_other() -> None:
    one, two = trivial_augment(0, 0, np.arange(9)), colour_jitter(0, 0, np.arange(9), strength=0.4, turn=0)
    both = joined([one, two])
    assert np.array_equal(both.operations, np.concatenate([one.operations, two.operations], axis=1))
    assert np.array_equal(both.values, np.concatenate([one.values, two.values], axis=1))
    assert joined([]) is None
