"""Flags that several commands have, declared once: as the parameters of a function, of whose values a job is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

Command = Callable[..., int]


def with_job(
    declared: Callable[..., None],
    make: Callable[..., Any],
    takes: Collection[str],
    *,
    last: Collection[str] = (),
    meanings: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Callable[[Command], Command]:
    """Decorate `command(job, ..., its own flags) -> int`: it gets flags of `declared`, and the job that `make` makes of their values.

    declared: its parameters are all such flags, in the order of the help. takes: the names of those that the command has. last: of these,
    which stand behind the command's own. meanings, defaults: by name, where they are other ones for this command.
    """

    def decorate(command: Command) -> Command:
        shared = [p for p in inspect.signature(declared, eval_str=True).parameters.values() if p.name in takes]
        shared = [
            p.replace(annotation=(meanings or {}).get(p.name, p.annotation), default=(defaults or {}).get(p.name, p.default))
            for p in shared
        ]
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "job"]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

        def run(**arguments: Any) -> int:
            job = make(**{p.name: arguments.pop(p.name) for p in shared})
            return command(job, **arguments)

        first, behind = ([p for p in shared if (p.name in last) == late] for late in (False, True))
        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature([*first, *own, *behind], return_annotation=int)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        return run

    return decorate
