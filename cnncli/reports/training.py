"""Training on the terminal and as a picture: a live bar on a terminal, plain lines elsewhere, curves as a PNG."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cnncli.engine.events import EpochDone, Event, Finished, Progress, Started
from cnncli.reports.pictures import write_picture
from cnncli.reports.terminal import console, talk

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 30.0  # within a long epoch, where there is no terminal to move a bar on


class TrainingReport:
    """Shows events on standard error as they come, and remembers the epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochDone] = []
        self._started: Started | None = None
        self._began = self._last_line = time.monotonic()
        terminal = console(sys.stderr)
        self._bar = _bar(terminal) if terminal.is_terminal and not terminal.is_dumb_terminal else None
        self._task = self._bar.add_task("", total=None, facts="") if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Started):
            self._started = event
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, total=event.epochs * event.steps_per_epoch)
            images = f"{event.train_images:,} training images, {event.val_images:,} validation images"
            self._say(f"{images}, {event.steps_per_epoch} steps an epoch")
            self._say("below: loss and accuracy on each, * marks the best epoch so far")
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, EpochDone):
            self.epochs.append(event)
            self._advance(event.epoch * self._steps())
            left = "" if self._bar is not None else _left(self._seconds_left(event))  # the bar shows it
            self._say(f"{epoch_line(event, self._epochs())}  {left}".rstrip())
        elif isinstance(event, Finished):
            self._say(f"trained {len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'} in {_duration(event.seconds)}")

    def _steps(self) -> int:
        return self._started.steps_per_epoch if self._started else 1

    def _epochs(self) -> int:
        return self._started.epochs if self._started else 1

    def _seconds_left(self, event: EpochDone) -> float:
        done = event.epoch / self._epochs()
        return (time.monotonic() - self._began) * (1 - done) / done

    def _progress(self, event: Progress) -> None:
        facts = f"epoch {event.epoch}/{self._epochs()}  loss {event.loss:.4f}  accuracy {event.accuracy:.1%}"
        facts += f"  {event.images_per_second:,.0f} images/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=(event.epoch - 1) * self._steps() + event.step, facts=facts)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._say(f"{facts}  step {event.step}/{self._steps()}")

    def _advance(self, steps: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=steps)

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self._bar is None:
            talk(line)
        else:
            self._bar.console.print(line)


def _bar(terminal: object) -> Bar:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    return Bar(*columns, console=terminal, transient=True)  # type: ignore[arg-type]


def epoch_line(event: EpochDone, epochs: int) -> str:
    """One line for a finished epoch: loss and accuracy on both splits, `*` for the best so far; 80 columns with the time left."""
    digits = len(str(epochs))
    line = f"epoch {event.epoch:>{digits}}/{epochs}  train {event.train_loss:.4f} {event.train_accuracy:6.1%}"
    if event.val_accuracy is not None:
        line += f"  val {event.val_loss:.4f} {event.val_accuracy:6.1%}{' *' if event.best else '  '}"
    return f"{line}  {event.images_per_second:,.0f} images/s"


def _left(seconds: float) -> str:
    return f"{_duration(seconds)} left" if seconds >= 1 else ""


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def draw_curves(path: Path, epochs: Sequence[EpochDone], title: str) -> None:
    """Loss and accuracy over the epochs, training and validation, the best epoch marked, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    numbers = [e.epoch for e in epochs]
    marker = "o" if len(epochs) < 3 else ""  # a line through one point cannot be seen
    series = (
        (loss_axes, "cross-entropy loss", [e.train_loss for e in epochs], [e.val_loss for e in epochs]),
        (accuracy_axes, "accuracy", [e.train_accuracy for e in epochs], [e.val_accuracy for e in epochs]),
    )
    best = next((e for e in reversed(epochs) if e.best), None)
    for axes, label, train, val in series:
        axes.plot(numbers, train, color="#4477aa", marker=marker, label="training")
        if all(v is not None for v in val):
            axes.plot(numbers, val, color="#cc6677", marker=marker, label="validation")
        if best is not None:
            axes.axvline(best.epoch, color="0.6", linewidth=0.8, linestyle="--", zorder=0, label=f"best: epoch {best.epoch}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(visible=True, color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss_axes.set_ylim(bottom=0)
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    accuracy_axes.legend(frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=11)
    write_picture(path, figure)
