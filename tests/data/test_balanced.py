"""Balanced epochs: shares, the walk through each class, and who depends on what."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from cnncli.data.balanced import balanced_order, repeats
from cnncli.data.classes import class_counts

COUNTS = [(50, 3, 20), (1, 1, 1), (7,), (100, 1), (5, 0, 5, 0, 3), (2, 9, 4, 4, 4, 1)]


def labels_of(counts: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize("counts", COUNTS)
def test_classes_come_up_equally_often_in_every_epoch_and_over_all(counts: tuple[int, ...]) -> None:
    labels, classes = labels_of(counts), sum(count > 0 for count in counts)
    whole = np.zeros(len(counts), dtype=np.int64)
    for epoch in range(12):
        order = balanced_order(labels, 3, epoch)
        assert len(order) == len(labels)
        drawn = np.bincount(labels[order], minlength=len(counts))
        for had, got in zip(counts, drawn, strict=True):
            assert got in ({len(labels) // classes, -(-len(labels) // classes)} if had else {0})
        whole += drawn
    assert np.ptp([got for had, got in zip(counts, whole, strict=True) if had]) <= 1


@pytest.mark.parametrize("counts", COUNTS)
def test_no_image_repeats_before_all_of_its_class_were_seen(counts: tuple[int, ...]) -> None:
    """Over epochs, too: whatever was drawn so far, two images of a class differ by at most one."""
    labels = labels_of(counts)
    seen = np.zeros(len(labels), dtype=np.int64)
    for epoch in range(12):
        order = balanced_order(labels, 1, epoch)
        np.add.at(seen, order, 1)
        for label in np.unique(labels):
            assert np.ptp(seen[labels == label]) <= 1


def test_seed_and_epoch_decide_and_the_walk_changes_its_order() -> None:
    labels = labels_of((40, 8))
    orders = [balanced_order(labels, seed, epoch) for seed in (0, 1) for epoch in range(5)]
    assert len({order.tobytes() for order in orders}) == 10
    assert np.array_equal(orders[3], balanced_order(labels, 0, 3))
    small = [tuple(index for index in balanced_order(labels, 0, epoch) if labels[index]) for epoch in range(6)]
    assert len(set(small)) == 6
    assert all(a != b for a, b in pairwise(labels[orders[0]].tolist()[:2] for _ in range(1)))
    assert 4 < np.abs(np.diff(labels[orders[0]])).sum() < 44  # classes are mixed, not one after the other


def test_nothing_is_drawn_from_nothing() -> None:
    assert balanced_order(np.zeros(0, dtype=np.int64), 0, 0).tolist() == []
    assert repeats(np.zeros(0, dtype=np.int64)).tolist() == []


def test_repeats_count_what_came_before() -> None:
    order = np.random.default_rng(2).integers(0, 9, 60)
    want = [order[:place].tolist().count(index) for place, index in enumerate(order.tolist())]
    assert repeats(order).tolist() == want
    assert max(want) > 3


def test_counts_of_classes() -> None:
    counts = class_counts(torch.tensor([2, 0, 2, 2]), 5)
    assert counts.tolist() == [1, 0, 3, 0, 0]
    assert counts.dtype == torch.int64
    assert class_counts(torch.zeros(0, dtype=torch.int64), 2).tolist() == [0, 0]
