"""What a model's scores on labelled images are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnncli.engine.calibration import Calibration, calibrate, outcomes, parts
from cnncli.engine.intervals import Interval, mean_interval, wilson

TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """One class: precision, recall and F1 in 0..1 (0 where nothing was predicted or nothing is there), and its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 in 0..1, averaged over classes. f1 is the mean of the classes' F1, not the F1 of the means."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Judgement:
    """top1, top5 in 0..1 (top5 is over min(5, classes) guesses), loss: mean cross-entropy in nats; with 95 % intervals.

    confusion[i][j]: images of class i that were taken for class j. macro: each class that has images counts the same; a class without
    images does not count, as its recall is 0/0 and not 0. weighted: each class counts as its images. balanced_accuracy: the mean recall of
    the classes that have images.
    """

    count: int
    top1: float
    top5: float
    loss: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    top1_interval: Interval
    top5_interval: Interval
    loss_interval: Interval
    macro: Averages
    weighted: Averages
    balanced_accuracy: float
    calibration: Calibration


def judge(scores: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Judgement:
    """Judge scores (N, classes), logits or log-probabilities, against labels (N,), N at least 1.

    The intervals are Wilson's for top1 and top5, and Student's t for the loss, which is never below 0; they hold for images drawn one by
    one from all that the model will meet. That of the loss is 0..inf for one image. Scores that are not numbers leave loss and calibration
    NaN. Classes of equal scores are guessed in their order: see `ranks`.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = np.arange(len(classes))
    truth, predicted = labels.numpy(), scores.argmax(1).numpy()
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    confusion = confusion_matrix(truth, predicted, labels=numbers)
    there = support > 0
    each = np.stack([precision, recall, f1])[:, there]
    macro = Averages(*each.mean(1).tolist())
    count = len(labels)
    first, among = int(confusion.trace()), int((ranks(scores, labels) < TOP).sum())
    told = outcomes(scores, labels)
    spread = mean_interval(told.losses)
    return Judgement(
        count=count,
        top1=first / count,
        top5=among / count,
        loss=told.losses.mean().item(),
        per_class=tuple(
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i])) for i, name in enumerate(classes)
        ),
        confusion=tuple(map(tuple, confusion.tolist())),
        top1_interval=wilson(first, count),
        top5_interval=wilson(among, count),
        loss_interval=Interval(max(0.0, spread.low), spread.high),
        macro=macro,
        weighted=Averages(*(each @ (support[there] / count)).tolist()),
        balanced_accuracy=macro.recall,
        calibration=calibrate(scores, labels, told),
    )


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes are guessed before each image's label, [N] int64, 0..classes-1: 0 is a hit, below 5 one among five.

    Guessed are the higher scores first, and of equal ones the first classes, as `argmax` does. So equal scores are never worth more than
    guesses that do not look at the image: a model that gives all classes the same score is right on the images of the first class alone.
    NaN stands above every number, also as in `argmax`.
    """
    found = torch.empty(len(labels), dtype=torch.int64)
    numbers = torch.arange(scores.shape[1])
    for part in parts(*scores.shape):
        given = scores[part]
        label = labels[part, None]
        own = given.gather(1, label)
        higher, same = given > own, given == own
        if bool(given.amax(1).isnan().any()):
            higher |= given.isnan() & ~own.isnan()
            same |= given.isnan() & own.isnan()
        found[part] = higher.sum(1) + (same & (numbers < label)).sum(1)
    return found
