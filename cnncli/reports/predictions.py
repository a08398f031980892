"""Predictions as lines for people and as JSON lines for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncli.errors import CnnError, printable


def prediction_json(path: str, guesses: Sequence[tuple[str, float]] | CnnError) -> dict[str, Any]:
    """One image as the documented JSON of `cnn predict`."""
    if isinstance(guesses, CnnError):
        return {"path": path, "error": guesses.message}
    return {"path": path, "predictions": [{"class": name, "probability": probability} for name, probability in guesses]}


def prediction_line(path: str, guesses: Sequence[tuple[str, float]]) -> str:
    """`cat.jpg: cat 98.1%, dog 1.2%`."""
    return f"{printable(path)}: " + ", ".join(f"{printable(name)} {probability:.1%}" for name, probability in guesses)
