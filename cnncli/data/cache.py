"""The caches of decoded images on the disk: where they lie, who uses them, how much room they take.

A cache is a folder with `pixels.bin`, records of one size one behind the other; `index.npz` (see cnncli.data.cache_index); and
`form.json`, what is kept of an image. It belongs to one folder of images and one form (see `Form`), not to a split: another
share for validation decodes nothing anew. A run that uses a cache holds a shared lock on `lock`, one that completes it an
exclusive one on `building`; both end with the process.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO

from cnncli import atomic
from cnncli.cache_folder import cache_folder
from cnncli.data.cache_index import FORM, FORMAT, INDEX, PIXELS
from cnncli.data.form import Form

LOCK, BUILDING = "lock", "building"
SPARE_DISK = 0.05  # of the disk stays free

Tell = Callable[[str], None]


def clear() -> tuple[int, int]:
    """Remove all caches of decoded images that no run uses: how many were removed, and their bytes."""
    removed = freed = 0
    for folder in caches():
        if (size := _remove(folder)) is not None:
            removed, freed = removed + 1, freed + size
    return removed, freed


def caches() -> list[Path]:
    """The caches there are, the least recently used first."""
    root = cache_folder()
    parent = root / "pixels" if root else None
    if parent is None or not parent.is_dir():
        return []
    found = [path for path in parent.iterdir() if not path.is_symlink() and (path / LOCK).is_file()]
    return sorted(found, key=lambda path: (path / INDEX).stat().st_mtime if (path / INDEX).exists() else 0.0)


def place_of(images: Path, form: Form) -> Path | None:
    """The folder of the cache for this folder of images; None without a cache folder."""
    root = cache_folder()
    digest = blake2b(os.fsencode(images) + b"\0" + form.key.encode(), digest_size=10).hexdigest()
    return None if root is None else root / "pixels" / f"{FORMAT}-{digest}"


def why_no_room(folder: Path, needed: int, limit: float) -> str:
    """Why `needed` more bytes cannot be written to this cache, after others that no run uses have made room; empty when they can.

    limit: bytes that all caches together may take.
    """
    used = {path: _size(path) for path in caches()}
    spare = int(shutil.disk_usage(folder).total * SPARE_DISK)

    def fits() -> bool:
        return sum(used.values()) + needed <= limit and shutil.disk_usage(folder).free - spare >= needed

    if needed + used.get(folder, 0) <= limit:  # else nothing that others give helps
        for path in list(used):
            if fits():
                break
            if path != folder and _remove(path) is not None:
                del used[path]
    if fits():
        return ""
    if sum(used.values()) + needed > limit:
        others = f"and the {sum(used.values()) / 1e9:.1f} GB in use " if sum(used.values()) else ""
        return f"{others}are more than --cache-limit {limit / 1e9:g} (GB) allows"
    return f"would leave less than {SPARE_DISK:.0%} of the disk free"


@contextmanager
def building(folder: Path, tell: Tell) -> Iterator[None]:
    """While it lasts, no other process completes this cache."""
    lock = locked(folder / BUILDING, shared=False, wait=False)
    if lock is None:
        tell("waiting for another run, which decodes the same images")
        lock = locked(folder / BUILDING, shared=False)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def locked(path: Path, *, shared: bool, wait: bool = True) -> IO[bytes] | None:
    """An open file that holds a lock until it is closed or its process ends; None where another holds it and we do not wait."""
    file = path.open("ab")
    try:
        import fcntl
    except ImportError:  # not a Unix: there is no lock that a killed process gives back
        return file
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                file.close()
                return None
            time.sleep(0.2)  # not blocking, so that Ctrl-C ends it
        else:
            return file


def _size(folder: Path) -> int:
    """Bytes that it takes on the disk."""
    total = 0
    for name in (PIXELS, INDEX):
        with suppress(OSError):
            total += (folder / name).stat().st_size
    return total


def _remove(folder: Path) -> int | None:
    """Remove a cache that nobody uses; its bytes, None where somebody does. Only files that a cache has are removed."""
    lock = locked(folder / LOCK, shared=False, wait=False)
    if lock is None:
        return None
    size = _size(folder)
    atomic.remove_stale(folder)
    for name in (INDEX, FORM, PIXELS, BUILDING, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # somebody else's file is in it
        folder.rmdir()
    lock.close()
    return size
