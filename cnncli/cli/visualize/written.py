"""What all methods of `cnn visualize` write: pages of pictures, the numbers behind them, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnncli.cli.visualize.job import AskJob
from cnncli.errors import ExitCode
from cnncli.reports.terminal import print_json, talk

MOST_ROWS = 12  # images in one picture


def write_raw(path: Path, arrays: dict[str, Any]) -> None:
    """The numbers behind a picture, whole or not at all."""
    import numpy as np

    from cnncli import atomic

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    atomic.make_folder(path.parent)
    atomic.write_with(path, fill)


def pages(count: int, method: str, folder: Path, rows: int = MOST_ROWS) -> list[tuple[range, Path]]:
    """(rows, file) of each picture: `rows` images a page."""
    several = count > rows
    found = []
    for first in range(0, count, rows):
        name = f"{method}-{first // rows + 1}.png" if several else f"{method}.png"
        found.append((range(first, min(first + rows, count)), folder / name))
    return found


def clear_pages(job: AskJob, wrote: Sequence[Path]) -> None:
    """With --overwrite remove pages of an earlier call, see `pages`, that this one has not written: they would be taken for its own."""
    for path in job.folder.glob("*.png") if job.overwrite else ():
        if re.fullmatch(rf"{job.method}(-[0-9]+)?\.png", path.name) and path not in wrote:
            path.unlink()


def ended(job: AskJob, left_out: Sequence[str], result: dict[str, Any]) -> int:
    """Print the JSON if asked for, and say what was written and left out. The exit code."""
    if job.json:
        print_json(result)
    for path in result["files"]:
        talk(f"wrote {path}")
    for line in left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if left_out else ExitCode.DONE
