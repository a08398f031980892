"""What makes a sample out of the files in a shard: an image and a `.cls`, with one key; and what is left out, counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cnncli.data.shards.archive import Cursor, Member, members
from cnncli.data.shards.naming import key_of
from cnncli.data.walk import EXTENSIONS

T = TypeVar("T")

IMAGES = frozenset(extension.removeprefix(".") for extension in EXTENSIONS)
LABEL = "cls"
MOST_LABEL_BYTES = 1024

WITHOUT_LABEL, WITHOUT_IMAGE, TWO_IMAGES = "images without a .cls", ".cls files without an image", "second images for a key"
TWICE, UNSAFE, ODD_LABEL = "files that are there twice", "files with absolute names or ..", ".cls files that hold no label"
APART = "the files of a sample have to lie one behind the other, as `tar --sort=name` puts them: 0001.cls, 0001.jpg, 0002.cls, ..."


@dataclass(frozen=True, slots=True)
class Pair(Generic[T]):
    """A sample: the name of its image in the shard, the image, and its label as the `.cls` has it."""

    name: str
    image: T
    label: str


@dataclass
class Sorting:
    """The files of one shard that can belong to samples. left_out: how many files or samples were left out, by kind."""

    left_out: Counter[str] = field(default_factory=Counter)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def files(self, cursor: Cursor) -> Iterator[tuple[str, str, Member]]:
        """(key, extension, member) of images and labels. Of files with one name the first stays."""
        for member in members(cursor, self.left_out):
            found = key_of(member.name)
            if found is None:
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    self.left_out[UNSAFE] += 1
                continue
            key, extension = found
            if extension != LABEL and extension not in IMAGES:
                continue  # captions, masks and the like
            if found in self._seen:
                self.left_out[TWICE] += 1
                continue
            self._seen.add(found)
            yield key, extension, member

    def pair(self, key: str, found: Mapping[str, T], label: str | None) -> Pair[T] | None:
        """The sample of a key; of several images the first in the shard. None, and it is counted, where something is missing.

        label: what the `.cls` holds, None where it holds none.
        """
        images = [extension for extension in found if extension in IMAGES]
        if not images:
            self.left_out[WITHOUT_IMAGE] += 1
        elif LABEL not in found:
            self.left_out[WITHOUT_LABEL] += 1
        elif label is None:
            self.left_out[ODD_LABEL] += 1
        else:
            self.left_out[TWO_IMAGES] += len(images) - 1
            return Pair(f"{key}.{images[0]}", found[images[0]], label)
        return None


def label_in(data: bytes) -> str | None:
    """The whole number or class name that a `.cls` holds; None where it is empty, long, of several lines, or no text."""
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return text if text and len(data) <= MOST_LABEL_BYTES and text.isprintable() else None


def told(left_out: Counter[str]) -> tuple[str, ...]:
    """One line on what was left out; none when nothing was."""
    kinds = [f"{count:,} {kind}" for kind, count in left_out.items() if count]
    return (f"left out of the shards: {', '.join(kinds)}",) if kinds else ()
