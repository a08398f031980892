"""What finetuning is compared with: the classifier alone, the deepest block, everything, and the same net from scratch; as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from cnncli.engine.intervals import Interval
from cnncli.engine.paired import Paired

METHODS = ("classifier", "deepest block", "everything", "from scratch")


@dataclass(frozen=True)
class Outcome:
    """One method on one number of images.

    per_class: training images of each class; None for all there are. images: training images, in the mean over folds. tested: images that
    it was measured on, over all folds, none of which was used for any choice. accuracy: 0..1 of these. seconds: of training, mean over
    folds, with what it took to compute features. trained: learnable numbers. against: `everything` minus this one, on the same images; None
    for itself.
    """

    method: str
    per_class: int | None
    images: int
    tested: int
    accuracy: float
    interval: Interval
    seconds: float
    trained: int
    against: Paired | None = None


@dataclass(frozen=True)
class Comparison:
    """model, data: names. folds: of the cross-validation; 1 where a test split was measured on. outcomes: by images, then by method."""

    model: str
    data: str
    folds: int
    outcomes: tuple[Outcome, ...]
