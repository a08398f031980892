"""Work that a few threads share: how many, and results in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
