"""How far an iteration has come, and how long it will take at its recent pace: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque

from cnncli.reports.progress import ProgressReport
from cnncli.reports.terminal import talk

RECENT = 50  # iterations that the pace is of: the first ones wait for compilers and caches, and later ones differ from early ones


class IterationReport(ProgressReport):
    """Shows progress on standard error. what: `t-SNE of fc7`."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._seen: deque[tuple[int, float]] = deque()

    def show(self, done: int, total: int) -> None:
        """`done` of `total` iterations are done."""
        now = time.monotonic()
        left = self._left(done, total, now)
        if self._is_early(now):
            return
        if self._terminal is not None:
            self._draw(done, total, left)
        elif left is not None and done < total and self._is_due(now):
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
