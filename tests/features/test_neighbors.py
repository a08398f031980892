"""Votes, near duplicates and suspects: against scikit-learn, and on sets in which they were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from cnncli.features.feature_set import FeatureSet, Space
from cnncli.features.neighbors import (
    everything,
    fence_of,
    majority,
    near_pairs,
    protocol_of,
    search,
    spread_queries,
    suspects,
    vote,
)

CPU = torch.device("cpu")


def made(count: int = 90, splits: tuple[str, ...] = ("",), seed: int = 0) -> FeatureSet:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    vectors = (random.standard_normal((count, 8)) + 3 * np.eye(8)[labels]).astype(np.float32)
    names = tuple(splits[row * len(splits) // count] for row in range(count))
    paths = tuple(f"{row}.png" for row in range(count))
    return FeatureSet({"fc7": vectors}, (Space("fc7", "layer", (8,)),), labels, ("a", "b", "c"), paths, names)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_majority_is_the_most_frequent_class_and_of_equals_that_of_the_nearest(labels):
    said, votes = majority(torch.tensor([labels]))
    most = max(labels.count(label) for label in labels)
    assert (int(votes), int(said)) == (most, next(label for label in labels if labels.count(label) == most))


def test_accuracy_is_that_of_scikit_learn_for_test_against_train():
    features = made(300, ("train", "train", "val", "test"))
    protocol = protocol_of(features)
    assert protocol.told == "75 test images against 150 train images"
    found = vote(features, "fc7", protocol, search(features, "fc7", protocol, 1, "l2", device=CPU))
    oracle = KNeighborsClassifier(1).fit(features.arrays["fc7"][protocol.base], features.labels[protocol.base])
    expected = oracle.predict(features.arrays["fc7"][protocol.queries]) == features.labels[protocol.queries]
    assert np.array_equal(found.hits, expected)
    assert found.low < found.accuracy == expected.mean() < found.high


@pytest.mark.parametrize("splits", [("",), ("train",), ("test",)])
def test_without_two_splits_each_image_is_left_out_once(splits):
    features = made(60, splits)
    protocol = protocol_of(features)
    assert protocol.leave_one_out
    found = search(features, "fc7", protocol, 5, "cosine", device=CPU)
    assert not (found.indices == torch.arange(60)[:, None]).any()


def test_unlabelled_images_neither_ask_nor_vote():
    features = made(60)
    features.labels[10:20] = -1
    protocol = protocol_of(features)
    found = search(features, "fc7", protocol, 5, "l2", device=CPU)
    assert len(found.indices) == 50
    assert not np.isin(found.indices.numpy(), np.arange(10, 20)).any()


def test_planted_duplicates_are_found_and_nothing_else():
    features = made(200)
    vectors = features.arrays["fc7"]
    vectors[7] = vectors[100]
    vectors[8] = vectors[101] + np.float32(1e-5)
    pairs = near_pairs(features, search(features, "fc7", everything(features), 5, "l2", device=CPU))
    near = [pair for pair in pairs.pairs if pair.near]
    assert [(pair.first, pair.second) for pair in near] == [(7, 100), (8, 101)]
    assert near[0].distance == 0 < near[1].distance < pairs.fence
    assert pairs.near == 2
    assert [pair.conflict for pair in near] == [7 % 3 != 100 % 3, 8 % 3 != 101 % 3]
    assert [pair.distance for pair in pairs.pairs] == sorted(pair.distance for pair in pairs.pairs)


def test_the_fence_is_far_out_of_what_is_usual():
    distances = np.exp(np.random.default_rng(0).standard_normal(20_000))
    assert fence_of(distances) == pytest.approx(np.exp(-0.6745 - 3 * 1.349), rel=0.05)
    assert fence_of(np.array([0.0, 1.0, 2.0])) == 0


def test_planted_label_errors_are_the_surest_suspects():
    features = made(300)
    features.arrays["fc7"][:] += 3 * np.eye(8, dtype=np.float32)[features.labels]
    true = features.labels.copy()
    features.labels[[4, 40]] = (true[[4, 40]] + 1) % 3
    whole = everything(features)
    found = suspects(features, whole.base, search(features, "fc7", whole, 9, "l2", device=CPU))
    assert {s.row for s in found[:2]} == {4, 40}
    assert all(s.said == true[s.row] and s.votes > s.k / 2 for s in found[:2])


def test_queries_are_spread_over_classes():
    labels = np.array([0] * 50 + [1] * 2 + [2] * 9)
    chosen = spread_queries(labels, np.arange(len(labels)), 8, seed=0)
    assert sorted(np.bincount(labels[chosen]).tolist()) == [2, 3, 3]
    assert np.array_equal(chosen, spread_queries(labels, np.arange(len(labels)), 8, seed=0))
