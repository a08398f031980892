"""Judgements against a slow loop written from the definitions, and against scikit-learn."""

from __future__ import annotations

import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cnncli.engine import calibration
from cnncli.engine.calibration import calibrate
from cnncli.engine.intervals import Interval, mean_interval, wilson
from cnncli.engine.metrics import Averages, judge, ranks


def slow(scores: list[list[float]], labels: list[int], count: int) -> dict[str, object]:
    """Each definition as it stands in a textbook; ties and empty classes as documented."""
    guesses = [max(range(count), key=lambda k: row[k]) for row in scores]
    top5 = [sorted(range(count), key=lambda k: -row[k])[:5] for row in scores]
    confusion = [[sum(1 for t, g in zip(labels, guesses, strict=True) if (t, g) == (i, j)) for j in range(count)] for i in range(count)]
    per_class = []
    for k in range(count):
        true_positive = sum(1 for t, g in zip(labels, guesses, strict=True) if t == k and g == k)
        predicted, actual = guesses.count(k), labels.count(k)
        precision = true_positive / predicted if predicted else 0.0
        recall = true_positive / actual if actual else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        per_class.append((precision, recall, f1, actual))
    losses = []
    for row, t in zip(scores, labels, strict=True):
        high = max(row)
        losses.append(math.log(sum(math.exp(x - high) for x in row)) + high - row[t])
    return {
        "top1": sum(t == g for t, g in zip(labels, guesses, strict=True)) / len(labels),
        "top5": sum(t in five for t, five in zip(labels, top5, strict=True)) / len(labels),
        "loss": math.fsum(losses) / len(labels),
        "confusion": confusion,
        "per_class": per_class,
    }


@pytest.mark.parametrize(("count", "images"), [(2, 9), (3, 1), (4, 50), (5, 30), (10, 200), (37, 500)])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_the_definitions(count: int, images: int, seed: int) -> None:
    """A third of the classes is never there and another third never predicted."""
    random = np.random.default_rng([count, images, seed])
    labels = random.integers(0, max(1, 2 * count // 3), images)
    scores = random.normal(size=(images, count)).astype(np.float32)
    scores[np.arange(images), labels] += 1.0
    scores[:, : count // 3] -= 100.0
    found = judge(torch.from_numpy(scores), torch.from_numpy(labels), tuple(f"c{i}" for i in range(count)))
    expected = slow(scores.astype(float).tolist(), labels.tolist(), count)
    assert found.count == images
    assert found.top1 == pytest.approx(expected["top1"], abs=1e-12)
    assert found.top5 == pytest.approx(expected["top5"], abs=1e-12)
    assert found.loss == pytest.approx(expected["loss"], rel=1e-9)
    assert [list(row) for row in found.confusion] == expected["confusion"]
    assert [entry.name for entry in found.per_class] == [f"c{i}" for i in range(count)]
    for entry, (precision, recall, f1, support) in zip(found.per_class, expected["per_class"], strict=True):
        assert (entry.precision, entry.recall, entry.f1) == pytest.approx((precision, recall, f1), abs=1e-12)
        assert entry.support == support


def test_against_scikit_learn() -> None:
    from sklearn import metrics

    random = np.random.default_rng(7)
    labels = random.integers(0, 8, 300)
    scores = random.normal(size=(300, 8)).astype(np.float32)
    scores[np.arange(300), labels] += 1.5
    found = judge(torch.from_numpy(scores), torch.from_numpy(labels), tuple("abcdefgh"))
    guesses = scores.argmax(1)
    assert found.top1 == pytest.approx(metrics.accuracy_score(labels, guesses))
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, scores, k=5))
    probabilities = torch.from_numpy(scores).double().softmax(1).numpy()
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert np.array_equal(np.array(found.confusion), metrics.confusion_matrix(labels, guesses))
    assert np.mean([entry.f1 for entry in found.per_class]) == pytest.approx(metrics.f1_score(labels, guesses, average="macro"))


def test_confusion_adds_up() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, 100)
    found = judge(torch.from_numpy(random.normal(size=(100, 4))), torch.from_numpy(labels), tuple("abcd"))
    assert (
        [sum(row) for row in found.confusion] == [entry.support for entry in found.per_class] == np.bincount(labels, minlength=4).tolist()
    )
    assert sum(row[i] for i, row in enumerate(found.confusion)) == round(found.top1 * 100)
    assert all(type(n) is int for row in found.confusion for n in row), "JSON takes no numpy numbers"


def test_rows_are_the_true_class() -> None:
    scores = torch.tensor([[0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
    found = judge(scores, torch.tensor([0, 0, 1]), ("a", "b"))
    assert found.confusion == ((0, 2), (0, 1))


def test_top5_of_fewer_classes_is_1() -> None:
    found = judge(torch.randn(20, 3), torch.arange(20) % 3, tuple("abc"))
    assert found.top5 == 1.0


def averages(found: tuple[object, ...]) -> Averages:
    return Averages(*(pytest.approx(float(value), abs=1e-12) for value in found[:3]))


@pytest.mark.parametrize("absent", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_averages_against_scikit_learn(absent: int, seed: int) -> None:
    """Classes without images do not count, also where they were guessed."""
    from sklearn import metrics

    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(8 - absent), random.integers(0, 8 - absent, 150) ** 2 % (8 - absent)])
    scores = random.normal(size=(len(labels), 8)).astype(np.float32)
    scores[np.arange(len(labels)), labels] += 1.5
    found = judge(torch.from_numpy(scores), torch.from_numpy(labels), tuple("abcdefgh"))
    guesses, there = scores.argmax(1), np.unique(labels)
    macro = metrics.precision_recall_fscore_support(labels, guesses, labels=there, average="macro", zero_division=0)
    weighted = metrics.precision_recall_fscore_support(labels, guesses, labels=there, average="weighted", zero_division=0)
    everything = metrics.precision_recall_fscore_support(labels, guesses, labels=range(8), average="weighted", zero_division=0)
    assert found.macro == averages(macro)
    assert found.weighted == averages(weighted) == averages(everything)
    assert found.weighted.recall == pytest.approx(found.top1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that were guessed and are not there
        assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, guesses))
    assert absent == 0 or set(guesses) - set(labels), "a class without images was guessed"


def test_intervals() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(80, 9), torch.randint(0, 9, (80,))
    found = judge(scores, labels, tuple("abcdefghi"))
    assert found.top1_interval == wilson(round(found.top1 * 80), 80)
    assert found.top5_interval == wilson(round(found.top5 * 80), 80)
    losses = torch.nn.functional.cross_entropy(scores.double(), labels, reduction="none")
    expected = mean_interval(losses)
    assert astuple(found.loss_interval) == pytest.approx((expected.low, expected.high))
    assert found.calibration == calibrate(scores, labels)


def test_a_loss_is_not_below_0() -> None:
    scores = torch.tensor([[9.0, 0.0]] * 9 + [[0.0, 1.0]])
    assert judge(scores, torch.zeros(10, dtype=torch.int64), ("a", "b")).loss_interval.low == 0.0


def test_one_image_says_nothing_of_the_spread() -> None:
    found = judge(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), ("a", "b"))
    assert (found.top1, found.loss_interval) == (1.0, Interval(0.0, math.inf))
    assert found.top1_interval == wilson(1, 1)
    assert found.macro == found.weighted == Averages(1.0, 1.0, 1.0)


def test_equal_scores_do_not_flatter() -> None:
    """One class is guessed for all images, five of them first; not all at once."""
    found = judge(torch.zeros(40, 10), torch.arange(40) % 10, tuple("abcdefghij"))
    assert (found.top1, found.top5) == (0.1, 0.5)
    assert sum(row[0] for row in found.confusion) == 40


@given(
    scores=arrays.arrays(np.float32, (8, 7), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 3e38, -3e38, 1e-40, -np.inf])),
    labels=arrays.arrays(np.int64, 8, elements=st.integers(0, 6)),
)
@settings(max_examples=40, deadline=None)
def test_ranks_of_ties(scores: np.ndarray, labels: np.ndarray) -> None:
    """As in a stable sort; the first is argmax; and with the other figures, no warning whatever the scores."""
    expected = [sorted(range(7), key=lambda k: -row[k]).index(t) for row, t in zip(scores.tolist(), labels.tolist(), strict=True)]
    found = ranks(torch.from_numpy(scores), torch.from_numpy(labels))
    assert found.tolist() == expected
    assert ((found == 0).numpy() == (scores.argmax(1) == labels)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = judge(torch.from_numpy(scores), torch.from_numpy(labels), tuple("abcdefg"))
    assert judged.top1 == np.mean([rank == 0 for rank in expected])
    assert judged.top5 == np.mean([rank < 5 for rank in expected])
    assert judged.top1 <= judged.top5


def test_many_equal_scores_are_one_guess() -> None:
    """Rows long enough for what torch does with vectors and threads: of equal scores, the first class."""
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.integers(0, 3, (300, 1001)).astype(np.float32))
    labels = torch.from_numpy(random.integers(0, 1001, 300))
    assert torch.equal(scores.argmax(1), torch.from_numpy(scores.numpy().argmax(1)))
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    assert ranks(scores, labels).tolist() == [row.tolist().index(t) for row, t in zip(order, labels.tolist(), strict=True)]


@pytest.mark.parametrize("at_once", [1, 50, 200])
def test_parts_do_not_matter(at_once: int, monkeypatch) -> None:
    scores, labels = torch.randn(30, 9), torch.arange(30) % 9
    whole = ranks(scores, labels)
    monkeypatch.setattr(calibration, "AT_ONCE", at_once)
    assert torch.equal(ranks(scores, labels), whole)


@pytest.mark.parametrize("everywhere", [True, False])
def test_scores_that_are_not_numbers(everywhere: bool) -> None:
    """Guesses at one class; never all right because a comparison with NaN is false."""
    scores = torch.full((12, 6), math.nan) if everywhere else torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    scores[:, 3] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judge(scores, torch.arange(12) % 6, tuple("abcdef"))
    assert found.top1 == pytest.approx(1 / 6)
    assert found.top1 == pytest.approx(sum(row[i] for i, row in enumerate(found.confusion)) / 12)
    given = scores.nan_to_num(nan=math.inf).tolist()
    assert ranks(scores, torch.arange(12) % 6).tolist() == [
        sorted(range(6), key=lambda k: -row[k]).index(i % 6) for i, row in enumerate(given)
    ]
    assert found.top5 < 1
    assert math.isnan(found.loss)
    assert found.loss_interval == Interval(0.0, math.inf)


def test_every_number_is_one_that_json_takes() -> None:
    import json
    from dataclasses import asdict

    found = judge(torch.randn(20, 3), torch.arange(20) % 3, tuple("abc"))
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["macro"]["f1"] == found.macro.f1
