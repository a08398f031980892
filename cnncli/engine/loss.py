"""The loss: cross-entropy, smoothed, weighed by class, of mixed labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cnncli.data.augmenting.mixing import Mixed


@dataclass(frozen=True)
class Loss:
    """smoothing: the share of each label that is spread over all classes (Szegedy et al. 2015, section 7).

    weights: [classes], what an image of each class counts; None for 1. With weights that are N / (classes * n_c), those of an epoch
    average 1, so that the rate need not change.
    """

    smoothing: float = 0.0
    weights: Tensor | None = None

    def sum(self, scores: Tensor, labels: Tensor, mixed: Mixed | None = None) -> Tensor:
        """The losses of scores (N, classes) with labels (N,), added up.

        With weight w, a mixed image's loss is w * CE(own label) + (1 - w) * CE(partner's label): cross-entropy is linear in the labels, so
        this is that of the mixed label, smoothed or not (Zhang et al. 2017, section 2).
        """
        if mixed is None and self.weights is None:
            return functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=self.smoothing)
        own = self._each(scores, labels)
        if mixed is None:
            return own.sum()
        return (mixed.weight * own + (1 - mixed.weight) * self._each(scores, mixed.labels)).sum()

    def _each(self, scores: Tensor, labels: Tensor) -> Tensor:
        each = functional.cross_entropy(scores, labels, reduction="none", label_smoothing=self.smoothing)
        return each if self.weights is None else each * self.weights[labels]


def balanced_weights(counts: Tensor) -> Tensor:
    """N / (classes * n_c) for the counts n_c of each class's images, 0 where there are none: float32 [classes]."""
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0).float()
