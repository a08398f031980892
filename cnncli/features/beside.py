"""What a feature file holds beside its arrays, in whatever form; and the content that is to be written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import cast

import numpy as np

from cnncli.errors import InputError, printable
from cnncli.features.feature_set import UNLABELLED, Array, FeatureSet, Kind, Origin, Space

FORMAT = 1
KEY = "cnncli-features"  # of the JSON text, where a form has metadata
AGAIN = "extract the features again, or give another file"
PIECE = 4096  # rows at a time

Chunks = Callable[[int], Iterable[Array]]


@dataclass(frozen=True)
class Content:
    """What a feature file is to hold. features: without arrays. chunks: (place of a space) -> its rows, in parts. dtype: of all numbers."""

    features: FeatureSet
    chunks: Chunks
    dtype: str = "float32"


def content_of(features: FeatureSet) -> Content:
    """The content of a set whose arrays are at hand."""
    dtype = str(next(iter(features.arrays.values())).dtype) if features.arrays else "float32"

    def chunks(place: int) -> Iterator[Array]:
        array = features.arrays[features.spaces[place].name]
        for first in range(0, len(array), PIECE):
            yield np.asarray(array[first : first + PIECE])

    return Content(features, chunks, dtype)


def about_of(features: FeatureSet) -> str:
    """The JSON text that says what the numbers are, from which model and images."""
    spaces = [asdict(space) | {"shape": list(space.shape)} for space in features.spaces]
    origin = asdict(replace(features.origin, cnncli=version("cnncli")))
    return json.dumps({"format": FORMAT, "spaces": spaces, "origin": origin, "classes": list(features.classes)})


def without_arrays(about: str, labels: Array, paths: Iterable[str], splits: Iterable[str]) -> FeatureSet:
    """The set without its arrays. Any exception where the text is not what `about_of` gives."""
    said = json.loads(about)
    if said["format"] != FORMAT:
        raise InputError(f"its format is {said['format']}, and this version reads {FORMAT}", "update cnncli")
    names = {"name", "kind", "shape", "layer", "pool", "activation"}
    spaces = []
    for one in said["spaces"]:
        if one.keys() != names or one["kind"] not in ("layer", "random", "pixels", "hog"):
            raise ValueError("an unknown kind of numbers")
        spaces.append(
            Space(
                str(one["name"]),
                cast("Kind", one["kind"]),
                tuple(map(int, one["shape"])),
                *(str(one[key]) for key in ("layer", "pool", "activation")),
            )
        )
    origin = Origin(**said["origin"])
    classes = tuple(map(str, said["classes"]))
    return FeatureSet({}, tuple(spaces), np.asarray(labels, dtype=np.int64), classes, tuple(paths), tuple(splits), origin)


def check(features: FeatureSet) -> None:
    """ValueError where the parts of a set do not fit together."""
    count = len(features)
    if not (len(features.paths) == len(features.splits) == count):
        raise ValueError("its lists are not of the same length")
    if count and not (int(features.labels.min()) >= UNLABELLED and int(features.labels.max()) < max(1, len(features.classes))):
        raise ValueError("a label is none of its classes")
    for space in features.spaces:
        array = features.arrays.get(space.name)
        if array is None or array.shape != (count, *space.shape) or array.dtype not in (np.float32, np.float16):
            raise ValueError(f"its array {printable(space.name)} is missing or of another shape")
