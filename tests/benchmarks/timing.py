"""Interleaved timing: rivals take turns, so that a noisy neighbour disturbs all of them alike; medians are compared."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable


def interleaved(rivals: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every rival once a round; each returns what it measured (seconds or images a second)."""
    measured: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, rival in rivals.items():
            measured[name].append(rival())
    return measured


def seconds(run: Callable[[], object]) -> Callable[[], float]:
    """A rival that returns how long `run` takes."""

    def timed() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    return timed


def peak_mib(line: list[str]) -> float:
    """Peak resident memory of one process, in MiB. line: the program and its arguments."""
    pid = os.posix_spawn(
        line[0], line, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    )
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_maxrss / 1024


def spread(values: list[float], digits: int = 0) -> str:
    """`median (least to greatest)`."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def machine() -> str:
    """One line for the table's foot: what it was measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
