"""What an audit tells of a source, as values: no pixels, no arithmetic, no printing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Grade = Literal["spoils", "note"]  # would spoil a training; is worth knowing


class Spot(NamedTuple):
    """One image of a source. path: its name within the source. name: its class."""

    path: str
    split: str
    name: str


class Unreadable(NamedTuple):
    """An image that cannot be decoded, and why."""

    spot: Spot
    reason: str


class Misnamed(NamedTuple):
    """A file whose name says another format than its content: `suffix` ".png", `kind` "jpeg"."""

    spot: Spot
    suffix: str
    kind: str


class Sized(NamedTuple):
    """An image and its size in pixels, upright."""

    path: str
    width: int
    height: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of all readable images, upright, in pixels.

    smallest, largest: by width x height. widest, tallest: by aspect ratio. median: of widths, and of heights.
    percentiles: {5, 25, 50, 75, 95: (width, height)}, of widths and of heights each by itself.
    """

    smallest: Sized
    largest: Sized
    widest: Sized
    tallest: Sized
    percentiles: dict[int, tuple[int, int]]

    @property
    def median(self) -> tuple[int, int]:
        """(width, height)."""
        return self.percentiles[50]


@dataclass(frozen=True)
class Duplicates:
    """Images with the same pixels.

    same_bytes: whether the files, too, are the same to the byte.
    conflict: they stand in several classes. leak: one is in train, one in another split. shared: in val and in test.
    """

    spots: tuple[Spot, ...]
    same_bytes: bool
    conflict: bool
    leak: bool
    shared: bool


@dataclass(frozen=True)
class Near:
    """Two images that nearly look the same, in different splits or classes.

    bits: how many of 64 bits of their hashes differ. correlation: of their thumbnails, -1..1. conflict, leak: as for Duplicates.
    """

    spots: tuple[Spot, Spot]
    bits: int
    correlation: float
    conflict: bool
    leak: bool


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    kind: a stable word. count: of what, says the message. message: one line. examples: the first few, one line each.
    """

    grade: Grade
    kind: str
    count: int
    message: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Everything that is told of a source.

    counts: {split: images of each class, in the order of `classes`}. derived: whether the split was made by hash.
    refused: why a training would refuse the source; empty when it would not.
    formats, modes: as Pillow names them, {name: images}. converted: {what happens to pixels on the way in: images}.
    mean, std: one number a channel (red, green, blue; or grey alone), of values in 0..1, of all decoded pixels; empty without any.
    input: (channels, height, width) that `bytes` is computed for: all readable images decoded at it, one byte a value.
    near_complete: False when there were so many near duplicates that not all were kept.
    """

    data: str
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    derived: bool
    notices: tuple[str, ...]
    refused: str
    images: int
    unreadable: tuple[Unreadable, ...]
    misnamed: tuple[Misnamed, ...]
    sizes: Sizes | None
    formats: dict[str, int]
    modes: dict[str, int]
    converted: dict[str, int]
    tiny: tuple[Spot, ...]
    constant: tuple[Spot, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input: tuple[int, int, int]
    bytes: int
    duplicates: tuple[Duplicates, ...]
    near: tuple[Near, ...]
    near_complete: bool
    twins: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...] = ()

    @property
    def spoiled(self) -> bool:
        """Whether something would spoil a training."""
        return any(finding.grade == "spoils" for finding in self.findings)

    @property
    def totals(self) -> tuple[int, ...]:
        """Images of each class in all splits together."""
        return tuple(map(sum, zip(*self.counts.values(), strict=True))) if self.counts else (0,) * len(self.classes)
