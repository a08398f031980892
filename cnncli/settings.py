"""What a field of a configuration says of itself: its meaning, unit, range and flag.

Options are declared once, as fields of frozen dataclasses made with `setting`. Flags, their help, defaults and limits,
and the check of a value from any other place, all read the same declaration.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from cnncli.errors import UsageError, near_miss

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """meaning: one line with the unit. panel: the heading in --help. low, high: the allowed range.

    choices: the allowed words. words: words that stand for a number, where there is a range as well.
    """

    meaning: str
    panel: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def setting(
    default: Any,
    meaning: str,
    *,
    panel: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with a default and a Setting."""
    return field(default=default, metadata={_KEY: Setting(meaning, panel, low, high, choices, words)})


def setting_of(config: type, name: str) -> Setting:
    """The Setting of one field."""
    found: Setting = next(f for f in fields(config) if f.name == name).metadata[_KEY]
    return found


def flag_name(name: str) -> str:
    """`--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")


def check(config: Any) -> None:
    """UsageError for the first field outside its range or choices. None, where it is a default, always passes."""
    for f in fields(config):
        value, declared = getattr(config, f.name), f.metadata[_KEY]
        if (value is None and f.default is None) or value in declared.words:
            continue
        if declared.choices and value not in declared.choices:
            known = list(declared.choices)
            raise UsageError(
                f"{flag_name(f.name)} {value!r} is not one of {', '.join(known)}", near_miss(str(value), known), path=flag_name(f.name)
            )
        if declared.low is None and declared.high is None:
            continue
        low = -float("inf") if declared.low is None else declared.low
        high = float("inf") if declared.high is None else declared.high
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not low <= value <= high:
            words = "".join(f"{word} or " for word in declared.words)
            raise UsageError(f"{flag_name(f.name)} {value} should be {words}a number from {low:g} to {high:g}", path=flag_name(f.name))
