"""Pictures that matplotlib draws, as files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure, whole or not at all; a name in letters that the font lacks is drawn as boxes, without a word about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        atomic.write_with(path, figure.savefig)
