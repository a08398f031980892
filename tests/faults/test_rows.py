"""The catalogue and the tests agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from rows import APPLIES


def rows_with_a_test() -> list[str]:
    found = []
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (row := re.match(r"test_([A-Z]\d+)_", node.name)):
                found.append(row[1])
    return found


def test_every_row_has_a_test() -> None:
    assert set(APPLIES) - set(rows_with_a_test()) == set()


def test_every_test_names_a_row() -> None:
    assert set(rows_with_a_test()) - set(APPLIES) == set()
