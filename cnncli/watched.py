"""Work that waits for a network, watched: a server, a proxy or a name server that says nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PATIENCE = 12.0  # seconds without a byte until the network counts as absent


def watched(work: Callable[[], None], folder: Path, patience: float = PATIENCE) -> None:
    """Run `work`, which writes into `folder`, in a thread, and wait for it.

    Raises what `work` raises; TimeoutError when nothing grows in `folder` for `patience` seconds. The thread then goes on by
    itself, so `folder` has to be one that nobody else reads.
    """
    failures: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            failures.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    size, since = 0, time.monotonic()
    while worker.is_alive():
        worker.join(0.1)
        found = _bytes_in(folder)
        if found > size:
            size, since = found, time.monotonic()
        elif worker.is_alive() and time.monotonic() - since > patience:
            raise TimeoutError(f"no answer in {patience:g} s")
    if failures:
        raise failures[0]


def _bytes_in(folder: Path) -> int:
    total = 0
    with suppress(OSError):  # files come, go and change their names
        total = sum(file.stat().st_size for file in folder.iterdir())
    return total
