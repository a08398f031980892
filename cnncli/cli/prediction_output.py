"""What becomes of predictions: lines, bars, JSON or CSV, copies, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnncli.cli.predicting import Guess
from cnncli.errors import ExitCode, InputError
from cnncli.reports.prediction_bars import with_bars
from cnncli.reports.predictions import Pace, csv_columns, csv_header, csv_line, prediction_json, prediction_line
from cnncli.reports.sorted_copies import SortedCopies
from cnncli.reports.terminal import json_text, print_result, talk

if TYPE_CHECKING:
    from cnncli.data.decode import BadImage
    from cnncli.data.inputs import Input

Form = Literal["text", "json", "csv"]


class Output:
    """Where predictions go, one after the other.

    threshold: the probability below which the best guess is not accepted. copy_to: the folder of the copies.
    bars: whether a text has bars. seen: whether the result appears on a terminal; else its pace is told now and then.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        form: Form,
        *,
        top: int,
        threshold: float | None,
        copy_to: Path | None,
        bars: bool,
        seen: bool,
    ) -> None:
        self.pace = Pace()
        self.bad = 0
        self.not_copied = 0
        self._form, self._threshold, self._bars, self._seen = form, threshold, bars, seen
        self._columns = csv_columns(min(top, len(classes)), accepted=threshold is not None, copies=copy_to is not None)
        self._copies = None if copy_to is None else SortedCopies(copy_to, classes)

    def give(self, found: Iterable[tuple[Input, list[Guess] | BadImage]], write: Callable[[str], object]) -> None:
        """Write every prediction as soon as it is there, and copy its image. InputError when no image could be read."""
        if self._form == "csv":
            write(csv_header(self._columns))
        name = ""
        for entry, guesses in found:
            name = name or entry.name
            if isinstance(guesses, InputError):
                self.bad += 1
                talk(f"cnn: {guesses}")
            self._one(entry, guesses, write)
            self.pace.done += 1
            if not self._seen:
                self.pace.tell()
        if self.bad == self.pace.done:
            what = "no image could be read" if self.bad > 1 else "the image could not be read"
            raise InputError(what if self.bad else "there is no image", "see above for the reason" if self.bad else "", path=name or None)

    def end(self) -> int:
        """Tell what was copied; the exit code."""
        if self._copies is not None:
            talk(self._copies.summary())
        return ExitCode.SKIPPED if self.bad or self.not_copied else ExitCode.DONE

    def _one(self, entry: Input, guesses: list[Guess] | BadImage, write: Callable[[str], object]) -> None:
        if isinstance(guesses, InputError):
            if self._form == "text":
                return
            record = prediction_json(entry.name, guesses)
        else:
            accepted = None if self._threshold is None else guesses[0][1] >= self._threshold
            copied = self._copy(entry, None if accepted is False else guesses[0][0])
            if self._form == "text":
                if not self._bars:
                    write(prediction_line(entry.name, guesses, accepted=accepted) + "\n")
                    return
                if self.pace.done > self.bad:
                    write("\n")
                print_result(with_bars(entry.name, guesses, accepted=accepted))
                return
            record = prediction_json(entry.name, guesses, accepted=accepted, copies=self._copies is not None, copied=copied)
        write(json_text(record, indent=None) if self._form == "json" else csv_line(self._columns, record, terminal=self._seen))

    def _copy(self, entry: Input, label: str | None) -> str | None:
        """Where the copy is; None without --copy-to, and for an image that has gone since it was decoded."""
        if self._copies is None:
            return None
        try:
            return str(self._copies.add(Path(entry.name) if entry.data is None else entry.data, label))
        except InputError as error:
            self.not_copied += 1
            talk(f"cnn: {error}")
            return None
