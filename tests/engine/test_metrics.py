"""Judgements against a slow loop written from the definitions, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cnncli.engine.metrics import judge


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
