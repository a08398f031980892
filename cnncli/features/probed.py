"""What probes of features found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnncli.engine.intervals import Interval
    from cnncli.features.feature_set import Kind


@dataclass(frozen=True)
class Score:
    """A classifier on the images it is judged on. Rates in 0..1, intervals of 95 %.

    setting: what was chosen on the validation images, in words: `penalty 0.001`, `k 5, cosine`. difference: this accuracy less that of
    the same classifier on pixels, in -1..1, with its interval and the p-value of McNemar's test; None where there are no pixels.
    """

    accuracy: float
    interval: Interval
    setting: str
    difference: float | None = None
    difference_interval: Interval | None = None
    p: float | None = None


@dataclass(frozen=True)
class ProbedSpace:
    """One space: its name and kind (see `Space`), the numbers of an image, and both classifiers."""

    name: str
    kind: Kind
    size: int
    linear: Score
    knn: Score


@dataclass(frozen=True)
class Probed:
    """All spaces, in the order of the features. train, val, test: numbers of images; val chose, test judged. notes: on the images."""

    spaces: tuple[ProbedSpace, ...]
    train: int
    val: int
    test: int
    classes: int
    judged_on: str
    notes: tuple[str, ...]
