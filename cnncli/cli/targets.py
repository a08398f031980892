"""What a command is about to write, checked before any work: nothing is replaced unless that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cnncli.errors import EnvironmentFault, UsageError


def check_targets(folder: Path | None, paths: Iterable[Path], *, overwrite: bool) -> None:
    """folder: of --out, None without. UsageError where it is a file, or one of `paths` exists; EnvironmentFault where nothing can be
    written there: better now than after minutes of work.
    """
    if folder is not None and os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file", "give a folder", path=str(folder))
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
    if folder is not None:
        check_folder(folder)


def check_files(paths: Iterable[Path]) -> None:
    """UsageError for a path that is to be a file and is a folder."""
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "give another --out", path=str(path))


def check_folder(folder: Path) -> None:
    """EnvironmentFault where it cannot be made or written to."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    reason = "" if os.access(there, os.W_OK | os.X_OK) else "permission denied"
    reason = reason if there.is_dir() else f"{there} is no folder"
    if reason:
        raise EnvironmentFault(f"cannot write in {folder}: {reason}", "choose another --out", path=str(folder))
