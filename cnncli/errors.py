"""What can go wrong, as exceptions that carry one line for the user and an exit code."""

from __future__ import annotations

import os
import threading
from enum import IntEnum

# Held by who writes a line to standard error, and by who points that elsewhere for a while: else lines would be lost.
STDERR_LOCK = threading.RLock()


class ExitCode(IntEnum):
    """The exit codes of every `cnn` command."""

    DONE = 0
    FAILED = 1  # the work failed while running: NaN, out of memory, a worker died
    USAGE = 2  # a flag, a net or a target that is not known
    INPUT = 3  # data, an image or a model file was refused
    ENVIRONMENT = 4  # disk, permission, network, package, device
    SKIPPED = 5  # done, but some inputs were skipped
    INTERRUPTED = 130  # Ctrl-C
    READER_GONE = 141  # whoever read our output went away
    TERMINATED = 143  # SIGTERM


class CnnError(Exception):
    """An error that the user can act on.

    message: what was given and what was expected, in one line.
    hint: what to type or do next; may be empty.
    path: the file, folder or flag it is about, for `--json`.
    """

    code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(CnnError):
    """A flag, net name or target that is not known or not allowed."""

    code = ExitCode.USAGE


class InputError(CnnError):
    """Data, an image or a model file that cannot be used as it is."""

    code = ExitCode.INPUT


class EnvironmentFault(CnnError):
    """The machine does not allow it: disk, permission, package, device."""

    code = ExitCode.ENVIRONMENT


def near_miss(word: str, known: list[str]) -> str:
    """`did you mean alexnet or vgg11?`, or the empty string when nothing is close to `word`."""
    from difflib import get_close_matches  # late: most commands never fail

    close = get_close_matches(word.lower(), known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else ""


def printable(text: str | os.PathLike[str]) -> str:
    """`text` in one line that is safe to print: line breaks, escapes, direction marks and undecodable bytes become backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in os.fspath(text))
