"""What a search for neighbours finds out about images, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnncli.features.feature_set import Array


@dataclass(frozen=True)
class Protocol:
    """Which images ask, and among which their neighbours are sought. queries, base: rows of the feature set. told: in words."""

    queries: Array
    base: Array
    told: str
    leave_one_out: bool


@dataclass(frozen=True)
class Vote:
    """How often the k nearest of the base, by majority, have the class of a query. hits: bool [Q]. low, high: 95 % interval of accuracy."""

    space: str
    kind: str
    size: int
    k: int
    hits: Array
    accuracy: float
    low: float
    high: float

    @property
    def count(self) -> int:
        """Queries."""
        return len(self.hits)


@dataclass(frozen=True)
class Pair:
    """Two images that are close. near: closer than the fence. same_pixels: None where pixels are not at hand. conflict: other classes."""

    first: int
    second: int
    distance: float
    near: bool
    same_pixels: bool | None
    conflict: bool


@dataclass(frozen=True)
class Pairs:
    """pairs: by distance. fence: the distance below which two images count as near duplicates. near: how many do."""

    pairs: tuple[Pair, ...]
    fence: float
    near: int


@dataclass(frozen=True)
class Suspect:
    """An image most of whose neighbours have another class. votes: of its neighbours for `said`; own: for its own class; k: neighbours."""

    row: int
    label: int
    said: int
    votes: int
    own: int
    k: int
    distance: float


@dataclass(frozen=True)
class Shown:
    """An image that asks, and its neighbours in some spaces. neighbours: by space, (row, distance), the nearest first.

    row: of the set it is taken from. path, label (-1: none): of the image itself.
    """

    row: int
    path: str
    label: int
    neighbours: dict[str, tuple[tuple[int, float], ...]]
