"""How far an iteration has come, and how long it will take at its recent pace: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from cnncli.reports.terminal import console, talk

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SILENT = 1.0  # seconds before anything is shown
SECONDS_BETWEEN_LINES = 15.0
RECENT = 50  # iterations that the pace is of: the first ones wait for compilers and caches, and later ones differ from early ones


class IterationReport:
    """Shows progress on standard error. what: `t-SNE of fc7`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._last_line = time.monotonic()
        self._seen: deque[tuple[int, float]] = deque()
        terminal = console(sys.stderr)
        self._terminal = terminal if terminal.is_terminal and not terminal.is_dumb_terminal else None
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """`done` of `total` iterations are done."""
        now = time.monotonic()
        left = self._left(done, total, now)
        if now - self._began < SILENT:
            return
        if self._terminal is not None:
            self._draw(done, total, left)
        elif left is not None and now - self._last_line >= SECONDS_BETWEEN_LINES and done < total:
            self._last_line = now
            talk(f"{self._what}: {done:,} of {total:,} iterations, {left}")

    def _left(self, done: int, total: int, now: float) -> str | None:
        """None before RECENT iterations are done."""
        self._seen.append((done, now))
        while len(self._seen) > 1 and self._seen[1][0] <= done - RECENT:
            self._seen.popleft()
        before, then = self._seen[0]
        if done - before < RECENT:
            return None
        seconds = (now - then) * (total - done) / (done - before)
        return f"{seconds / 60:,.0f} min left" if seconds >= 120 else f"{seconds:,.0f} s left"

    def _draw(self, done: int, total: int, left: str | None) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, Progress, TextColumn

            words = (TextColumn("{task.completed:,}/{task.total:,}"), TextColumn("{task.fields[left]}"))
            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), *words, console=self._terminal, transient=True
            )
            self._bar.add_task(self._what, total=total, left="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, left=left or "")
