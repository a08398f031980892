"""Code that is not ours, run in a process of its own: there it cannot hang, end or change the process that the user called.

What such code prints, in Python or below it, goes to standard error; standard output belongs to results. It reads nothing:
its standard input is empty.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any, NoReturn

from cnncli.errors import CnnError, EnvironmentFault, ExitCode, InputError, UsageError

Work = Callable[[Callable[[], None]], dict[str, Any]]  # it calls what it is given when its own time begins; its result are JSON values
Explain = Callable[[BaseException], CnnError]

KINDS: dict[int, type[CnnError]] = {kind.code: kind for kind in (CnnError, UsageError, InputError, EnvironmentFault)}
GRACE = 5.0  # seconds after which the system ends a process whose parent was killed and could not


def in_own_process(work: Work, *, what: str, seconds: float, explain: Explain) -> dict[str, Any]:
    """What `work` gives. Whatever it raises comes back as the CnnError that `explain` makes of it, its traceback as a note.

    CnnError when it takes longer than `seconds` or ends its process. `what` names it in these messages. Systems without
    `fork` run it in this process and without a limit.
    """
    if not hasattr(os, "fork"):
        with redirect_stdout(sys.stderr):
            return _result(_answer(work, explain, lambda: None))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what is buffered would be written by both
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _run_child(work, explain, writer, seconds)
    os.close(writer)
    with suppress(OSError):
        os.setpgid(child, child)  # the child does the same; whoever comes first
    try:
        line = _read(reader, seconds, what)
    except BaseException:  # also Ctrl-C and SIGTERM
        _end(child, wait=0)
        raise
    finally:
        os.close(reader)
    code = _end(child, wait=0 if line else 1)
    if line is None:
        raise CnnError(f"{what} ended its process {_how(code)}", "a model's code should only make the model", path=what)
    return _result(json.loads(line))


def _run_child(work: Work, explain: Explain, writer: int, seconds: float) -> NoReturn:
    try:
        os.setpgid(0, 0)  # its own children end with it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
        sys.stdin = os.fdopen(0, closefd=False)  # the old one may hold what was read ahead

        def started() -> None:
            os.write(writer, b"\n")
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)

        with redirect_stdout(sys.stderr):
            answer = json.dumps(_answer(work, explain, started))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(f"\n{answer}\n".encode())
        sys.stderr.flush()
    finally:
        os._exit(ExitCode.DONE)


def _answer(work: Work, explain: Explain, started: Callable[[], None]) -> dict[str, Any]:
    try:
        return {"result": work(started)}
    except BaseException as error:  # noqa: BLE001 - the code of others raises what it likes, SystemExit and KeyboardInterrupt too
        told = error if isinstance(error, CnnError) else explain(error)
        shown = "" if told is error else "".join(traceback.format_exception(error)).rstrip()
        return {"error": {"code": int(told.code), "message": told.message, "hint": told.hint, "path": told.path, "shown": shown}}


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" not in answer:
        result: dict[str, Any] = answer["result"]
        return result
    told = answer["error"]
    error = KINDS[told["code"]](told["message"], told["hint"], path=told["path"])
    if told["shown"]:
        error.add_note(told["shown"])  # --debug shows it
    raise error


def _read(reader: int, seconds: float, what: str) -> str | None:
    """The line that the child sends last; None when it ended without. The time runs from its first sign of life, an empty line."""
    received, deadline = b"", None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([reader], [], [], left)
        if not ready:
            raise CnnError(f"{what} did not finish within {seconds:g} s", f"--timeout {2 * seconds:g} gives it longer", path="--timeout")
        piece = os.read(reader, 2**16)
        received += piece
        if deadline is None and received:
            deadline = time.monotonic() + seconds
        line = received.strip(b"\n")
        if line and received.endswith(b"\n"):
            return line.decode()
        if not piece:
            return None


def _end(child: int, *, wait: float) -> int:
    """End the child and all that it started, after `wait` seconds for it to end by itself. Its exit code, as Python gives it."""
    deadline = time.monotonic() + wait
    pid, status = os.waitpid(child, os.WNOHANG)
    while not pid and time.monotonic() < deadline:
        time.sleep(0.01)
        pid, status = os.waitpid(child, os.WNOHANG)
    with suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    if not pid:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)  # where it left its group
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    name = signal.Signals(-code).name
    return f"by signal {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
