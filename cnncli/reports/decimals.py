"""Numbers that stand in one picture or table, written alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

DIGITS = 3  # of the largest
MOST_DECIMALS, MOST_DIGITS = 5, 6  # beyond, numbers are written with an exponent


def alike(values: Sequence[float]) -> list[str]:
    """All with as many decimals, so many that the largest has three digits: 12.3, 0.4; with exponents where that makes them long."""
    largest = max((abs(value) for value in values), default=0.0)
    if not largest:
        return ["0" for _ in values]
    ahead = math.floor(math.log10(float(f"{largest:.{DIGITS - 1}e}"))) + 1  # digits before the point; 0.9999 becomes 1.00
    decimals = max(0, DIGITS - ahead)
    if decimals > MOST_DECIMALS or ahead > MOST_DIGITS:
        return [f"{value:.{DIGITS - 1}e}" for value in values]
    return [f"{value:.{decimals}f}" for value in values]
