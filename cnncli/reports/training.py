"""Training on the terminal: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TextIO

from cnncli.engine.events import EpochDone, Event, Finished, Note, Progress, Started
from cnncli.errors import printable
from cnncli.reports.curves import draw_curves
from cnncli.reports.live import ROWS, Standing, Trace, duration, epoch_of, frame, glyphs_for
from cnncli.reports.terminal import NARROWEST, console, silence, talk, width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

__all__ = ["TrainingReport", "draw_curves", "epoch_line"]

SECONDS_BETWEEN_LINES = 30.0  # within a long epoch, where there is no terminal for a view
SECONDS_BETWEEN_FRAMES = 0.25
LARGEST_SHARE = 0.01  # of the training's time that goes into drawing
LONGEST_WAIT = 2.0  # seconds to the next frame, however long one takes


class _Point(NamedTuple):
    """A share of the training, and when it was done by the monotonic clock."""

    done: float
    at: float


class TrainingReport:
    """Shows events on standard error as they come, and remembers the epochs, those before a resume included."""

    def __init__(self) -> None:
        self.epochs: list[EpochDone] = []
        self._started: Started | None = None
        self._standing = Standing()
        self._last_line = time.monotonic()
        self._origin: _Point | None = None  # from where the speed of the training is reckoned
        self._view = open_view(sys.stderr)
        self._above = 0  # epochs that stand above the view, or were told by an earlier process

    def __enter__(self) -> Self:
        if self._view is not None:
            self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Note):
            self._say(event.text)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, Finished):
            self._close()
            count = f"{len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'}"
            early = f", ended early: {event.reason}" if event.reason else ""
            self._say(f"trained {count} in {duration(event.seconds)}{early}")

    def _start(self, event: Started) -> None:
        self._started = event
        self.epochs = list(event.history)
        self._above = len(self.epochs)
        self._standing = Standing(event.epochs, event.steps_per_epoch, rows=self.epochs, trace=Trace())
        for row in event.history:
            self._standing.trace.add(row.step, row.train_loss)
        images = f"{event.train_images:,} training images, {event.val_images:,} validation images"
        length = f", for {event.minutes:g} min" if event.minutes else ""
        self._say(f"{images}, {event.steps_per_epoch} step{'s' if event.steps_per_epoch != 1 else ''} an epoch{length}")
        if event.step or event.epoch > event.first:
            self._say(f"resumed at epoch {event.epoch}" + (f" step {event.step}" if event.step else ""))
        else:
            self._origin = _Point(0.0, time.monotonic())
        self._say("below: loss and accuracy on each, * marks the best epoch so far")

    def _progress(self, event: Progress) -> None:
        now = time.monotonic()
        if self._origin is None or self._origin.done == 0:
            self._origin = _Point(event.done, now)  # whatever came before the first step is not repeated
        standing = self._standing
        standing.progress = event
        if self._view is not None:
            standing.trace.add((event.epoch - 1) * standing.steps_per_epoch + event.step, event.loss)
            if self._view.is_due(now):
                standing.left = self._seconds_left(event.done, now)
                self._draw()
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._say(self._within_epoch(event))

    def _within_epoch(self, event: Progress) -> str:
        line = f"epoch {epoch_of(event.epoch, self._standing.epochs).strip()}  loss {event.loss:.4f}  accuracy {event.accuracy:.1%}"
        line += f"  {event.images_per_second:,.0f} images/s  step {event.step}/{self._standing.steps_per_epoch}"
        return line + (f"  {event.skipped} skipped" if event.skipped else "")

    def _epoch(self, event: EpochDone) -> None:
        self.epochs.append(event)
        now = time.monotonic()
        if self._view is not None:
            if self._view.is_due(now):
                self._standing.left = self._seconds_left(self._done(event), now)
                self._draw()
            return
        left = self._seconds_left(self._done(event), now)
        self._say(f"{self._line(event)}  {'' if left is None or left < 1 else f'{duration(left)} left'}".rstrip())

    def _line(self, event: EpochDone) -> str:
        return epoch_line(event, self._standing.epochs, validates=bool(self._started and self._started.val_images))

    def _done(self, event: EpochDone) -> float:
        """The share of the training that is done after this epoch."""
        if self._started and self._started.steps:
            return event.step / self._started.steps
        return self._standing.progress.done if self._standing.progress else 0.0

    def _seconds_left(self, done: float, now: float) -> float | None:
        if self._origin is None or done <= self._origin.done:
            return None
        return max(now - self._origin.at, 0.0) * max(1 - done, 0.0) / (done - self._origin.done)

    def _draw(self) -> None:
        """Draw the view, and above it, as lines that stay, the epochs that have left its table."""
        if self._view is not None:
            end = max(len(self.epochs) - ROWS, self._above)
            self._view.draw(self._standing, self._lines(end))
            self._above = end  # only now: a line that Ctrl-C cut off comes again

    def _lines(self, end: int) -> list[str]:
        return [self._line(event) for event in self.epochs[self._above : end]]

    def _close(self) -> None:
        """Take the view away and leave its epochs as lines."""
        if self._view is None:
            return
        self._view.stop()
        self._view = None
        for line in self._lines(len(self.epochs)):
            self._say(line)

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self._view is None:
            talk(line)
        else:
            self._view.say(line)


def epoch_line(event: EpochDone, epochs: int | None, *, validates: bool = False) -> str:
    """One line for a finished epoch: loss and accuracy on both splits, `*` for the best so far.

    epochs: how many there will be, if that is known. validates: whether other epochs have a validation, so that room is left for it.
    """
    line = f"epoch {epoch_of(event.epoch, epochs)}  train {event.train_loss:.4f} {event.train_accuracy:6.1%}"
    val = ""
    if event.val_accuracy is not None and event.val_loss is not None:
        val = f"  val {event.val_loss:.4f} {event.val_accuracy:6.1%}{' *' if event.best else '  '}"
    skipped = f"  {event.skipped} skipped" if event.skipped else ""
    return f"{line}{val or (' ' * 21 if validates else '')}  {event.images_per_second:,.0f} images/s{skipped}"


class _Unbreakable:
    """A stream to a terminal that may go away, which is no reason to stop; rich would end the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_view(stream: TextIO | None) -> View | None:
    """A live view where the stream is a terminal that can move its cursor and is wide enough, else None."""
    if stream is None or stream.closed or not stream.isatty():
        return None
    with suppress(OSError, ValueError):  # no file with a number
        if 0 < os.get_terminal_size(stream.fileno()).columns < NARROWEST:
            return None
    terminal = console(_Unbreakable(stream))  # type: ignore[arg-type]
    if not terminal.is_terminal or terminal.is_dumb_terminal:
        return None
    return View(terminal)


class View:
    """Draws how a training stands at the bottom of a terminal, from the thread that trains: seldom enough to cost it nothing."""

    def __init__(self, terminal: Console) -> None:
        from rich.live import Live

        self._terminal = terminal
        self._glyphs = glyphs_for(terminal.encoding)
        # What others write to standard error, such as a warning, goes above the view; standard output is not ours.
        self._live: Live = Live(console=terminal, auto_refresh=False, transient=True, redirect_stdout=False, vertical_overflow="crop")
        self._next = 0.0

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()
        self._terminal.show_cursor(show=True)  # a training that is killed leaves it

    def stop(self) -> None:
        """Take the view off the terminal."""
        self._live.stop()

    def is_due(self, now: float) -> bool:
        """Whether the next frame may be drawn."""
        return now >= self._next

    def draw(self, standing: Standing, above: list[str]) -> None:
        """Draw a frame below lines that stay, and see to it that drawing takes no more than its share of the time."""
        from rich.text import Text

        began = time.monotonic()
        self._terminal.width = width()
        self._live.update(frame(standing, self._terminal.width, self._terminal.size.height, self._glyphs))
        if above:
            self._terminal.print(Text("\n".join(map(printable, above)), overflow="fold"))  # draws the view below it, too
        else:
            self._live.refresh()
        ended = time.monotonic()
        self._next = ended + min(max(SECONDS_BETWEEN_FRAMES, (ended - began) / LARGEST_SHARE), LONGEST_WAIT)

    def say(self, line: str) -> None:
        """A line that stays, above the view."""
        from rich.text import Text

        self._terminal.print(Text(printable(line), overflow="fold"))
