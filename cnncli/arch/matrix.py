"""Small matrices of exact numbers: read from text as people type them, and written as text.

Numbers are whole numbers and fractions, never rounded: 0.25 is 1/4, and 1/3 stays 1/3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from cnncli.errors import InputError

Number = int | Fraction
Matrix = tuple[tuple[Number, ...], ...]

# What a person follows with a pencil; beyond that an image file is meant. 100 x 100 still prints and computes at once.
MOST_NUMBERS = 10_000
LONGEST_NUMBER = 40  # characters; a double has 17 digits
LARGEST_EXPONENT = 30  # 1e999999999 would be a number of a billion digits
LONGEST_DECIMAL = 12  # characters up to which a fraction such as 1/256 is written as a decimal, 0.00390625

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE](?P<exponent>[+-]?\d+))?|[+-]?\d+/\d+", re.ASCII)
_BETWEEN_ROWS = re.compile(r"\]\s*[,;]?\s*\[")  # JSON's and numpy's nested brackets


def parse_matrix(text: str, name: str) -> Matrix:
    """A matrix out of "1 2; 3 4", "1,2;3,4", lines of numbers, or JSON's and numpy's [[1, 2], [3, 4]].

    Numbers are 7, -0.25, .5, 1e-3 or 1/9. name: what to call the matrix in an error, a flag or a file.

    InputError naming row and column (counted from 1, as a person counts) where it is empty, ragged, too large, or not of numbers.
    """
    too_large = InputError(
        f"{name}: more than {MOST_NUMBERS:,} numbers are too many to work by hand", "give an image file, or a smaller matrix", path=name
    )
    if len(text) > MOST_NUMBERS * (LONGEST_NUMBER + 1):
        raise too_large
    rows = [_numbers(line, number, name) for number, line in enumerate(_lines(text, name), 1)]
    if not rows:
        raise InputError(f"{name}: there is no number in it", 'write rows like this: "1 2; 3 4"', path=name)
    if sum(map(len, rows)) > MOST_NUMBERS:
        raise too_large
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise InputError(
                f"{name}: row 1 has {_count(rows[0])} but row {number} has {_count(row)}", "every row needs as many numbers", path=name
            )
    return tuple(rows)


def _count(row: tuple[Number, ...]) -> str:
    return f"{len(row)} number{'' if len(row) == 1 else 's'}"


def _lines(text: str, name: str) -> list[str]:
    """The rows as text. Line breaks or semicolons part them; a file with both may mean either as the comma, so it is refused."""
    flat = text.strip()
    if "".join(flat[:40].split()).startswith("[["):  # a line break inside nested brackets is a space
        flat = _BETWEEN_ROWS.sub(";", " ".join(flat.split()))
    for _ in range(2):
        if flat.startswith("[") and flat.endswith("]"):
            flat = flat[1:-1].strip()
    lines = [line.strip().rstrip(";") for line in flat.splitlines()]
    if sum(map(bool, lines)) > 1 and any(";" in line for line in lines):
        raise InputError(f"{name}: has line breaks and semicolons", "part rows by one of them, and numbers by spaces or commas", path=name)
    return [row for line in lines for row in line.split(";") if row.strip()]


def _numbers(line: str, row: int, name: str) -> tuple[Number, ...]:
    words = re.split(r"\s*,\s*|\s+", line.strip())
    return tuple(_number(word, f"row {row}, column {column}", name) for column, word in enumerate(words, 1))


def _number(word: str, where: str, name: str) -> Number:
    found = _NUMBER.fullmatch(word) if len(word) <= LONGEST_NUMBER else None
    if found and abs(int(found["exponent"] or 0)) <= LARGEST_EXPONENT and not re.fullmatch(r".*/0+", word):
        return tidy(Fraction(word))
    shown = word if len(word) <= LONGEST_NUMBER else word[:LONGEST_NUMBER] + "..."
    what = f"'{shown}' is not a number like 7, -0.25 or 1/9" if word else "no number between two commas"
    raise InputError(f"{name}: {where}: {what}", 'write rows like this: "1 2; 3 4"', path=name)


def tidy(number: Number) -> Number:
    """The same number, as an int where it is whole."""
    return number.numerator if number.denominator == 1 else number


def number_text(number: Number) -> str:
    """The number exactly: 45, 0.25, 1/3. Decimals that end are written out unless they are long and the fraction is shorter."""
    fraction = f"{number.numerator}/{number.denominator}"
    if number.denominator == 1:
        return str(number.numerator)
    decimal = _decimal(number)
    return fraction if decimal is None or (len(decimal) > LONGEST_DECIMAL and len(fraction) < len(decimal)) else decimal


def _decimal(number: Number) -> str | None:
    """The decimal that is exactly `number`; None where it never ends."""
    twos = fives = 0
    rest = number.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest > 1:
        return None
    places = max(twos, fives)
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def plain(number: Number) -> int | float:
    """For JSON: whole numbers as they are, others as the nearest double."""
    return number if isinstance(number, int) else float(number)


def plain_matrix(matrix: Matrix) -> list[list[int | float]]:
    """For JSON: its rows, each number as `plain` gives it."""
    return [[plain(number) for number in row] for row in matrix]


def size(matrix: Matrix) -> tuple[int, int]:
    """(rows, columns)."""
    return len(matrix), len(matrix[0])


def flip(matrix: Matrix) -> Matrix:
    """Upside down and left to right: turned by 180 degrees."""
    return tuple(tuple(reversed(row)) for row in reversed(matrix))


def numbers(matrix: Matrix) -> Iterable[Number]:
    """All numbers, row by row."""
    return (number for row in matrix for number in row)
