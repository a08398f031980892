"""The terminal: how wide it is, how text gets onto it, and what happens when it goes away."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cnncli.errors import EnvironmentFault

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NARROWEST = 20
WIDTH_WITHOUT_TERMINAL = 100


def width() -> int:
    """Columns to write for: COLUMNS where it is a sensible number, else the terminal's, else WIDTH_WITHOUT_TERMINAL."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns) > 0:
        return max(NARROWEST, min(int(columns), 10_000))
    environment = os.environ.pop("COLUMNS", None)  # shutil would read it again
    try:
        return max(NARROWEST, shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns)
    finally:
        if environment is not None:
            os.environ["COLUMNS"] = environment


def console(stream: TextIO | None = None) -> Console:
    """A rich console on `stream` (default standard output). Colour and boxes follow the stream, NO_COLOR and TERM."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, width=width(), highlight=False, markup=False, emoji=False, soft_wrap=False)


def printable(text: str) -> str:
    """`text` without anything that moves the cursor or reorders what is read: such characters are escaped."""
    hidden = ("Cc", "Cf", "Zl", "Zp", "Cs")
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if unicodedata.category(c) not in hidden else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def write_result(text: str) -> None:
    """Write to standard output. BrokenPipeError passes; anything else that stops it is an EnvironmentFault."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        raise EnvironmentFault(f"cannot write standard output: {error.strerror}") from error


def print_result(renderable: RenderableType) -> None:
    """Render with rich onto standard output."""
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(renderable)
    write_result(captured.get())


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on standard output. NaN and infinities become null, and `nonfinite` says so."""
    cleaned, nonfinite = _finite(value)
    if nonfinite and isinstance(cleaned, dict):
        cleaned["nonfinite"] = True
    write_result(json.dumps(cleaned, indent=indent, allow_nan=False) + "\n")


def talk(text: str) -> None:
    """One line of talk on standard error; a closed standard error is no reason to stop."""
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Point a stream nobody reads at the null device, so that Python's own flush at exit stays quiet."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        pass  # not a real file: nothing will be flushed


def _finite(value: Any) -> tuple[Any, bool]:
    if isinstance(value, float) and not math.isfinite(value):
        return None, True
    if isinstance(value, dict):
        items = {key: _finite(item) for key, item in value.items()}
        return {key: item for key, (item, _) in items.items()}, any(bad for _, bad in items.values())
    if isinstance(value, list | tuple):
        pairs = [_finite(item) for item in value]
        return [item for item, _ in pairs], any(bad for _, bad in pairs)
    return value, False


@dataclass(frozen=True)
class Column:
    """A table column. Only a `text` column may be wrapped; numbers and names are never cut."""

    title: str
    number: bool = False
    text: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "") -> RenderableType:
    """A rich table; where the terminal is too narrow for its numbers, `key: value` lines instead."""
    from rich.box import SIMPLE_HEAD
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title or None, title_justify="left", header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column.title, justify="right" if column.number else "left", no_wrap=not column.text, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    terminal = console()
    if Measurement.get(terminal, terminal.options.update(max_width=10_000), made).minimum <= terminal.width:
        return made
    lines = [title] if title else []
    for row in rows:
        lines += [f"{column.title}: {printable(cell)}" for column, cell in zip(columns, row, strict=True)] + [""]
    return Text("\n".join(lines), overflow="fold")
