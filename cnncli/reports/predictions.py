"""Predictions as lines for people, as JSON lines for programs and as CSV for spreadsheets; and how fast they come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cnncli.errors import CnnError, printable
from cnncli.reports.spreadsheet import cell
from cnncli.reports.terminal import talk

Guesses = Sequence[tuple[str, float]]

PROBABILITY_DIGITS = 6  # in CSV; a float32 near 1 holds no more than seven
SECONDS_BETWEEN_LINES = 15.0


def prediction_json(
    path: str, guesses: Guesses | CnnError, *, accepted: bool | None = None, copies: bool = False, copied: str | None = None
) -> dict[str, Any]:
    """One image as the documented JSON of `cnn predict`.

    accepted: whether the best guess reaches --threshold, None without one. copies: whether there is a key `copied`, for the copy.
    """
    if isinstance(guesses, CnnError):
        return {"path": path, "error": guesses.message}
    record: dict[str, Any] = {"path": path, "predictions": [{"class": name, "probability": probability} for name, probability in guesses]}
    if accepted is not None:
        record["accepted"] = accepted
    if copies:
        record["copied"] = copied
    return record


def prediction_line(path: str, guesses: Guesses, *, accepted: bool | None = None) -> str:
    """`cat.jpg: cat 98.1%, dog 1.2%`; `cat.jpg: uncertain, cat 48.1%, dog 41.2%` where the best guess is not accepted."""
    doubt = "uncertain, " if accepted is False else ""
    return f"{printable(path)}: {doubt}" + ", ".join(f"{printable(name)} {probability:.1%}" for name, probability in guesses)


def csv_columns(guesses: int, *, accepted: bool, copies: bool) -> tuple[str, ...]:
    """The columns of the CSV: path, class, probability, class2, probability2, ...; accepted and copied where asked for; error."""
    ranked = [f"{name}{'' if rank == 1 else rank}" for rank in range(1, guesses + 1) for name in ("class", "probability")]
    return ("path", *ranked, *(["accepted"] if accepted else []), *(["copied"] if copies else []), "error")


def csv_header(columns: Sequence[str]) -> str:
    """The first line of the CSV."""
    return ",".join(columns) + "\n"


def csv_line(columns: Sequence[str], record: dict[str, Any], *, terminal: bool = False) -> str:
    """One image, as `prediction_json` has it, in those columns; a text that a spreadsheet would take for a formula begins with `'`.

    terminal: what a terminal would act on is escaped, also line breaks, which else stay, in quotes.
    """
    cells: dict[str, Any] = {"path": record["path"], "error": record.get("error", ""), "copied": record.get("copied") or ""}
    for rank, guess in enumerate(record.get("predictions", ()), start=1):
        number = "" if rank == 1 else rank
        cells[f"class{number}"], cells[f"probability{number}"] = guess["class"], round(guess["probability"], PROBABILITY_DIGITS)
    if "accepted" in record:
        cells["accepted"] = "yes" if record["accepted"] else "no"
    return ",".join(_field(cells.get(column, ""), terminal=terminal) for column in columns) + "\n"


def _field(value: str | float, *, terminal: bool) -> str:
    """A field of CSV (RFC 4180), in quotes also for what some spreadsheet takes for a separator, or drops."""
    if not isinstance(value, str):
        return str(value)
    text = str(cell(printable(value) if terminal else value))
    fine = text == text.strip() and not any(mark in text for mark in ',;\t"\r\n')
    return text if fine else '"' + text.replace('"', '""') + '"'


@dataclass
class Pace:
    """How many images are done, and how fast; `tell` says so now and then."""

    done: int = 0
    _began: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        rate = self.done / max(1e-9, time.monotonic() - self._began)
        return f"{self.done:,} image{'' if self.done == 1 else 's'}, {rate:,.0f} a second"

    def tell(self) -> None:
        """A line on standard error, if the last one was some seconds ago."""
        if time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            talk(f"predicted {self}")
