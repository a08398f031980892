"""Files that are written whole or not at all.

Bytes go to a file in a temporary folder beside the place, are flushed to the disk, and the name is changed in one step; then the
place's folder is flushed. A reader, a crash or a full disk sees the old file or the new one, never a part.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cnncli.errors import EnvironmentFault

TEMPORARY_MARK = ".cnn-part-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`. EnvironmentFault naming the file when the disk does not allow it."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`; names that are not UTF-8 keep their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of the same name in a temporary folder, then move it to `path`.

    A folder, because libraries choose a format by the suffix, and some make temporary files of their own beside the one they write.
    """
    try:
        with temporary_folder(path.parent) as folder:
            temporary = folder / path.name
            write(temporary)
            temporary.chmod(0o666 & ~_umask())  # some libraries make files that only their owner can read
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> EnvironmentFault:
    """What is said when the disk does not allow a file."""
    return EnvironmentFault(f"cannot write {path}: {error.strerror or error}", "free space or choose another place", path=str(path))


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that is gone afterwards, with all that is in it, whenever Ctrl-C or SIGTERM came. OSError.

    tempfile's leaves its folder behind when a signal comes just after it was made or while it is being removed.
    """
    folder = parent / f"{TEMPORARY_MARK}{secrets.token_hex(8)}"
    try:
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _remove(folder)
    finally:
        _remove(folder)  # once more: a signal may have ended the first


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they are missing. EnvironmentFault naming it when that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot make the folder {folder}: {error.strerror}", "choose another place", path=str(folder)) from error


def remove_stale(folder: Path) -> None:
    """Remove what a killed process left in `folder` of files it was writing there."""
    for stale in folder.glob(f"{TEMPORARY_MARK}*"):
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:  # errors of the disk are ignored: this is of a descriptor that it closes twice when a signal comes between
        raise error.__context__ or error from None


def _umask() -> int:
    mask = os.umask(0o077)  # can only be read by setting it
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
