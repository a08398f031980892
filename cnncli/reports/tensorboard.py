"""Training as TensorBoard shows it: event files that `tensorboard --logdir runs` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from cnncli.engine.events import EpochDone, Event, Progress, Started
from cnncli.errors import EnvironmentFault

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Field of EpochDone: name of the chart. What stands before the slash groups charts.
CHARTS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "val_top5": "top5/val",
    "val_macro_f1": "macro_f1/val",
    "val_balanced_accuracy": "balanced_accuracy/val",
    "epoch": "progress/epoch",
    "skipped": "progress/skipped",
}
LR, SPEED = "progress/lr", "progress/images_per_second"


class TensorBoardLog:
    """Writes events into a folder, all over the steps since the training began, so that charts of several runs lie over each other.

    A log that is there already goes on: what it says of steps after the place where the training resumes is hidden by TensorBoard.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is written before the training starts. EnvironmentFault when the package is missing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise EnvironmentFault("the package tensorboard is missing", "pip install 'cnncli[tensorboard]'") from error
        self._make = SummaryWriter
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._steps_per_epoch = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, event: Event) -> None:
        """Write what there is to write of an event. EnvironmentFault when the disk does not allow it."""
        try:
            if isinstance(event, Started):
                self._start(event)
            elif self._writer is not None and isinstance(event, Progress):
                step = (event.epoch - 1) * self._steps_per_epoch + event.step
                self._writer.add_scalar(LR, event.lr, step)
                self._writer.add_scalar(SPEED, event.images_per_second, step)
            elif self._writer is not None and isinstance(event, EpochDone):
                for name, chart in CHARTS.items():
                    if (value := getattr(event, name)) is not None:
                        self._writer.add_scalar(chart, value, event.step)
                self._writer.add_scalar(LR, event.lr, event.step)
                self._writer.flush()  # a look at the log shows whole epochs
        except OSError as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Write what is still held back, and end. Safe to call twice."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                raise self._fault(error) from error

    def _start(self, event: Started) -> None:
        self.close()
        self._steps_per_epoch = event.steps_per_epoch
        begun = (event.epoch - 1) * event.steps_per_epoch + event.step
        # The first step that is written anew; what an overwritten run left is hidden as a whole.
        first = begun + 1 if begun else 0
        continues = self._folder.is_dir() and any(self._folder.iterdir())
        self._writer = self._make(str(self._folder), purge_step=first if continues else None)

    def _fault(self, error: OSError) -> EnvironmentFault:
        reason = error.strerror or str(error)
        return EnvironmentFault(
            f"cannot write TensorBoard's log {self._folder}: {reason}", "free space, or train without --tensorboard", path=str(self._folder)
        )
