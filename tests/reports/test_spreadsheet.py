"""CSV files that a spreadsheet may open."""

from __future__ import annotations

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.reports.spreadsheet import csv_text

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.integers() | st.floats(allow_nan=False)), max_size=4))
def test_what_is_written_is_read_again(rows: list[tuple[object, ...]]) -> None:
    """By Python's reader: texts come back, with a `'` before those that a spreadsheet would compute; numbers come back exactly."""
    head, *found = csv.reader(io.StringIO(csv_text(("a", "-b", "c"), rows), newline=""))
    assert head == ["a", "'-b", "c"]
    for (first, second, number), cells in zip(rows, found, strict=True):
        assert [
            cell.removeprefix("'") if text[:1] in tuple("=+-@\t\r") and text else cell
            for text, cell in ((first, cells[0]), (second, cells[1]))
        ] == [first, second]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells[:2])
        assert float(cells[2]) == float(number)


def test_formulas() -> None:
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "a=1", "'quoted", -1, 0.5, True, ""]
    assert csv_text(["h"], [[cell] for cell in cells]).splitlines() == [
        *("h", "'=1+1", "'+1", "'-1", "'@x", "'\tx", "a=1", "'quoted", "-1", "0.5", "True", '""'),
    ]
