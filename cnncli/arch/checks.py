"""Checks of a layer's arguments, whether they come from code or from a model file that may be hostile."""

from __future__ import annotations

from cnncli.errors import UsageError, near_miss

# No published layer comes near it; it keeps numbers from a hostile model file from becoming work.
LARGEST_NUMBER = 10**7


def check_number(layer: str, name: str, value: object, *, least: int) -> None:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
        raise UsageError(f"{layer}: {name}={value!r} should be a whole number from {least} to {LARGEST_NUMBER}")


def check_size(layer: str, name: str, value: object, *, least: int) -> None:
    """A whole number of at least `least`, or a pair of them (height, width)."""
    for number in value if isinstance(value, tuple) and len(value) == 2 else (value,):
        check_number(layer, name, number, least=least)


def check_fraction(layer: str, name: str, value: object, *, least: float, most: float) -> None:
    """A finite number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(f"{layer}: {name}={value!r} should be a number from {least:g} to {most:g}")


def check_choice(layer: str, name: str, value: object, known: tuple[str, ...]) -> None:
    """One of the words in `known`."""
    if value not in known:
        raise UsageError(f"{layer}: {name}={value!r} is not known", near_miss(str(value), list(known)) or f"one of {', '.join(known)}")


def check_flag(layer: str, name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{layer}: {name}={value!r} should be true or false")
