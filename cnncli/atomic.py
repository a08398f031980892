"""Files that are written whole or not at all.

Bytes go to a file in a temporary folder beside the place, are flushed to the disk, and the name is changed in one step; then the
place's folder is flushed. A reader, a crash or a full disk sees the old file or the new one, never a part.
"""

from __future__ import annotations

import os
import shutil
import tempfile
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
    """Let `write` fill a file of the same name in a temporary folder, then move it to `path`.

    A folder, because libraries choose a format by the suffix, and some make temporary files of their own beside the one they write.
    """
    try:
        # Its end comes after Ctrl-C and SIGTERM, too: nothing temporary is left behind.
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_MARK, dir=path.parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            temporary.chmod(0o666 & ~_umask())  # some libraries make files that only their owner can read
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
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
    """Remove what a killed process left in `folder` of files it was writing there."""
    for stale in folder.glob(f"{TEMPORARY_MARK}*"):
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale, ignore_errors=True)
        else:
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
