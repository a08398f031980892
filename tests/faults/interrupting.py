"""Ctrl-C before every line of Python, one after the other, as the handler of a signal may raise it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType


class _Signal:
    """Raises KeyboardInterrupt before the line that is the `left`th from now on, those of the standard library among them."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.came = False

    def __call__(self, _frame: FrameType, event: str, _argument: object) -> _Signal:
        if event == "line":
            self.left -= 1
        if self.left < 0 and not self.came:
            self.came = True
            raise KeyboardInterrupt
        return self


def before_every_line(work: Callable[[], object]) -> Iterator[bool]:
    """Run `work` again and again, interrupted before its first line, its second, ..., at last whole. Yields whether it was."""
    for number in itertools.count():
        before = sys.gettrace()
        sys.settrace(signal := _Signal(number))
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        yield signal.came
        if not signal.came:
            return
