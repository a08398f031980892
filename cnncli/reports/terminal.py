"""The terminal: how wide it is, how text gets onto it, and what happens when it goes away."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from cnncli.errors import STDERR_LOCK, EnvironmentFault, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NARROWEST = 20
_muted = {"talk": False, "errors": False}
_PIECE = re.compile(r" *[^.-]+[.-]*|[.-]+")  # of a path: `encoder.`, `layer_0-`, `11`
WIDTH_WITHOUT_TERMINAL = 100


def width() -> int:
    """Columns to write for: COLUMNS where it is a sensible number, else the terminal's, else WIDTH_WITHOUT_TERMINAL."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns) > 0:
        return max(NARROWEST, min(int(columns), 10_000))
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None and (found := os.get_terminal_size(stream.fileno()).columns) > 0:
                return max(NARROWEST, found)
        except (OSError, ValueError):
            continue  # not a terminal, or closed
    return WIDTH_WITHOUT_TERMINAL


def console(stream: TextIO | None = None) -> Console:
    """A rich console on `stream` (default standard output). Colour and boxes follow the stream, NO_COLOR and TERM."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, width=width(), highlight=False, markup=False, emoji=False, soft_wrap=False)


def write_result(text: str) -> None:
    """Write to standard output. BrokenPipeError passes; anything else that stops it is an EnvironmentFault."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise output_fault(error) from error


def output_fault(error: OSError) -> Exception:
    """What to raise when standard output could not be written: a BrokenPipeError stays one; else an EnvironmentFault."""
    if isinstance(error, BrokenPipeError):
        return error
    silence(sys.stdout)
    return EnvironmentFault(f"cannot write standard output: {error.strerror}")


def print_result(renderable: RenderableType) -> None:
    """Render with rich onto standard output."""
    terminal = console()
    try:
        with terminal.capture() as captured:
            terminal.print(renderable)
    except OSError as error:  # rich writes nothing, but does write; without a buffer the system is asked, and may say no
        raise output_fault(error) from error
    write_result("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))  # rich pads its lines


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on standard output; see `json_text`."""
    write_result(json_text(value, indent=indent))


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document and a line break. NaN and infinities become null, and `nonfinite` says so."""
    import json

    cleaned, nonfinite = _finite(value)
    if nonfinite and isinstance(cleaned, dict):
        cleaned["nonfinite"] = True
    return json.dumps(cleaned, indent=indent, allow_nan=False) + "\n"


def mute(*, errors: bool = False) -> None:
    """From now on this process does not talk: of several that train together one does. errors: nor of what ends it."""
    _muted.update(talk=True, errors=errors)


def talk(text: str, *, error: bool = False) -> None:
    """One line of talk on standard error; a closed standard error is no reason to stop. error: what ends the process."""
    if _muted["errors" if error else "talk"]:
        return
    try:
        with STDERR_LOCK:
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Point a stream nobody reads at the null device, so that Python's own flush at exit stays quiet."""
    with suppress(OSError, ValueError):  # not a real file: nothing will be flushed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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


class Column(NamedTuple):
    """A table column. Only a `text` column may be wrapped, and a `path` behind a dot or a dash; numbers and names are never cut."""

    title: str
    number: bool = False
    text: bool = False
    path: bool = False

    def pieces(self, cell: str) -> list[str]:
        """What of a cell has to stay on one line."""
        if self.text:
            return cell.split()
        if not self.path:
            return [printable(cell)]
        first, *others = _PIECE.findall(printable(cell)) or [""]
        indent = " " * (len(first) - len(first.lstrip()) + 2)  # of the lines below the first
        return [first, *(indent + piece for piece in others)]


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "") -> RenderableType:
    """A rich table; where the terminal is too narrow for its numbers, `key: value` lines instead."""
    from rich.text import Text

    if narrowest(columns, rows) > width():
        return Text(_as_lines(columns, rows, title), overflow="fold")
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table

    made = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title or None,
        title_justify="left",
        header_style="bold",
        show_edge=False,
    )
    for column in columns:
        made.add_column(
            Text(printable(column.title)), justify="right" if column.number else "left", no_wrap=not column.text, overflow="fold"
        )
    room = max(
        (
            cell_len(piece)
            for row in rows
            for column, cell in zip(columns, row, strict=True)
            if column.path
            for piece in column.pieces(cell)
        ),
        default=0,
    )
    for row in rows:
        made.add_row(
            *(Text(_broken(column, cell, room) if column.path else printable(cell)) for column, cell in zip(columns, row, strict=True))
        )
    return made


def _broken(column: Column, cell: str, room: int) -> str:
    """A path in lines of at most `room` columns."""
    from rich.cells import cell_len

    lines: list[str] = []
    for piece in column.pieces(cell):
        if lines and cell_len(lines[-1] + piece.lstrip()) <= room:
            lines[-1] += piece.lstrip()
        else:
            lines.append(piece)
    return "\n".join(lines)


def listing(pairs: Sequence[tuple[str, str]], *, indent: int = 2) -> RenderableType:
    """Short texts and what belongs to them, in two columns; as lines where the first column would take half of the width."""
    from rich.cells import cell_len
    from rich.text import Text

    longest = max((cell_len(printable(key)) for key, _ in pairs), default=0)
    if indent + longest > width() // 2:
        return Text("\n".join(f"{' ' * indent}{printable(key)}: {printable(text)}" for key, text in pairs), overflow="fold")
    from rich.padding import Padding
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for key, text in pairs:
        grid.add_row(Text(printable(key), no_wrap=True), Text(printable(text), overflow="fold"))
    return Padding(grid, (0, 0, 0, indent))


def narrowest(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wrapped: bool = True) -> int:
    """The width below which a number or a name would be cut: whole cells, but only the longest word of a text that may be wrapped."""
    from rich.cells import cell_len  # a Chinese character takes two columns

    gap = 2
    needed = 0
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        pieces = [piece for cell in cells for piece in (column.pieces(cell) if wrapped else (printable(cell),))]
        needed += max(map(cell_len, (printable(column.title), *pieces))) + gap
    return needed - gap


def _as_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str) -> str:
    lines = [title] if title else []
    for row in rows:
        lines += [f"{printable(column.title)}: {printable(cell)}" for column, cell in zip(columns, row, strict=True)] + [""]
    return "\n".join(lines)
