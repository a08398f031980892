"""Tables as CSV files that a spreadsheet may open: a text is never taken for a formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that a spreadsheet computes (OWASP, CSV injection)
QUOTED = frozenset('",\r\n')


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of a CSV file, as RFC 4180 has them but for bare line feeds: texts in quotes where needed, numbers in full.

    Not Python's own writer: with such line ends it leaves a carriage return in a text without quotes, and its reader takes that for an end.
    """
    lines = (",".join(map(_written, row)) for row in (head, *rows))
    return "".join((line or '""') + "\n" for line in lines)  # a line without anything would be no row


def cell(value: object) -> object:
    """A text that a spreadsheet would compute gets a `'` in front; everything else stays."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _written(value: object) -> str:
    text = str(cell(value))
    return '"' + text.replace('"', '""') + '"' if not QUOTED.isdisjoint(text) else text
