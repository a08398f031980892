"""Words that are fitted into a width."""

from __future__ import annotations

import pytest

from cnncli.reports.lettering import CUT, fitted


@pytest.mark.parametrize("words", [["W" * 80, "W" * 200], ["W" * 80, "W" * 200, "of"], ["runs/" + "long" * 20, "on", "photos" * 20]])
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_words_that_are_wider_than_a_line(words: list[str], lines: int) -> None:
    """Each has a line for itself, or shares the last one; nothing is waited for that cannot come."""
    found = fitted(" ".join(words), 2.0, 9, lines=lines).split("\n")
    assert len(found) == min(lines, len(words))
    assert all(CUT in line for line in found if len(line) > 12)
    assert found[0].startswith(words[0][:4])
    assert found[-1].endswith(words[-1][-2:])


def test_lines_are_about_equally_long() -> None:
    first, second = fitted("one two three four five six seven", 2.0, 9, lines=2).split("\n")
    assert abs(len(first) - len(second)) < 8
