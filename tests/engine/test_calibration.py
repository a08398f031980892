"""Calibration against loops written from the papers, scikit-learn and scipy's minimiser."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize, special

from cnncli.engine import calibration
from cnncli.engine.calibration import Calibration, calibrate, outcomes, reliability


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def softmax(row: list[float]) -> list[float]:
    high = max(row)
    powers = [math.exp(score - high) for score in row]
    return [power / math.fsum(powers) for power in powers]


def slow(scores: list[list[float]], labels: list[int]) -> tuple[float, float, float]:
    """ECE and MCE as in Guo et al. 2017, section 2: B_m holds the samples with confidence in ((m - 1) / M, m / M]; and Brier's score."""
    images, bins = len(labels), 15
    rows = [softmax(row) for row in scores]
    gaps, ece, seen = [], 0.0, 0
    for m in range(1, bins + 1):
        held = [i for i in range(images) if (m - 1) / bins < max(rows[i]) <= m / bins]
        if not held:
            continue
        accuracy = sum(scores[i].index(max(scores[i])) == labels[i] for i in held) / len(held)
        confidence = math.fsum(max(rows[i]) for i in held) / len(held)
        gaps.append(abs(accuracy - confidence))
        ece += len(held) / images * gaps[-1]
        seen += len(held)
    assert seen == images
    brier = sum((p - (k == t)) ** 2 for row, t in zip(rows, labels, strict=True) for k, p in enumerate(row)) / images
    return ece, max(gaps), brier


def loss(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    logs = special.log_softmax(scores.astype(np.float64) / temperature, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def best_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    found = optimize.minimize_scalar(
        lambda log: loss(scores, labels, math.exp(log)), bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}
    )
    return math.exp(found.x)


def drawn(images: int, classes: int, *, heat: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels drawn from their softmax: calibrated; then scores times `heat`, which a temperature of `heat` takes back."""
    random = np.random.default_rng([images, classes, seed])
    scores = 2 * random.normal(size=(images, classes))
    labels = np.array([random.choice(classes, p=row) for row in special.softmax(scores, axis=1)])
    return (heat * scores).astype(np.float32), labels


def of(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    return calibrate(torch.from_numpy(scores), torch.from_numpy(np.asarray(labels, np.int64)))


def figures(found: Calibration) -> list[float]:
    return [found.ece, found.mce, found.brier, found.temperature, found.scaled_ece, found.scaled_loss]


@pytest.mark.parametrize(("images", "classes", "heat"), [(1, 3, 1), (2, 2, 1), (60, 2, 2), (200, 10, 3), (300, 40, 0.5), (50, 5, 100)])
def test_against_the_paper(images: int, classes: int, heat: float) -> None:
    scores, labels = drawn(images, classes, heat=heat)
    found = of(scores, labels)
    assert (found.ece, found.mce, found.brier) == pytest.approx(slow(scores.astype(float).tolist(), labels.tolist()), abs=1e-12)


@given(
    scores=arrays.arrays(np.float32, (12, 4), elements=st.floats(-5, 5, width=32)),
    labels=arrays.arrays(np.int64, 12, elements=st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None)
def test_any_scores_against_the_paper(scores: np.ndarray, labels: np.ndarray) -> None:
    """Hypothesis likes equal scores, and zeros: ties, and confidences on the edges of bins."""
    found = of(scores, labels)
    assert found.brier == pytest.approx(slow(scores.astype(float).tolist(), labels.tolist())[2], abs=1e-12)
    probabilities = [softmax(row) for row in scores.astype(float).tolist()]
    if all(abs(max(row) * 15 - round(max(row) * 15)) > 1e-9 for row in probabilities):  # on an edge, rounding decides
        assert (found.ece, found.mce) == pytest.approx(slow(scores.astype(float).tolist(), labels.tolist())[:2], abs=1e-12)


def test_brier_against_scikit_learn() -> None:
    from sklearn.metrics import brier_score_loss

    scores, labels = drawn(300, 6, heat=2)
    expected = brier_score_loss(labels, special.softmax(scores.astype(float), axis=1), labels=range(6), scale_by_half=False)
    assert of(scores, labels).brier == pytest.approx(expected, rel=1e-9)


def test_bins_are_closed_on_the_right() -> None:
    given = torch.tensor([1 / 15, 0.2, 0.2 + 1e-9, 1.0, 1.0, 1 - 1e-9, 0.5], dtype=torch.float64)
    bins = reliability(given, torch.tensor([True, False, True, True, False, True, False]))
    assert [held.count for held in bins] == [1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    assert (bins[0].accuracy, bins[2].accuracy, bins[14].accuracy) == (1.0, 0.0, pytest.approx(2 / 3))
    assert bins[2].confidence == 0.2
    assert (bins[1].confidence, bins[1].accuracy) == (0.0, 0.0), "no image, and no NaN"
    assert [(held.low, held.high) for held in bins] == [(i / 15, (i + 1) / 15) for i in range(15)]


@pytest.mark.parametrize(("images", "classes", "heat"), [(40, 2, 1), (300, 10, 3), (300, 3, 0.2), (500, 20, 10)])
def test_temperature_against_a_minimiser(images: int, classes: int, heat: float) -> None:
    """Fitted on all images; and for the judgement, each half by the other."""
    scores, labels = drawn(images, classes, heat=heat, seed=1)
    found = of(scores, labels)
    assert found.temperature == pytest.approx(best_temperature(scores, labels), rel=1e-5)
    order = np.random.default_rng(0).permutation(images)
    halves = order[: images // 2], order[images // 2 :]
    scaled = scores.astype(np.float64)
    for own, other in (halves, halves[::-1]):
        scaled[own] /= best_temperature(scores[other], labels[other])
    assert found.scaled_loss == pytest.approx(loss(scaled, labels, 1.0), rel=1e-6)
    assert found.scaled_ece == pytest.approx(slow(scaled.tolist(), labels.tolist())[0], abs=1e-4)
    assert found.scaled_loss >= loss(scores, labels, found.temperature) - 1e-12, "no better than what has seen the labels"


def test_a_temperature_is_found_again() -> None:
    for heat in (0.3, 1.0, 4.0):
        scores, labels = drawn(4000, 10, heat=heat)
        found = of(scores, labels)
        assert found.temperature == pytest.approx(heat, rel=0.06)
        assert found.scaled_ece < 0.03
    assert found.ece > 0.1, "four times too sure"


def test_logits_and_log_probabilities_alike() -> None:
    scores, labels = drawn(200, 5, heat=2)
    moved = scores.astype(np.float64) + np.random.default_rng(0).normal(size=(200, 1)) * 10
    normal = special.log_softmax(scores.astype(np.float64), axis=1)
    for other in (moved, normal):
        assert figures(of(other, labels)) == pytest.approx(figures(of(scores, labels)), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("times", [1e-20, 1e-6, 1e3, 1e12, 1e30])
def test_temperature_follows_the_scale(times: float) -> None:
    scores, labels = drawn(100, 4)
    found, other = of(scores, labels), of((scores * np.float32(times)), labels)
    assert other.temperature == pytest.approx(found.temperature * times, rel=1e-4)
    assert other.scaled_loss == pytest.approx(found.scaled_loss, rel=1e-4)


def test_everything_right() -> None:
    """The loss falls for ever as the temperature falls: no temperature is best, and the scores are left as they are."""
    scores = torch.eye(6).repeat(5, 1) * 3
    labels = torch.arange(6).repeat(5)
    found = calibrate(scores, labels)
    confidence = math.exp(3) / (math.exp(3) + 5)
    assert found.temperature == 1.0
    assert (found.ece, found.mce, found.scaled_ece) == pytest.approx((1 - confidence,) * 3)
    assert found.scaled_loss == pytest.approx(-math.log(confidence))


def test_everything_wrong() -> None:
    """The loss falls for ever as the temperature grows."""
    scores, labels = torch.eye(6).repeat(5, 1) * 3, torch.arange(1, 31) % 6
    found = calibrate(scores, labels)
    confidence = math.exp(3) / (math.exp(3) + 5)
    assert (found.temperature, found.ece) == (1.0, pytest.approx(confidence))
    assert found.scaled_loss == pytest.approx(3 - math.log(confidence))


def test_sure_and_wrong() -> None:
    """Confidence exactly 1.0, right and wrong; the label's probability underflows to 0, its loss does not."""
    scores = torch.tensor([[0.0, 2000.0], [0.0, 2000.0], [2000.0, 0.0], [0.0, 2000.0]])
    found = calibrate(scores, torch.tensor([1, 1, 1, 1]))
    assert (found.ece, found.mce, found.brier) == (0.25, 0.25, 0.5)
    assert found.bins[-1].count == 4
    assert all(map(math.isfinite, figures(found)))
    assert found.temperature == pytest.approx(2000 / math.log(3), rel=1e-6), "of four, three are right"


def test_one_class() -> None:
    found = calibrate(torch.randn(5, 1), torch.zeros(5, dtype=torch.int64))
    assert figures(found) == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_equal_scores() -> None:
    """Sure by a fifth, and right on the first class alone."""
    found = calibrate(torch.zeros(10, 5), torch.arange(10) % 5)
    assert figures(found) == pytest.approx([0, 0, 0.8, 1, 0, math.log(5)])
    assert found.bins[2].count == 10


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_image(label: int) -> None:
    """There is no other half: what is said of scaling is what is said of the scores as they are."""
    found = calibrate(torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([label]))
    assert all(map(math.isfinite, figures(found)))
    assert found.scaled_ece == found.ece == found.mce
    assert found.scaled_loss == pytest.approx(-math.log(softmax([3.0, 2.0, 0.0])[label]))


def test_classes_without_probability() -> None:
    """-inf among log-probabilities, at classes that are not the label's, is a class that is not there."""
    scores, labels = drawn(80, 4, heat=2)
    more = np.hstack([scores, np.full((80, 40), -np.inf, np.float32)])
    assert figures(of(more, labels)) == pytest.approx(figures(of(scores, labels)), rel=1e-9)


def test_a_label_without_probability() -> None:
    """Its loss is infinite at any temperature, and says nothing of which is best."""
    scores, labels = drawn(80, 4, heat=2)
    scores[5, labels[5]] = -np.inf
    found = of(scores, labels)
    rest = np.arange(80) != 5
    assert found.temperature == pytest.approx(best_temperature(scores[rest], labels[rest]), rel=1e-5)
    assert found.scaled_loss == math.inf
    assert (found.ece, found.mce, found.brier) == pytest.approx(slow(scores.astype(float).tolist(), labels.tolist()), abs=1e-12)
    assert of(np.array([[-np.inf, 0.0]]), [0]).temperature == 1.0


@pytest.mark.parametrize("row", [[math.nan, 0, 1], [math.nan] * 3, [math.inf, 0, 1], [-math.inf] * 3])
def test_scores_that_are_not_numbers(row: list[float]) -> None:
    """No figure is made of the others alone, as if these images were not there."""
    found = calibrate(torch.tensor([[0.0, 1.0, 2.0], row, [5.0, 1.0, 2.0]]), torch.tensor([2, 0, 1]))
    assert math.isfinite(found.temperature)
    assert all(map(math.isnan, (found.ece, found.mce, found.brier, found.scaled_ece, found.scaled_loss)))
    assert sum(held.count for held in found.bins) == 2


@given(
    scores=arrays.arrays(np.float32, (9, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    labels=arrays.arrays(np.int64, 9, elements=st.integers(0, 2)),
)
@settings(max_examples=80, deadline=None)
def test_any_finite_scores_give_finite_figures(scores: np.ndarray, labels: np.ndarray) -> None:
    found = of(scores, labels)
    assert all(map(math.isfinite, figures(found)))
    assert 0 <= found.ece <= found.mce + 1e-12 <= 1 + 1e-12
    assert 0 <= found.brier <= 2
    assert found.temperature > 0
    assert found.scaled_loss >= 0
    assert sum(held.count for held in found.bins) == 9


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_parts_do_not_matter(at_once: int, monkeypatch) -> None:
    scores, labels = drawn(50, 5, heat=2)
    whole = figures(of(scores, labels))
    monkeypatch.setattr(calibration, "AT_ONCE", at_once)
    assert figures(of(scores, labels)) == pytest.approx(whole, rel=1e-12)


def test_scores_are_left_as_they_are() -> None:
    for kind in (torch.float32, torch.float64):
        scores = torch.randn(30, 4, dtype=kind)
        before = scores.clone()
        calibrate(scores, torch.arange(30) % 4)
        assert torch.equal(scores, before)


def test_outcomes_of_one_image() -> None:
    found = outcomes(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([1]))
    p = softmax([1.0, 2.0, 4.0])
    assert found.losses.tolist() == pytest.approx([-math.log(p[1])])
    assert found.confidences.tolist() == pytest.approx([p[2]])
    assert found.squares.tolist() == pytest.approx([p[0] ** 2 + (1 - p[1]) ** 2 + p[2] ** 2])
    assert found.hits.tolist() == [False]
