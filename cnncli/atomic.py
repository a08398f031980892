"""Files that are written whole or not at all.

Bytes go to a temporary name in the same folder, are flushed to the disk, and the name is changed in one step; then the
folder is flushed. A reader, a crash or a full disk sees the old file or the new one, never a part.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
    """Let `write` fill a temporary file beside `path`, then give it its name.

    The temporary name keeps the suffix, since libraries choose a format by it.
    """
    temporary = path.with_name(f"{TEMPORARY_MARK}{os.getpid()}-{path.name}")
    try:
        try:
            write(temporary)
            temporary.chmod(0o666 & ~_umask())  # some libraries make files that only their owner can read
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        except BaseException:  # also Ctrl-C and SIGTERM: nothing temporary is left behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {path}: {error.strerror or error}", "free space or choose another place", path=str(path)
        ) from error


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they are missing. EnvironmentFault naming it when that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot make the folder {folder}: {error.strerror}", "choose another place", path=str(folder)) from error


def remove_stale(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder`."""
    for stale in folder.glob(f"{TEMPORARY_MARK}*"):
        stale.unlink(missing_ok=True)


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
