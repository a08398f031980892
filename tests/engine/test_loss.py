"""The loss against cross-entropy written out in float64: smoothed, weighed by class, mixed, and all of these together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnncli.data.augmenting.mixing import Mixed
from cnncli.engine.loss import Loss, balanced_weights

CLASSES = 5


def data() -> tuple[torch.Tensor, torch.Tensor, Mixed]:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(7, CLASSES, generator=rng, dtype=torch.float64)
    labels, partners = torch.randint(0, CLASSES, (2, 7), generator=rng)
    return scores, labels, Mixed(partners, torch.tensor([0.0, 1.0, 0.5, 0.25, 0.9, 0.1, 0.3], dtype=torch.float64))


def slow(scores: torch.Tensor, labels: torch.Tensor, mixed: Mixed | None, smoothing: float, weights: torch.Tensor | None) -> float:
    """-sum(q log p), q the smoothed label, times the weight of the label's class; the mean over two labels where they are mixed."""
    total = 0.0
    for number, score in enumerate(scores):
        pairs = [(int(labels[number]), 1.0)]
        if mixed is not None:
            share = float(mixed.weight[number])
            pairs = [(int(labels[number]), share), (int(mixed.labels[number]), 1 - share)]
        log_p = score - score.exp().sum().log()
        for label, share in pairs:
            wanted = torch.full((CLASSES,), smoothing / CLASSES, dtype=torch.float64)
            wanted[label] += 1 - smoothing
            total -= share * (1.0 if weights is None else float(weights[label])) * float((wanted * log_p).sum())
    return total


@pytest.mark.parametrize(("smoothing", "weighted", "with_mixed"), [*itertools.product([0.0, 0.1], [False, True], [False, True])])
def test_against_the_formula(smoothing: float, weighted: bool, with_mixed: bool) -> None:
    scores, labels, mixed = data()
    weights = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0], dtype=torch.float64) if weighted else None
    found = Loss(smoothing, weights).sum(scores, labels, mixed if with_mixed else None)
    assert found.item() == pytest.approx(slow(scores, labels, mixed if with_mixed else None, smoothing, weights), rel=1e-12)


def test_a_weight_of_1_is_the_image_itself_and_weights_of_1_are_none() -> None:
    scores, labels, mixed = data()
    plain = Loss(0.1).sum(scores, labels)
    assert plain.item() == pytest.approx(functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=0.1).item(), rel=1e-12)
    assert Loss(0.1).sum(scores, labels, Mixed(mixed.labels, torch.ones(7))).item() == pytest.approx(plain.item(), rel=1e-12)
    assert Loss(0.1, torch.ones(CLASSES)).sum(scores, labels).item() == pytest.approx(plain.item(), rel=1e-12)


def test_weights_are_torchs_without_smoothing() -> None:
    scores, labels, _ = data()
    weights = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0], dtype=torch.float64)
    expected = functional.cross_entropy(scores, labels, weight=weights, reduction="sum")
    assert Loss(weights=weights).sum(scores, labels).item() == pytest.approx(expected.item(), rel=1e-12)


def test_balanced_weights() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    counts = torch.tensor([10, 0, 30, 5])
    found = balanced_weights(counts)
    labels = [0] * 10 + [2] * 30 + [3] * 5
    expected = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=np.array(labels))
    assert found[[0, 2, 3]].tolist() == pytest.approx(expected.tolist())
    assert found[1] == 0
    assert found.dtype == torch.float32
    assert float(found[labels].mean()) == pytest.approx(1.0), "those of an epoch average 1"
    assert balanced_weights(torch.tensor([4, 4, 4])).tolist() == [1, 1, 1]
