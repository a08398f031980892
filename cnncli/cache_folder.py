"""Where what can be made again is kept: traced models, decoded images, downloaded data sets."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """$CNN_CACHE, else cnncli in $XDG_CACHE_HOME, else in ~/.cache; None without a home that exists, which is not ours to make."""
    if own := os.environ.get("CNN_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        return shared / "cnncli"
    home = os.environ.get("HOME", "")
    return Path(home) / ".cache" / "cnncli" if home and Path(home).is_dir() else None
