"""How far something has come: what reports of it share. Nothing is shown where it is quickly done."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from cnncli.reports.terminal import console

if TYPE_CHECKING:
    from rich.progress import Progress

SILENT = 1.0  # seconds before anything is shown
SECONDS_BETWEEN_LINES = 15.0


class ProgressReport:
    """Shows progress on standard error. what: `decoding train images`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._last_line = time.monotonic()
        terminal = console(sys.stderr)
        self._terminal = terminal if terminal.is_terminal and not terminal.is_dumb_terminal else None
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _is_early(self, now: float) -> bool:
        """Whether nothing is to be shown yet."""
        return now - self._began < SILENT

    def _is_due(self, now: float) -> bool:
        """Whether it is time for another line, where there is no terminal."""
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        return True
