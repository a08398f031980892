"""Descriptions of traced models, kept between commands: the second `cnn shape torchvision/resnet50` does not import torch.

One JSON file for each spec, input and number of classes. It says which versions it was made with, and holds for no others.
A cache that cannot be read or written is no error: the model is traced again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cnncli import atomic
from cnncli.cache_folder import cache_folder as folder
from cnncli.errors import CnnError
from cnncli.models.description import Description, Size, description_from_json, description_to_json, size_text
from cnncli.models.installed import versions_of

FORMAT = 2  # of the files and of the rules by which models are traced: whoever changes either makes it one more


class Key(NamedTuple):
    """What a description follows from. spec: torchvision/NAME or timm/NAME. input, classes: None for the model's own."""

    spec: str
    input: Size | None
    classes: int | None

    @property
    def file(self) -> str:
        """The name of its file in the cache."""
        size = "" if self.input is None else f"-{size_text(self.input)}"
        classes = "" if self.classes is None else f"-{self.classes}classes"
        return f"{self.spec.replace('/', '-')}{size}{classes}.json"


def load(key: Key) -> Description | None:
    """What was kept under this key with the versions that are installed; None where there is nothing that can be read."""
    place, made_with = _place(key), _made_with(key)
    if place is None or made_with is None:
        return None
    try:
        checksum, _, text = place.read_text("utf-8").partition("\n")
        if checksum != _checksum(text):
            return None
        kept = json.loads(text)
        return description_from_json(kept["description"]) if kept["made_with"] == made_with else None
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, CnnError):
        return None


def keep(key: Key, description: Description) -> None:
    """Keep a description under this key, where the disk allows it."""
    place, made_with = _place(key), _made_with(key)
    if place is None or made_with is None:
        return
    text = json.dumps({"made_with": made_with, "description": description_to_json(description)})
    try:
        atomic.make_folder(place.parent)
        atomic.write_text(place, f"{_checksum(text)}\n{text}")
    except CnnError:
        return


def _place(key: Key) -> Path | None:
    place = folder()
    return None if place is None else place / "shape" / key.file


def _made_with(key: Key) -> dict[str, Any] | None:
    """The key in full; None where a version is not known, such as that of a package that was not installed but only put in the way."""
    versions = versions_of(("cnncli", "torch", "torchvision", *(["timm"] if key.spec.startswith("timm/") else [])))
    if versions is None:
        return None
    return {"format": FORMAT, "spec": key.spec, "input": key.input and list(key.input), "classes": key.classes, "versions": versions}


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
