"""Requests from outside to stop or to save, and when they are heard: between two steps, or while nothing is being changed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = {name: getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)}


class Pressed(BaseException):
    """A stop was asked for where it can be heeded at once. No Exception, so that no handler of errors swallows it."""


class Pause:
    """What was asked for, and what is to be heeded now: `stop`, the signal that ends the training, and `save`.

    Several processes must heed the same things at the same step. What one of them hears (`heard`, `asked`) becomes `stop` and `save` of all
    when they agree on it, once a step; a process that is alone agrees at once.
    save_every: seconds after which a saved state is due, by a monotonic clock; 0 for at every step, None for never.
    """

    def __init__(self, save_every: float | None = None) -> None:
        self.stop: int | None = None
        self.save = False
        self.heard: int | None = None
        self.asked = False
        self.hurry = False  # a second request to stop: nothing more is written
        self._pressed = False
        self.save_every = save_every
        self.alone = True  # with others, all must stop at the same step, and none may leave it in the middle
        self._saved_at = time.monotonic()
        self._open = False

    def saved(self) -> None:
        """A state was saved just now."""
        self.save = self.asked = False
        self._saved_at = time.monotonic()

    def pending(self) -> bool:
        """Whether a state should be saved before the next step."""
        due = self.save_every is not None and time.monotonic() - self._saved_at >= self.save_every
        return self.stop is not None or self.heard is not None or self.asked or due

    def agree(self, stop: int | None, *, save: bool) -> None:
        """What all processes heed before the next step. What was heard while they agreed is not in it, and waits for the next time."""
        self.stop, self.save = stop, save

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a request to stop raises Pressed at once: nothing that is saved changes there."""
        self._open = True  # first: a signal between the two lines is heard by one of them
        try:
            if self.alone and self.stop is not None:
                raise Pressed
            yield
        finally:
            self._open = False

    def press(self, number: int, _frame: FrameType | None = None) -> None:
        """The handler of signals: the first that stops is noted, a second one ends everything at once, without another look at files."""
        if number == getattr(signal, "SIGUSR1", None):
            self.asked = True
            return
        if self._pressed:
            self.hurry = True
            raise KeyboardInterrupt if self.heard == signal.SIGINT else SystemExit(128 + (self.heard or number))
        self._pressed = True  # others may have heard theirs first, and this process of it: that is no second one
        self.heard = number
        if self.alone:
            self.stop = number
        if self._open and self.alone:
            raise Pressed

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, signals are requests: SIGTERM, SIGINT and SIGHUP to stop, SIGUSR1 to save."""
        numbers = [*STOPS.values(), *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
        before = {number: signal.signal(number, self.press) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
