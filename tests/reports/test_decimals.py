"""Numbers that are written alike."""

from __future__ import annotations

import pytest

from cnncli.reports.decimals import alike


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([12.34, 0.456, -1.0], ["12.3", "0.5", "-1.0"]),
        ([0.9996, 0.5], ["1.00", "0.50"]),
        ([0.996, 0.5], ["0.996", "0.500"]),
        ([1234.5, 2.0], ["1234", "2"]),
        ([0.00123], ["0.00123"]),
        ([0.0000123, 0.0], ["1.23e-05", "0.00e+00"]),
        ([12345678.0], ["1.23e+07"]),
        ([0.0, 0.0], ["0", "0"]),
        ([], []),
    ],
)
def test_numbers_are_alike(values: list[float], expected: list[str]) -> None:
    assert alike(values) == expected
