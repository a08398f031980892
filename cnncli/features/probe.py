"""How well classes can be told by features: a linear classifier and nearest neighbours, on each space of a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnncli.engine.intervals import wilson
from cnncli.engine.paired import compare_hits
from cnncli.engine.solve import LinearHead, choose
from cnncli.errors import InputError, printable
from cnncli.features.feature_set import UNLABELLED, FeatureSet
from cnncli.features.nearest import METRICS, Metric, nearest
from cnncli.features.probed import Probed, ProbedSpace, Score

NEIGHBOURS = (1, 3, 5, 10, 20, 50)  # numbers of them that validation chooses from
SHARE = 0.2  # of each class, that stands for a split that is missing
ROWS = 4096  # images whose scores are computed at a time
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # a decade apart: on CIFAR-10 half decades found the same accuracies in four times the time
CLOSE = 1e-4  # nats from the minimum, which no image's class hangs on

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """Rows of a set. val chooses the penalty and k, test judges, train trains; no row is in two. judged_on: in words, what test is."""

    train: Rows
    val: Rows
    test: Rows
    judged_on: str
    notes: tuple[str, ...]


def divide(features: FeatureSet, seed: int = 0) -> Division:
    """The splits of a set, labelled images alone; those that are missing are taken from others, a fifth of each class, drawn by the seed.

    Without test images it is judged on the validation images, and others, of the training images, choose. Of training images alone, and of
    a set without them, both fifths are taken from all. InputError: no labels, or training images of one class only.
    """
    labels = features.labels
    labelled = labels != UNLABELLED
    if not labelled.any():
        raise InputError("the features have no labels, so there is nothing to learn", "take them of images in folders by class")
    train, val, test = (rows[labelled[rows]] for rows in map(features.rows_of, ("train", "val", "test")))
    everything = np.flatnonzero(labelled).astype(np.int64)
    notes = [] if labelled.all() else [f"{int((~labelled).sum()):,} images without a label are left out"]
    draw = np.random.default_rng(seed)
    judged_on = "test"
    if not len(train) or not (len(val) or len(test)):
        rest, test = _share(everything, labels, draw)
        train, val = _share(rest, labels, draw)
        judged_on = f"a held-out {SHARE:.0%}"
        notes.append(f"the images are of one split: {SHARE:.0%} of each class judge, and {SHARE:.0%} of the others choose (seed {seed})")
    elif not len(val) or not len(test):
        if not len(test):
            test, judged_on = val, "val"
        train, val = _share(train, labels, draw)
        missing = "there are no test images; " if judged_on == "val" else "there are no validation images; "
        notes.append(f"{missing}{SHARE:.0%} of each class of the training images choose the penalty and k (seed {seed})")
    return _checked(Division(train, val, test, judged_on, tuple(notes)), features)


def probe(features: FeatureSet, *, seed: int = 0, on_space: Callable[[str], None] = lambda _name: None) -> Probed:
    """Both classifiers on every space of a set, judged on the same images.

    Linear: multinomial logistic regression, solved to within 1e-4 nats of its minimum, with the penalty of least loss on the validation
    images (see `cnncli.engine.solve.choose`). kNN: the majority of the k nearest training images, by l2 or cosine, a tie going to the
    nearest; k and the distance of the highest accuracy on the validation images, the smaller k where it is equal. Both learn from training
    images alone. Images of classes without training images count as wrong. One space at a time is in memory.

    InputError as in `divide`, and for features that are not finite.
    """
    division = divide(features, seed)
    found: list[ProbedSpace] = []
    hits: dict[str, tuple[Tensor, Tensor]] = {}
    for space in features.spaces:
        on_space(space.name)
        train, val, test = (
            Part(torch.from_numpy(features.matrix(space.name, rows)), torch.from_numpy(features.labels[rows]))
            for rows in (division.train, division.val, division.test)
        )
        guesses, penalty = linear_guesses(train, val, test, len(features.classes))
        voted, setting = knn_guesses(train, val, test, len(features.classes))
        hits[space.name] = guesses == test.labels, voted == test.labels
        linear, knn = (_score(own, told) for own, told in zip(hits[space.name], (f"penalty {penalty:.2g}", setting), strict=True))
        found.append(ProbedSpace(space.name, space.kind, space.size, linear, knn))
    pixels = next((space.name for space in features.spaces if space.kind == "pixels"), None)
    if pixels is not None:
        found = [_beside(one, hits[one.name], hits[pixels]) if one.name != pixels else one for one in found]
    train_images, val_images, test_images = map(len, (division.train, division.val, division.test))
    return Probed(tuple(found), train_images, val_images, test_images, len(features.classes), division.judged_on, division.notes)


@dataclass(frozen=True)
class Part:
    """matrix: float32 [N, D]. labels: int64 [N]."""

    matrix: Tensor
    labels: Tensor


def linear_guesses(train: Part, val: Part, test: Part, classes: int) -> tuple[Tensor, float]:
    """int64 [N], the class that each test image is given; and the penalty."""
    head = choose((train.matrix, train.labels), (val.matrix, val.labels), classes, penalties=PENALTIES, close=CLOSE).best
    return _guessed(head, test.matrix), head.penalty


def knn_guesses(train: Part, val: Part, test: Part, classes: int) -> tuple[Tensor, str]:
    """int64 [N], the class that each test image is given; and k with the distance."""
    ks = [k for k in NEIGHBOURS if k <= len(train.labels)]
    best: tuple[float, int, Metric] | None = None
    for metric in METRICS:
        near = train.labels[nearest(val.matrix, train.matrix, ks[-1], metric=metric).indices]
        for k in ks:
            accuracy = float((majority(near[:, :k], classes) == val.labels).double().mean())
            if best is None or (accuracy, -k) > (best[0], -best[1]):
                best = accuracy, k, metric
    assert best is not None
    _, k, metric = best
    near = train.labels[nearest(test.matrix, train.matrix, k, metric=metric).indices]
    return majority(near, classes), f"k {k}, {metric}"


def majority(near: Tensor, classes: int) -> Tensor:
    """The most frequent label of each row of near, int64 [N, k], the nearest first; of equally frequent ones that of the nearest."""
    k = near.shape[1]
    votes = torch.zeros(len(near), classes, dtype=torch.int64)
    votes.scatter_add_(1, near, torch.full_like(near, k + 1))
    place = torch.arange(k, 0, -1).expand_as(near).contiguous()  # k for the nearest: below what a vote counts
    first = torch.zeros_like(votes).scatter_reduce_(1, near, place, "amax")
    return (votes + first).argmax(1)


def _guessed(head: LinearHead, matrix: Tensor) -> Tensor:
    parts = [(rows.double() @ head.weight.T + head.bias).argmax(1) for rows in torch.split(matrix, ROWS)]
    return torch.cat(parts)


def _score(hits: Tensor, setting: str) -> Score:
    right, count = int(hits.sum()), len(hits)
    return Score(right / count, wilson(right, count), setting)


def _beside(one: ProbedSpace, own: tuple[Tensor, Tensor], pixels: tuple[Tensor, Tensor]) -> ProbedSpace:
    """With the differences to the same classifiers on pixels."""

    def compared(score: Score, hits: Tensor, base: Tensor) -> Score:
        paired = compare_hits(base, hits)
        return replace(score, difference=paired.difference, difference_interval=paired.interval, p=paired.p)

    return replace(one, linear=compared(one.linear, own[0], pixels[0]), knn=compared(one.knn, own[1], pixels[1]))


def _share(rows: Rows, labels: npt.NDArray[np.int64], draw: np.random.Generator) -> tuple[Rows, Rows]:
    """(the others, a share of each class), both rising; one image at least of a class that has two."""
    taken: list[Rows] = []
    for label in np.unique(labels[rows]):
        own = rows[labels[rows] == label]
        count = max(round(SHARE * len(own)), min(1, len(own) - 1))
        taken.append(draw.permutation(own)[:count])
    share = np.sort(np.concatenate(taken)) if taken else rows[:0]
    return np.setdiff1d(rows, share), share


def _checked(division: Division, features: FeatureSet) -> Division:
    labels, names = features.labels, features.classes
    trained = np.unique(labels[division.train])
    if len(trained) < 2:
        only = f" of one class: {printable(names[int(trained[0])])}" if len(trained) else " missing"
        raise InputError(f"the training images are{only}", "a classifier needs images of two classes or more")
    for rows, what in ((division.val, "choose the penalty"), (division.test, "judge")):
        if not len(rows):
            raise InputError(f"no images are left to {what}", "give more images of each class")
    return replace(division, notes=(*division.notes, *_untrained(labels[division.test], trained, names)))


def _untrained(judged: npt.NDArray[np.int64], trained: npt.NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """What is said where images that judge are of classes that cannot be learned."""
    lost = np.setdiff1d(judged, trained)
    if not len(lost):
        return []
    count = int(np.isin(judged, lost).sum())
    listed = ", ".join(printable(names[int(label)]) for label in lost[:3]) + (", ..." if len(lost) > 3 else "")
    return [f"{count:,} images that judge are of classes without training images ({listed}): always wrong"]
