"""How far the decoding of images has come: a bar on a terminal, a line now and then elsewhere, nothing where it is quickly done."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from cnncli.reports.terminal import console, talk

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SILENT = 1.0  # seconds before anything is shown
SECONDS_BETWEEN_LINES = 15.0


class DecodingReport:
    """Shows progress on standard error. what: `decoding train images`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._last_line = time.monotonic()
        terminal = console(sys.stderr)
        self._terminal = terminal if terminal.is_terminal and not terminal.is_dumb_terminal else None
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """`done` of `total` images are decoded."""
        now = time.monotonic()
        if now - self._began < SILENT:
            return
        if self._terminal is not None:
            if self._bar is None:
                from rich.progress import Progress as Bar

                self._bar = Bar(console=self._terminal, transient=True)
                self._bar.add_task(self._what)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES and done < total:
            self._last_line = now
            left = (now - self._began) * (total - done) / max(done, 1)
            talk(f"{self._what}: {done:,} of {total:,}, {left:,.0f} s left")
