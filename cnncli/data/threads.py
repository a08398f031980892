"""Work that a few threads share: how many, results in order, and results that may take only so long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cnncli.errors import CnnError, printable

LEAVING = 2.0  # seconds that tasks have to finish after Ctrl-C or an error: many times what a few large photos take
PIECE = 0.5  # seconds of waiting between two looks at the clock, and at signals where waiting itself does not notice them
MOST_THREADS = 8  # decoding leaves the interpreter's lock, but beyond this the threads wait for it all the same

Result = TypeVar("Result")


def usual_threads() -> int:
    """A thread for each core that this process may use, up to MOST_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, cores))


def in_order(task: Callable[[int], Result], starts: Iterable[int], threads: int) -> Iterator[Result]:
    """`task` of every start, by a few threads; results in the order of the starts. After an error or Ctrl-C the rest is not begun."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            yield from pool.map(task, starts)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Stalled(CnnError):
    """Reading takes longer than it may. A thread may hang for ever, and Python waits for its threads at the end: os._exit does not."""

    def __init__(self, path: str, seconds: float) -> None:
        message = f"reading images stalls: {printable(path)} takes longer than {seconds:g} s"
        super().__init__(message, "check the disk or network; --stall-timeout SECONDS waits longer", path=path)


def finish_by(task: Future[Result], ends: float | None) -> Result:
    """The task's result, or its error. TimeoutError, not by the task, once time.monotonic() is past `ends`; None waits for ever.

    Signal handlers that raise interrupt it.
    """
    while not task.done():
        left = PIECE if ends is None else min(PIECE, ends - time.monotonic())
        if left <= 0:
            raise TimeoutError
        wait((task,), timeout=left)
    return task.result()


def leave(pool: ThreadPoolExecutor, tasks: Iterable[Future[Result]], seconds: float) -> None:
    """End a pool: what is not begun is dropped, and what is gets so many seconds to finish; its threads are left alone after that."""
    pool.shutdown(wait=False, cancel_futures=True)
    if not wait([task for task in tasks if not task.done()], timeout=seconds).not_done:
        pool.shutdown(wait=True)
