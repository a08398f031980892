"""Words in pictures, as wide as there is room for."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable

from cnncli.errors import printable

CUT = "..."
Width = Callable[[str], float]  # of words, in inches


def fitted(text: str, inches: float, points: float, *, lines: int = 1) -> str:
    """`text` in at most `lines` lines, none wider than `inches` in letters of `points`; `$` is kept from being read as a formula.

    What does not fit is cut in its middle, so that its beginning and its end can be read. Lines are about equally long.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points)

    def width(words: str) -> float:
        return float(text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]) / 72

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        found = _broken(printable(text), inches, lines, width)
    return "\n".join(found).replace("$", r"\$")


def _broken(text: str, inches: float, most: int, width: Width) -> list[str]:
    found = _greedy(text, inches, width)
    if len(found) > most:
        found = [*found[: most - 1], " ".join(found[most - 1 :])]
    elif 1 < len(found) < len(text.split(" ")):  # a line for each word is as many as there can be, however narrow they are
        narrower = inches
        while len(closer := _greedy(text, narrower := 0.95 * narrower, width)) == len(found):
            found = closer
    return [_cut(line, inches, width) for line in found]


def _greedy(text: str, inches: float, width: Width) -> list[str]:
    """As many words in a line as fit; one that is too wide has a line for itself."""
    found: list[str] = []
    for word in text.split(" "):
        if found and width(f"{found[-1]} {word}") <= inches:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def _cut(text: str, inches: float, width: Width) -> str:
    if width(text) <= inches:
        return text

    def shorter(kept: int) -> str:
        return text[: (kept + 1) // 2] + CUT + text[len(text) - kept // 2 :]

    return shorter(bisect_right(range(len(text)), inches, key=lambda kept: width(shorter(kept))) - 1)
