"""Names: of shards, as patterns that stand for many, and of the files in them, as keys that make samples.

`train-{000..009}.tar` stands for ten shards, `{train,val}-{0..3}.tar` for eight; `::` parts several patterns, as WebDataset has it.
The split of a shard is the word train, val, valid, validation or test in its name. The key of a file in a shard is its path up to
the first dot of its base name, so `dogs/0001.jpg` and `dogs/0001.cls` are one sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from cnncli.data.classes import some
from cnncli.data.folder import SPLIT_NAMES
from cnncli.errors import InputError, UsageError, printable

MOST_SHARDS = 100_000
BETWEEN = "::"

_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})", re.ASCII)
_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__(/|$)")  # WebDataset's own notes


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for, in order. UsageError for braces that are no range and no list."""
    parts = _GROUP.split(pattern)  # text, what braces hold, text, ...
    if any("{" in text or "}" in text for text in parts[::2]):
        raise _wrong(pattern, "its braces do not match")
    choices = [[text] if place % 2 == 0 else _choices(pattern, text) for place, text in enumerate(parts)]
    count = 1
    for options in choices:
        count *= len(options)
        if count > MOST_SHARDS:
            raise _wrong(pattern, f"it stands for more than {MOST_SHARDS:,} shards")
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(pattern: str, inside: str) -> list[str]:
    found = _RANGE.fullmatch(inside)
    if not found:
        if "," not in inside:
            raise _wrong(pattern, f"{{{inside}}} is neither a range nor a list")
        return inside.split(",")
    first, last = found.groups()
    if int(last) < int(first):
        raise _wrong(pattern, f"{{{inside}}} counts down")
    if int(last) - int(first) >= MOST_SHARDS:
        raise _wrong(pattern, f"it stands for more than {MOST_SHARDS:,} shards")
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _wrong(pattern: str, what: str) -> UsageError:
    return UsageError(f"--data '{printable(pattern)}': {what}", "for example --data 'shards/train-{000..009}.tar'", path="--data")


def by_split(names: Iterable[str], where: str) -> dict[str, list[str]]:
    """The shards of each split, by their base names; all are "train" where no name has a word. InputError where only some have, or two."""
    found: dict[str, list[str]] = {}
    for name in names:
        words = re.split(r"[^a-z]+", name.rpartition("/")[2].casefold())
        splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if len(splits) > 1:
            raise InputError(f"shard {printable(name)} names two splits: {some(sorted(splits))}", "rename it", path=where)
        found.setdefault(splits.pop() if splits else "", []).append(name)
    if set(found) == {""}:
        return {"train": found[""]}
    if "" in found:
        told = f"{some(found[''])} of {printable(where)} is in no split, but other shards are"
        raise InputError(told, "put train, val or test into its name", path=where)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def refuse_twice(names: list[str]) -> None:
    """UsageError when a shard is named twice: its samples would count twice."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise UsageError(f"shard {printable(twice[0])} is named twice", "name each shard once", path="--data")


def key_of(name: str) -> tuple[str, str] | None:
    """(key, extension in lower case) of a file in a shard; None for one that belongs to no sample.

    That is one without an extension or with a hidden name, a note of WebDataset's, and whatever is absolute or leads upwards: nothing
    is written under these names, but they are printed and compared.
    """
    found = _KEY.fullmatch(name)
    if not found or _META.match(name) or name.startswith("/") or ".." in name.split("/"):
        return None
    return found[1], found[2].lower()


def groups(named: Iterable[tuple[str, str, object]]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Files one behind the other with the same key, from (key, extension, value): (key, {extension: value})."""
    current: str | None = None
    values: dict[str, object] = {}
    for key, extension, value in named:
        if key != current:
            if current is not None:
                yield current, values
            current, values = key, {}
        values[extension] = value
    if current is not None:
        yield current, values
