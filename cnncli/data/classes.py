"""Class names: which are too alike, and matching a data set's to a model's. Labels follow names, never positions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from cnncli.data.source import Sample, Source
from cnncli.data.wnids import imagenet_wnids, other_word
from cnncli.errors import InputError, near_miss, printable

if TYPE_CHECKING:
    import torch

    from cnncli.data.shards.remote import RemoteShards

MOST_NAMES = 5  # in one message


def some(names: Iterable[str]) -> str:
    """Names for one line of a message: the first few, and how many more there are."""
    names = list(names)
    more = len(names) - MOST_NAMES
    return ", ".join(map(printable, names[:MOST_NAMES])) + (f" and {more} more" if more > 0 else "")


def refuse_twins(names: Iterable[str], path: str, *, what: str = "class folders") -> None:
    """InputError when two names differ only in case or in Unicode form: `Cat` and `cat`, or an accent in one code point or in two.

    what: what has these names, for the message.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        twin = seen.setdefault(key, name)
        if twin != name:
            # Two Unicode forms look the same on a screen, so both are shown in ASCII, with their code points.
            where = f"{what} of {printable(path)}"
            raise InputError(f"{where} differ only in case or Unicode form: {twin!a} and {name!a}", "rename or merge one", path=path)


AnySource = TypeVar("AnySource", bound="Source | RemoteShards")


def match_classes(model_classes: Sequence[str], source: AnySource, *, subset: bool = False) -> AnySource:
    """`source` with the model's classes, its labels as indices into them; names decide.

    A class of ImageNet has two names that are one: its number in WordNet (`n01440764`), as folders are called, and its word (`tench`).
    subset: classes of the model that the data lack are allowed, with 0 samples.
    InputError when the data have a class that the model does not know, or lack one without `subset`.
    """
    known = {name: index for index, name in enumerate(model_classes)}
    where = printable(source.name)
    found = _indices(known, source.classes)
    extra = [name for name in source.classes if name not in found]
    if extra and not found:
        told = f"no class in common: {where} has {some(source.classes)}, the model {some(model_classes)}"
        raise InputError(told, printable(_advice(extra[0], model_classes)), path=source.name)
    if extra:
        close = near_miss(extra[0], [name for name in model_classes if known[name] not in found.values()])
        hint = f"for {printable(extra[0])}, {close}" if close else "rename or remove those folders"
        raise InputError(f"{where} has classes that the model does not know: {some(extra)}", printable(hint), path=source.name)
    _refuse_two_names(found, source.name)
    missing = [name for name in model_classes if known[name] not in found.values()]
    if missing and not subset:
        raise InputError(f"{where} lacks classes of the model: {some(missing)}", "--classes-subset allows that", path=source.name)
    label = [found[name] for name in source.classes]
    if not isinstance(source, Source):
        return cast("AnySource", source.relabelled(tuple(model_classes), label))
    splits = {name: tuple(Sample(s.path, label[s.label]) for s in samples) for name, samples in source.splits.items()}
    return replace(source, classes=tuple(model_classes), splits=splits)


def _indices(known: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """The output of the model for each of these names that it knows, by itself or by the other word that ImageNet has for it."""
    found = {}
    for name in names:
        word = name if name in known else other_word(name)
        if word is not None and word in known:
            found[name] = known[word]
    return found


def _refuse_two_names(found: Mapping[str, int], path: str) -> None:
    """InputError when two classes of the data are one of the model: `n01440764` and `tench`."""
    seen: dict[int, str] = {}
    for name, index in found.items():
        twin = seen.setdefault(index, name)
        if twin != name:
            raise InputError(f"{printable(path)} has one class twice: {printable(twin)} and {printable(name)}", "merge the two", path=path)


def _advice(name: str, model_classes: Sequence[str]) -> str:
    """What to do where data and model have no class in common; `name` is a class of the data."""
    if set(model_classes) == imagenet_wnids().keys():
        return "the model tells ImageNet's 1,000 classes apart; `cnn finetune` teaches it yours"
    close = near_miss(name, list(model_classes))
    return f"for {name}, {close}" if close else "give data with the model's classes; `cnn finetune` teaches it others"


def class_counts(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """How many of these labels each class has: int64 [N] in 0..classes-1 -> int64 [classes], on the same device."""
    return labels.bincount(minlength=classes)
