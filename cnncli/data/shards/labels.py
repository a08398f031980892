"""Class names for what the `.cls` files hold: whole numbers or names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cnncli.data.classes import refuse_twins, some
from cnncli.errors import InputError, printable

CLASSES = "classes.txt"
MOST_BYTES = 2**24

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)


def classes_in(data: bytes, where: str) -> tuple[str, ...]:
    """The names in a classes.txt, one a line, in the order of their numbers. InputError for anything that would shift the numbers."""
    try:
        lines = data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(where)} is not UTF-8 text", "it should hold one class name a line", path=where) from error
    names = tuple(line.strip() for line in lines)
    odd = next((number for number, name in enumerate(names, start=1) if not name or not name.isprintable()), None)
    if odd or len(names) < 2:
        what = f"line {odd} is no class name" if odd else f"it names {len(names)} classes"
        raise InputError(f"{printable(where)}: {what}", "it should hold one class name a line, two or more", path=where)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{printable(where)} names {printable(twice)} twice", "each class has one line", path=where)
    refuse_twins(names, where, what="classes")
    return names


def classes_of(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """The classes where there is no classes.txt: all labels there are, numbers in their order, else by name."""
    labels = set(labels)
    if all(_WHOLE.fullmatch(label) for label in labels):
        return tuple(map(str, sorted({int(label) for label in labels})))
    names = tuple(sorted(labels))
    refuse_twins(names, where, what="labels")
    return names


def numbering(classes: tuple[str, ...], *, listed: bool) -> Mapping[str, int]:
    """The label of each text a `.cls` may hold, for `label_of`. listed: whether the classes are those of a classes.txt, so that a
    whole number is a line's number from 0 on; else it is a name like any other.
    """
    by_name = {name: number for number, name in enumerate(classes)}
    return by_name | {str(number): number for number in range(len(classes))} if listed else by_name


def label_of(text: str, numbers: Mapping[str, int], classes: tuple[str, ...], name: str) -> int:
    """The label that a `.cls` means. InputError, with the sample's name, for a number or a name that the classes lack."""
    found = numbers.get(text)
    if found is None and _WHOLE.fullmatch(text):
        found = numbers.get(str(int(text)))  # 007
    if found is not None:
        return found
    raise InputError(
        f"{printable(name)} has the label {printable(text)}, which is none of the {len(classes):,} classes ({some(classes)})",
        f"put its class into {CLASSES} beside the shards, one a line",
        path=name,
    )
