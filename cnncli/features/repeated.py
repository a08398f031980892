"""Rows of a matrix that are equal, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from cnncli.features.distances import Array, rows_of

PIECE = 2**22  # numbers of the matrix at a time
DIGEST = 16  # bytes: among 10^9 rows two that differ have the same with a chance of 10^-21
CELLS = 2**22  # of a table of candidates at a time


@dataclass(frozen=True)
class Repeated:
    """first: bool [N], the first of each group of equal rows. group: int64 [N], groups numbered by their first row.

    order: int64 [N], the rows by group, ascending; starts, counts: int64 [G], where in it a group begins, and its rows.
    """

    first: Tensor
    group: Tensor
    order: Tensor
    starts: Tensor
    counts: Tensor

    @property
    def any(self) -> bool:
        """Whether there are equal rows at all."""
        return len(self.counts) < len(self.group)


def repeated_in(matrix: Tensor | Array, device: torch.device) -> Repeated:
    """The equal rows of a matrix [N, D], by a digest of each; 0 and -0 are equal."""
    known: dict[bytes, int] = {}
    group = np.empty(len(matrix), dtype=np.int64)
    size = max(1, PIECE // matrix.shape[1])
    for start in range(0, len(matrix), size):
        rows = (rows_of(matrix, slice(start, start + size), torch.device("cpu")) + 0.0).numpy()
        group[start : start + size] = [known.setdefault(blake2b(row, digest_size=DIGEST).digest(), len(known)) for row in rows]
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    starts = counts.cumsum() - counts
    first = np.zeros(len(group), dtype=bool)
    first[order[starts]] = True
    return Repeated(*(torch.from_numpy(array).to(device) for array in (first, group, order, starts, counts)))


def members(repeated: Repeated, rows: Tensor, far: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of all rows, given those of the first of each group: rows, int64 [Q, g], and distances, float64 [Q, g].

    Where these are the k nearest first rows, or all, no row of another group is among the k nearest, as its first would be nearer.
    """
    most = min(k, int(repeated.counts.max()))
    places = torch.arange(most, device=rows.device)
    made: list[tuple[Tensor, Tensor]] = []
    size = max(1, CELLS // (rows.shape[1] * most))
    for start in range(0, len(rows), size):
        group = repeated.group[rows[start : start + size]]
        place = (repeated.starts[group][..., None] + places).clamp(max=len(repeated.order) - 1)
        own = torch.where(places < repeated.counts[group][..., None], repeated.order[place], len(repeated.order)).flatten(1)
        distance = far[start : start + size, :, None].expand(-1, -1, most).flatten(1)
        own, by_row = own.sort(dim=1)
        distance = distance.gather(1, by_row).masked_fill(own == len(repeated.order), torch.inf)
        order = distance.sort(dim=1, stable=True).indices[:, :k]
        made.append((own.gather(1, order), distance.gather(1, order)))
    return torch.cat([one for one, _ in made]), torch.cat([one for _, one in made])
