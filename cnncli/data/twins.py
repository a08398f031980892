"""Class names that are probably meant to be one: they differ only in case, padding, separators or Unicode form."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

SEPARATORS = re.compile(r"[\s_\-]+")


def meant(name: str) -> str:
    """What twins have in common: composed, without case; spaces, underscores and hyphens as one space, none at the ends."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return SEPARATORS.sub(" ", folded).strip() or folded  # `-` and `_` may be classes of their own: signs, gestures


def twins(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The groups of two or more names that mean the same, each sorted."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[meant(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def merged(
    groups: Sequence[Sequence[str]], classes: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> tuple[dict[str, str], tuple[tuple[str, ...], ...]]:
    """({name: the name it becomes}, groups that are left alone).

    Names that differ in case and both have training images may be two classes on purpose, as the letters `a` and `A` are: such a group is
    left alone. Of the others a name without spaces around it is kept, of those the one with the most images, of equals that of train.

    counts: {split: images of each of `classes`}.
    """
    index = {name: place for place, name in enumerate(classes)}
    total = {name: sum(split[place] for split in counts.values()) for name, place in index.items()}
    train = counts.get("train") or [total[name] for name in classes]
    becomes: dict[str, str] = {}
    left = []
    for group in groups:
        if _differ_in_case([name for name in group if train[index[name]]]):
            left.append(tuple(group))
            continue
        kept = min(group, key=lambda name: (name != name.strip(), -total[name], -train[index[name]], name))
        becomes |= {name: kept for name in group if name != kept}
    return becomes, tuple(left)


def _differ_in_case(names: Sequence[str]) -> bool:
    same_but_case = {SEPARATORS.sub(" ", unicodedata.normalize("NFC", name)).strip() for name in names}
    return len(same_but_case) > 1
