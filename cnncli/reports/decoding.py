"""How far the decoding of images has come: a bar on a terminal, a line now and then elsewhere, nothing where it is quickly done."""

from __future__ import annotations

import time

from cnncli.reports.progress import ProgressReport
from cnncli.reports.terminal import talk


class DecodingReport(ProgressReport):
    """Shows progress on standard error. what: `decoding train images`."""

    def show(self, done: int, total: int) -> None:
        """`done` of `total` images are decoded."""
        now = time.monotonic()
        if self._is_early(now):
            return
        if self._terminal is not None:
            if self._bar is None:
                from rich.progress import Progress

                self._bar = Progress(console=self._terminal, transient=True)
                self._bar.add_task(self._what)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif done < total and self._is_due(now):
            left = (now - self._began) * (total - done) / max(done, 1)
            talk(f"{self._what}: {done:,} of {total:,}, {left:,.0f} s left")
