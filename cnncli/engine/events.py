"""What training says while it runs. Bars, logs, checkpoints and tests read one stream of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """Once, before the first step."""

    epochs: int
    steps_per_epoch: int
    train_images: int
    val_images: int


@dataclass(frozen=True)
class Progress:
    """A few times a second: means over the epoch so far. accuracy in 0..1. step counts from 1 within the epoch."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """After each epoch's validation. Epochs count from 1; accuracies are in 0..1; val_ fields are None without a val split.

    seconds: of the training steps alone. best: whether this epoch is the best so far (by validation accuracy, then loss).
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float
    best: bool


@dataclass(frozen=True)
class Finished:
    """Once, at the end: the best epoch, and the seconds of the whole training with validation."""

    best: EpochDone
    seconds: float


Event = Started | Progress | EpochDone | Finished
