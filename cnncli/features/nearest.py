"""The k nearest rows of a matrix for each of many queries, exactly, in blocks and in little memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cnncli.features.candidates import GROUP, Candidates, biased, candidates, in_doubt, kth_score
from cnncli.features.distances import Array, Frame, distances, frame_of, rows_of
from cnncli.features.repeated import Repeated, members, repeated_in

Metric = Literal["l2", "cosine"]
METRICS: tuple[Metric, ...] = ("l2", "cosine")

CHUNK = 16_384  # queries that share one walk over the base: their best rows so far are all that is kept of it
SPARE = 6  # candidates beside the k, so that rounding in float32 seldom leaves a doubt
MORE = 64  # candidates in float64, where it does
FEW = 64  # queries in doubt for which equal rows of the base are not worth looking for
TIED = 1024  # queries, and rows of the base, of which all pairs may be as near


@dataclass(frozen=True)
class Nearest:
    """indices: int64 [Q, k], rows of the base, the nearest first, of equally near ones the lower. distances: float64 [Q, k]."""

    indices: Tensor
    distances: Tensor


def nearest(
    queries: Tensor | Array,
    base: Tensor | Array,
    k: int,
    *,
    metric: Metric = "l2",
    own: Tensor | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Nearest:
    """The k nearest rows of base [N, D] for each row of queries [Q, D], as a search in float64 finds them.

    metric: l2, the Euclidean distance, or cosine, 1 - a.b / (|a| |b|) in 0..2, with 1 for a vector of zeros. own: int64 [Q], the row
    of base that is the query itself and is left out, -1 for none. Both matrices may be tensors or numpy arrays, mapped ones too, of which
    a block at a time is read; where queries are a tensor, its device computes. on_progress: (queries done, of how many).

    Both metrics are the ranking by a score q.b + bias(b) of shifted vectors (see `Frame`). Products in float32 give k + 6 candidates, whose
    distances are computed in float64. The error of such a product is at most E = u (D + 8) (|q| |b| + 2 |bias|), whatever the order of its
    sums (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). So no row outside is nearer where the last candidate's
    score is more than 2 E below the k-th. The queries of which it is not are searched again, equal ones once: among rows of the base that
    differ, in float32 and, where that leaves a doubt, in float64 with more candidates; where even these are in doubt, every row within 2 E
    is looked at. So thousands of zeros or duplicates cost about one more walk over the base.

    ValueError where k is not in 1..N, less one where a query is among them, or a number is not finite.
    """
    count = len(base)
    if not 1 <= k <= count - (own is not None and bool((own >= 0).any())):
        raise ValueError(f"{k} neighbours among {count} rows")
    device = queries.device if isinstance(queries, Tensor) else torch.device("cpu")
    frame = frame_of(base, metric, device)
    repeated = cache(lambda: repeated_in(base, device))
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=device)
    found = torch.empty(len(queries), k, dtype=torch.float64, device=device)
    for first in range(0, len(queries), CHUNK):
        last = min(first + CHUNK, len(queries))
        part = rows_of(queries, slice(first, last), device)
        mine = None if own is None else own[first:last].to(device)

        def told(share: float, first: int = first, last: int = last) -> None:
            on_progress(first + int(share * (last - first)), len(queries))

        indices[first:last], found[first:last] = _of_chunk(part, base, k, frame, repeated, own=mine, told=told)
    on_progress(len(queries), len(queries))
    return Nearest(indices, found)


def _of_chunk(
    queries: Tensor,
    base: Tensor | Array,
    k: int,
    frame: Frame,
    repeated: Callable[[], Repeated],
    *,
    own: Tensor | None,
    told: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Indices and distances: in float32, then more carefully for the queries that are in doubt."""
    spare = SPARE + (own is not None)
    first = candidates(queries, base, min(k + spare, len(base)), frame, torch.float32, told=told)
    indices, found = _ranked(queries, base, k, frame, first, own=own)
    doubt = in_doubt(first, k, own, len(base))
    if not len(doubt):
        return indices, found
    few = queries[doubt]
    alike = repeated_in(few, queries.device)
    few = few[alike.first]
    rows, far = _settled(few, base, min(k + (own is not None), len(base)), frame, repeated() if len(few) > FEW else None)
    rows, far = rows[alike.group], far[alike.group]
    if own is not None:
        others = (rows == own[doubt, None]).int().sort(dim=1, stable=True).indices
        rows, far = rows.gather(1, others), far.gather(1, others)
    indices[doubt], found[doubt] = rows[:, :k], far[:, :k]
    return indices, found


def _settled(queries: Tensor, base: Tensor | Array, k: int, frame: Frame, repeated: Repeated | None) -> tuple[Tensor, Tensor]:
    """Indices and distances for queries that float32 leaves in doubt. repeated: the equal rows of the base, where these are worth it."""
    if repeated is not None and not repeated.any:
        repeated = None
    count = len(base) if repeated is None else int(repeated.first.sum())
    only = None if repeated is None else repeated.first
    wanted = min(k, count)
    indices = torch.empty(len(queries), wanted, dtype=torch.int64, device=queries.device)
    found = torch.empty(len(queries), wanted, dtype=torch.float64, device=queries.device)
    left = torch.arange(len(queries), device=queries.device)
    for dtype, spare in ((torch.float32, SPARE), (torch.float64, SPARE + MORE)):
        if not len(left) or (repeated is None and dtype == torch.float32):  # which is what left them in doubt
            continue
        again = candidates(queries[left], base, min(wanted + spare, count), frame, dtype, only=only)
        indices[left], found[left] = _ranked(queries[left], base, wanted, frame, again, own=None)
        doubt = in_doubt(again, wanted, None, count)
        left, least = left[doubt], (kth_score(again, wanted, None) - 2 * again.error)[doubt]
    for first in range(0, len(left), TIED):
        part = left[first : first + TIED]
        indices[part], found[part] = _tied(queries[part], base, wanted, frame, least[first : first + TIED], only=only)
    return (indices, found) if repeated is None else members(repeated, indices, found, k)


def _tied(queries: Tensor, base: Tensor | Array, k: int, frame: Frame, least: Tensor, *, only: Tensor | None) -> tuple[Tensor, Tensor]:
    """The k nearest of all rows whose score in float64 is at least `least` [Q], which are k or more; their distances decide."""
    shifted, _, _ = frame.shifted(queries, torch.float64)
    room = torch.empty(TIED + GROUP, queries.shape[1] + 1, dtype=torch.float64, device=queries.device)
    best = torch.full((len(queries), k), torch.inf, dtype=torch.float64, device=queries.device)
    rows = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
    for first in range(0, len(base), TIED):
        given, _ = biased(base, slice(first, min(first + TIED, len(base))), frame, room, only=only)
        asking, near = (shifted @ given[:, :-1].t() + given[:, -1] >= least[:, None]).nonzero(as_tuple=True)
        some, line = asking.unique(return_inverse=True)  # type: ignore[no-untyped-call] # torch has no types for it
        far = torch.full((len(some), len(given)), torch.inf, dtype=torch.float64, device=queries.device)
        far[line, near] = distances(queries, base, asking, near + first, frame.metric)
        names = (torch.arange(len(given), device=rows.device) + first).expand(len(some), -1)
        both, order = torch.cat([best[some], far], 1).sort(dim=1, stable=True)  # lower rows stand first, and win ties
        best[some], rows[some] = both[:, :k], torch.cat([rows[some], names], 1).gather(1, order[:, :k])
    return rows, best


def _ranked(
    queries: Tensor, base: Tensor | Array, k: int, frame: Frame, candidates: Candidates, *, own: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The k nearest of the candidates, by their distance in float64, then by their number.

    Those whose score is more than 2 E below the k-th cannot be among them.
    """
    least = kth_score(candidates, k, own) - 2 * candidates.error
    possible = (candidates.indices >= 0) & (candidates.scores >= least[:, None])
    if own is not None:
        possible &= candidates.indices != own[:, None]
    rows, order = candidates.indices.sort(dim=1)
    possible = possible.gather(1, order)
    asking, place = possible.nonzero(as_tuple=True)
    found = torch.full(rows.shape, torch.inf, dtype=torch.float64, device=rows.device)
    found[asking, place] = distances(queries, base, asking, rows[asking, place], frame.metric)
    order = found.sort(dim=1, stable=True).indices[:, :k]
    return rows.gather(1, order), found.gather(1, order)


def brute_force(queries: Array, base: Array, k: int, metric: Metric) -> tuple[Array, Array]:
    """Indices and distances by every distance in float64: slow, to measure the recall of others on a few queries."""
    rows = torch.arange(len(base))
    indices, found = [], []
    for query in torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32)):
        row = distances(query[None], base, torch.zeros_like(rows), rows, metric).numpy()
        order = np.argsort(row, kind="stable")[:k]
        indices.append(order)
        found.append(row[order])
    return np.array(indices), np.array(found)
