"""What a model's scores on labelled images are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class ClassScore:
    """One class: precision, recall and F1 in 0..1 (0 where nothing was predicted or nothing is there), and its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Judgement:
    """top1, top5 in 0..1 (top5 is over min(5, classes) guesses), loss: mean cross-entropy in nats.

    confusion[i][j]: images of class i that were taken for class j.
    """

    count: int
    top1: float
    top5: float
    loss: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


def judge(scores: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> Judgement:
    """Judge scores (N, classes) against labels (N,), N at least 1."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = np.arange(len(classes))
    guesses = scores.topk(min(5, len(classes)), dim=1).indices
    truth, predicted = labels.numpy(), guesses[:, 0].numpy()
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=numbers, zero_division=0)
    confusion = confusion_matrix(truth, predicted, labels=numbers)
    hits = guesses == labels[:, None]
    return Judgement(
        count=len(labels),
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item(),
        loss=functional.cross_entropy(scores.double(), labels).item(),
        per_class=tuple(
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i])) for i, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )
