from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from cnncli.engine.intervals import wilson
from cnncli.errors import InputError
from cnncli.features.feature_set import UNLABELLED, FeatureSet, Space
from cnncli.features.probe import Part, divide, knn_guesses, linear_guesses, majority, probe

CLASSES = ("ant", "bee", "cow")


def made(splits: Sequence[str], *, labels: Sequence[int] | None = None, noise: float = 1.0, seed: int = 0) -> FeatureSet:
    """Three clouds in `good`, nothing but noise in `pixels`."""
    draw = np.random.default_rng(seed)
    own = np.arange(len(splits)) % 3 if labels is None else np.array(labels)
    centres = draw.normal(size=(3, 4)) * 2
    good = (centres[own] + noise * draw.normal(size=(len(own), 4))).astype(np.float32)
    arrays = {"good": good, "pixels": draw.random((len(own), 2, 3), dtype=np.float32)}
    spaces = (Space("good", "layer", (4,), "good"), Space("pixels", "pixels", (2, 3)))
    paths = tuple(f"{number}.png" for number in range(len(own)))
    return FeatureSet(arrays, spaces, own.astype(np.int64), CLASSES, paths, tuple(splits))


def parts(features: FeatureSet) -> list[Part]:
    rows = [features.rows_of(split) for split in ("train", "val", "test")]
    return [Part(torch.from_numpy(features.matrix("good", own)), torch.from_numpy(features.labels[own])) for own in rows]


WHOLE = ["train"] * 90 + ["val"] * 30 + ["test"] * 60


def test_the_linear_classifier_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    train, val, test = parts(made(WHOLE, noise=2.0))
    guesses, penalty = linear_guesses(train, val, test, 3)
    mean = train.matrix.double().mean(0)
    scale = float((train.matrix.double() - mean).square().sum(1).mean().sqrt())
    oracle = LogisticRegression(C=1 / (penalty * len(train.labels)), tol=1e-10, max_iter=10_000)
    oracle.fit(((train.matrix - mean) / scale).numpy(), train.labels.numpy())
    assert guesses.tolist() == oracle.predict(((test.matrix - mean) / scale).numpy()).tolist()


def test_neighbours_are_those_of_scikit_learn_with_the_k_that_is_best_on_validation_images() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, val, test = parts(made(WHOLE, noise=2.0))
    guesses, setting = knn_guesses(train, val, test, 3)
    scores = {}
    for metric in ("l2", "cosine"):
        for k in (1, 3, 5, 10, 20, 50):
            near = KNeighborsClassifier(k, metric="euclidean" if metric == "l2" else metric, algorithm="brute").fit(
                train.matrix, train.labels
            )
            votes = [np.bincount(train.labels[row], minlength=3) for row in near.kneighbors(val.matrix, return_distance=False)]
            tied = any((vote == vote.max()).sum() > 1 for vote in votes)
            scores[f"k {k}, {metric}"] = (near.score(val.matrix, val.labels), tied)
    chosen = setting.split(", ")
    assert all(score <= scores[setting][0] for score, tied in scores.values() if not tied and not scores[setting][1])
    near = KNeighborsClassifier(int(chosen[0][2:]), metric="euclidean" if chosen[1] == "l2" else "cosine", algorithm="brute")
    near.fit(train.matrix, train.labels)
    ranked = train.labels.numpy()[near.kneighbors(test.matrix, return_distance=False)]
    for guess, row in zip(guesses.tolist(), ranked, strict=True):
        votes = np.bincount(row, minlength=3)
        assert guess == next(label for label in row if votes[label] == votes.max())


@pytest.mark.parametrize(
    ("near", "expected"),
    [([0, 1, 1], 1), ([2, 1, 1, 2], 2), ([1, 2], 1), ([0, 1, 2], 0), ([2, 0, 0, 1, 1], 0), ([2, 1, 0, 0, 1, 1], 1)],
)
def test_the_majority_wins_and_a_tie_goes_to_the_nearest(near: list[int], expected: int) -> None:
    assert majority(torch.tensor([near]), 3).tolist() == [expected]


def test_good_features_beat_noise_and_the_numbers_fit_together() -> None:
    found = probe(made(WHOLE))
    good, pixels = found.spaces
    assert (found.train, found.val, found.test, found.judged_on) == (90, 30, 60, "test")
    for score, base in ((good.linear, pixels.linear), (good.knn, pixels.knn)):
        assert score.accuracy > 0.7 > 0.6 > base.accuracy
        assert score.interval == wilson(round(score.accuracy * 60), 60)
        assert score.difference == pytest.approx(score.accuracy - base.accuracy)
        assert score.difference_interval is not None
        assert score.difference_interval.low < score.difference < score.difference_interval.high
        assert base.difference is None


def test_test_images_choose_and_train_nothing() -> None:
    """Whatever the labels of test images are, guesses stay: with all of them turned, hits turn too."""
    features = made(WHOLE, noise=0.1)
    labels = features.labels.copy()
    labels[120:] = (labels[120:] + 1) % 3
    turned = probe(replace(features, labels=labels))
    honest = probe(features)
    assert honest.spaces[0].linear.accuracy == honest.spaces[0].knn.accuracy == 1
    assert turned.spaces[0].linear.accuracy == turned.spaces[0].knn.accuracy == 0
    assert turned.spaces[0].linear.setting == honest.spaces[0].linear.setting


@pytest.mark.parametrize(
    ("splits", "judged_on", "sizes"),
    [
        (WHOLE, "test", (90, 30, 60)),
        (["train"] * 90 + ["test"] * 60, "test", (72, 18, 60)),
        (["train"] * 90 + ["val"] * 30, "val", (72, 18, 30)),
        (["train"] * 150, "a held-out 20%", (96, 24, 30)),
        ([""] * 150, "a held-out 20%", (96, 24, 30)),
        (["test"] * 150, "a held-out 20%", (96, 24, 30)),
    ],
)
def test_missing_splits_are_taken_from_others_by_class(splits: list[str], judged_on: str, sizes: tuple[int, ...]) -> None:
    features = made(splits)
    division = divide(features)
    rows = [division.train, division.val, division.test]
    assert (division.judged_on, tuple(map(len, rows))) == (judged_on, sizes)
    assert len(np.unique(np.concatenate(rows))) == sum(sizes) == len(splits)
    for own in rows:
        assert np.ptp(np.bincount(features.labels[own], minlength=3)) == 0
    again, other = divide(features), divide(features, seed=1)
    assert again.train.tolist() == division.train.tolist()
    assert (other.train.tolist() == division.train.tolist()) == (splits == WHOLE)
    assert bool(division.notes) == (splits != WHOLE)


def test_images_without_labels_are_left_out_and_said() -> None:
    features = made(WHOLE)
    labels = features.labels.copy()
    labels[:3] = UNLABELLED
    division = divide(replace(features, labels=labels))
    assert division.train.min() == 3
    assert division.notes == ("3 images without a label are left out",)


def test_a_class_that_is_only_judged_counts_as_wrong_and_is_named() -> None:
    splits = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    labels = [number % 2 for number in range(80)] + [0, 1, 2, 2] * 5
    found = probe(made(splits, labels=labels, noise=0.05))
    assert found.spaces[0].linear.accuracy == found.spaces[0].knn.accuracy == 0.5
    assert found.notes == ("10 images that judge are of classes without training images (cow): always wrong",)


def test_fewer_images_than_neighbours() -> None:
    found = probe(made(["train"] * 6 + ["val"] * 3 + ["test"] * 3))
    assert int(found.spaces[0].knn.setting.split(",")[0][2:]) <= 5


@pytest.mark.parametrize(
    ("labels", "splits", "told"),
    [
        ([UNLABELLED] * 30, ["train"] * 30, "no labels"),
        ([1] * 30, ["train"] * 30, "of one class: bee"),
        ([0, 1], ["train"] * 2, "no images are left to choose"),
        ([1] * 20 + [0] * 10, ["train"] * 20 + ["test"] * 10, "of one class: bee"),
    ],
)
def test_what_cannot_be_learned_is_refused(labels: list[int], splits: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        divide(made(splits, labels=labels))


def test_numbers_that_are_not_finite_are_refused_with_the_image() -> None:
    features = made(WHOLE)
    features.arrays["good"][7, 1] = np.nan
    with pytest.raises(InputError, match=r"7\.png"):
        probe(features)
