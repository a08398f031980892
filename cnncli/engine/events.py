"""What training says while it runs. Bars, logs, checkpoints and tests read one stream of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """Once, before the first step.

    epochs: how many there will be at most; None where minutes end the training. steps: of the whole training; None likewise.
    epoch, step: where it begins: (1, 0), or later after a resume. first: the epoch that it would begin with without one, which is not 1
    behind earlier stages. history: the epochs of these, and those that an earlier process finished.
    """

    epochs: int | None
    steps: int | None
    minutes: float | None
    steps_per_epoch: int
    train_images: int
    val_images: int
    epoch: int = 1
    step: int = 0
    history: tuple[EpochDone, ...] = ()
    first: int = 1


@dataclass(frozen=True)
class Note:
    """A line for the user: something was chosen or changed for them, such as the precision or a smaller batch."""

    text: str


@dataclass(frozen=True)
class Progress:
    """A few times a second: means over the epoch so far. accuracy in 0..1. step counts from 1 within the epoch.

    done: share of the whole training, 0..1. skipped: steps of this epoch whose loss or gradient was not finite.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    lr: float
    images_per_second: float
    done: float
    skipped: int = 0


@dataclass(frozen=True)
class EpochDone:
    """After each epoch and its validation. Epochs count from 1; the last may be cut short by --steps or --minutes.

    step: steps since the training began. Rates are in 0..1; val_ fields are None where there was no validation.
    lr: of the last step. seconds: of the training steps alone, images_per_second likewise. skipped: as in `Progress`.
    best: whether this epoch is the best so far, by the monitored figure; a tie goes to the later one.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_top5: float | None
    val_macro_f1: float | None
    val_balanced_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float
    best: bool
    skipped: int = 0


@dataclass(frozen=True)
class Paused:
    """The user or the system asked to stop (or to save): the state is that after `step` steps of `epoch`, ready to be saved."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """Once, at the end: the best epoch, the seconds of the whole training with validation, and why it ended early, if it did."""

    best: EpochDone
    seconds: float
    reason: str = ""


Event = Started | Note | Progress | EpochDone | Paused | Finished
