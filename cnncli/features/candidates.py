"""Rows of a matrix that may be among the k nearest of a query: by products, fast, with a bound of what rounding does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnncli.features.distances import Array, Frame, rows_of

TILE = 2048  # queries, and
BLOCK = 8192  # rows of the base, of one product: 64 MiB of scores; measured the fastest on two cores
GROUP = 16  # rows of the base whose best score is looked at first: it spares a look at the others


@dataclass(frozen=True)
class Candidates:
    """scores: [Q, m], the highest first. indices: int64 [Q, m]. error: float64 [Q], that no score is further from the true one."""

    scores: Tensor
    indices: Tensor
    error: Tensor


def candidates(
    queries: Tensor,
    base: Tensor | Array,
    m: int,
    frame: Frame,
    dtype: torch.dtype,
    *,
    only: Tensor | None = None,
    told: Callable[[float], None] = lambda _share: None,
) -> Candidates:
    """The m rows of the highest scores, computed in `dtype`; m is at most their number. only: bool [N], the rows that count."""
    count, device = len(base), queries.device
    scores = torch.full((len(queries), m), -torch.inf, dtype=dtype, device=device)
    indices = torch.full((len(queries), m), -1, dtype=torch.int64, device=device)
    shifted, _, lengths = frame.shifted(queries, dtype)
    asked = torch.cat([shifted, torch.ones_like(shifted[:, :1])], 1)
    longest = torch.zeros((), dtype=dtype, device=device)
    rows_room = torch.empty(min(BLOCK, count) + GROUP, queries.shape[1] + 1, dtype=dtype, device=device)
    room = torch.empty(0, dtype=dtype, device=device)
    for first in range(0, count, BLOCK):
        block = slice(first, min(first + BLOCK, count))
        given, sizes = biased(base, block, frame, rows_room, only=only)
        longest = torch.maximum(longest, sizes.amax())
        for start in range(0, len(queries), TILE):
            tile = asked[start : start + TILE]
            if len(room) < len(given) * len(tile):
                room = torch.empty(len(given) * len(tile), dtype=dtype, device=device)
            product = torch.mm(given, tile.t(), out=room[: len(given) * len(tile)].view(len(given), len(tile)))
            _merge(product, first, scores[start : start + TILE], indices[start : start + TILE])
            told((first + (block.stop - first) * min(1.0, (start + TILE) / len(queries))) / count)
    if not bool(torch.isfinite(longest)) or not bool(lengths.isfinite().all()):
        raise ValueError("a number is not finite")
    return Candidates(scores, indices, frame.error(lengths, longest, dtype))


def biased(base: Tensor | Array, block: slice, frame: Frame, room: Tensor, *, only: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Shifted rows with their biases behind them, [n, D + 1], and their lengths [n].

    They lie in `room`, up to whole groups; what fills these up has the score -inf for every query, as have rows that do not count.
    """
    count = block.stop - block.start
    given = room[: count + -count % GROUP]
    lengths = None if frame.lengths is None else frame.lengths[block]
    rows = rows_of(base, block, room.device)
    _, bias, sizes = frame.shifted(rows, room.dtype, lengths=lengths, out=given[:count, :-1])
    given[:count, -1] = bias if only is None else bias.masked_fill(~only[block], -torch.inf)
    given[count:] = 0
    given[count:, -1] = -torch.inf
    return given, sizes


def _merge(product: Tensor, first: int, scores: Tensor, indices: Tensor) -> None:
    """Take what is better than the worst candidate of its query, in place. product: [rows from `first` on, queries].

    Only groups of rows whose maximum is better are looked into: of more than m of them the m best, which hold m of the best rows.
    """
    m = scores.shape[1]
    grouped = product.view(-1, GROUP, product.shape[1])
    best = grouped.amax(1)  # [groups, queries]
    worst = scores[:, -1]
    better = best > worst
    crowded = (better.sum(0) > m).nonzero().flatten()
    if len(crowded):  # of the first block all are; later, those of which many rows are equally near
        top = best[:, crowded].topk(m, dim=0).indices
        better[:, crowded] = False
        better[top, crowded] = True
    group, query = better.nonzero(as_tuple=True)
    if not len(group):
        return
    values = grouped[group, :, query]  # [hits, GROUP]
    hit, inside = (values > worst[query][:, None]).nonzero(as_tuple=True)
    values, rows, query = values[hit, inside], group[hit] * GROUP + inside + first, query[hit]
    query, order = query.sort(stable=True)
    some, counts = query.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call] # torch has no types for it
    place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    line = torch.arange(len(some), device=query.device).repeat_interleave(counts)
    wide = m + int(counts.max())
    merged = scores.new_full((len(some), wide), -torch.inf)
    known = indices.new_full((len(some), wide), -1)
    merged[:, :m], known[:, :m] = scores[some], indices[some]
    merged[line, m + place], known[line, m + place] = values[order], rows[order]
    scores[some], chosen = merged.topk(m, dim=1)
    indices[some] = known.gather(1, chosen)


def kth_score(candidates: Candidates, k: int, own: Tensor | None) -> Tensor:
    """float64 [Q]: the k-th highest score of rows that are not the query itself."""
    scores = candidates.scores.double()
    if own is None:
        return scores[:, k - 1]
    before = (candidates.indices[:, :k] == own[:, None]).any(1)
    return torch.where(before, scores[:, min(k, scores.shape[1] - 1)], scores[:, k - 1])


def in_doubt(candidates: Candidates, k: int, own: Tensor | None, count: int) -> Tensor:
    """The queries of which a row that is no candidate could be among the k nearest."""
    if candidates.scores.shape[1] == count:
        return torch.empty(0, dtype=torch.int64, device=candidates.scores.device)
    last = candidates.scores[:, -1].double()
    return (last + 2 * candidates.error >= kth_score(candidates, k, own)).nonzero().flatten()
