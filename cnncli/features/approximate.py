"""Nearest neighbours by an index of FAISS: for sets on which exact search takes too long. An extra."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnncli.errors import EnvironmentFault
from cnncli.features.distances import Array, distances, unit
from cnncli.features.nearest import Metric, Nearest, nearest

SMALL = 10_000  # vectors below which a flat index is as fast, and exact
FIRST_PROBED = 1 / 16  # of the cells; twice as many, and so on, until recall is enough
RECALL = 0.95  # of the k nearest, on the sample
SAMPLE = 200  # queries that are searched exactly as well
TRAINED_ON = 64  # vectors a cell: FAISS warns below 39
QUERIES = 4096  # between two reports of progress


def check_faiss() -> None:
    """EnvironmentFault where it is not installed."""
    if find_spec("faiss") is None:
        raise EnvironmentFault("--search faiss needs the package faiss", 'pip install "cnncli[faiss]"', path="--search")


def nearest_faiss(
    queries: Tensor | Array,
    base: Tensor | Array,
    k: int,
    *,
    metric: Metric = "l2",
    own: Tensor | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    on_recall: Callable[[float, int], None] = lambda _recall, _queries: None,
) -> Nearest:
    """As `nearest.nearest`, of the cells of an inverted file that are nearest to a query: a neighbour in another cell is missed.

    4 sqrt(N) cells, fewer where that leaves less than 64 vectors to each (IVF: Jegou, Douze and Schmid 2011, IEEE TPAMI 33:117). A
    sixteenth of them is looked into, or 2, 4, 8 times as many, or all, until 0.95 of the k nearest of 200 queries, drawn at random, are
    found: on_recall is told (this share, of how many queries). Distances are those of exact search, in float64. Where cells hold fewer
    than k vectors, the places left have an infinite distance.
    """
    check_faiss()
    import faiss  # type: ignore[import-not-found,import-untyped,unused-ignore]

    vectors, asked = _vectors(base, metric), _vectors(queries, metric)
    index: Any = faiss.IndexFlatL2(vectors.shape[1])
    if len(vectors) >= SMALL:
        cells = round(min(4 * sqrt(len(vectors)), len(vectors) / TRAINED_ON))
        index = faiss.IndexIVFFlat(index, vectors.shape[1], cells)
        trained_on = np.random.default_rng(0).permutation(len(vectors))[: TRAINED_ON * cells]
        index.train(vectors[np.sort(trained_on)])
        index.nprobe = max(1, round(cells * FIRST_PROBED))
    index.add(vectors)
    given = queries.cpu().float() if isinstance(queries, Tensor) else torch.from_numpy(np.array(queries, dtype=np.float32))
    mine = None if own is None else own.cpu()

    def look(rows: Tensor) -> Nearest:
        found = index.search(asked[rows.numpy()], min(k + (mine is not None), len(vectors)))[1]
        return _ranked(given[rows], base, k, metric, torch.from_numpy(found), own=None if mine is None else mine[rows])

    sample = torch.from_numpy(np.sort(np.random.default_rng(1).permutation(len(given))[:SAMPLE]))
    true = nearest(given[sample], base, k, metric=metric, own=None if mine is None else mine[sample])
    recall = _recall(look(sample), true)
    while recall < RECALL and len(vectors) >= SMALL and index.nprobe < index.nlist:
        index.nprobe = min(2 * index.nprobe, index.nlist)
        recall = _recall(look(sample), true)
    on_recall(recall, len(sample))
    parts = []
    for first in range(0, len(given), QUERIES):
        last = min(first + QUERIES, len(given))
        parts.append(look(torch.arange(first, last)))
        on_progress(last, len(given))
    return Nearest(torch.cat([part.indices for part in parts]), torch.cat([part.distances for part in parts]))


def _recall(found: Nearest, true: Nearest) -> float:
    """The share of neighbours that are as near as the k-th nearest; of equally near ones any will do."""
    return float((found.distances <= true.distances[:, -1:]).double().mean())


def _ranked(queries: Tensor, base: Tensor | Array, k: int, metric: Metric, indices: Tensor, *, own: Tensor | None) -> Nearest:
    """The k nearest of those that FAISS found, [Q, m], -1 for none, by their distances in float64."""
    rows = indices.sort(dim=1).values
    there = rows >= 0 if own is None else (rows >= 0) & (rows != own[:, None])
    asking, place = there.nonzero(as_tuple=True)
    found = torch.full(rows.shape, torch.inf, dtype=torch.float64)
    found[asking, place] = distances(queries, base, asking, rows[asking, place], metric)
    order = found.sort(dim=1, stable=True).indices[:, :k]
    return Nearest(rows.gather(1, order), found.gather(1, order))


def _vectors(matrix: Tensor | Array, metric: Metric) -> Array:
    """float32 [N, D] whose Euclidean distances rank as the metric does."""
    rows = matrix.cpu().float() if isinstance(matrix, Tensor) else torch.from_numpy(np.array(matrix, dtype=np.float32))
    return np.ascontiguousarray((unit(rows).float() if metric == "cosine" else rows).numpy())
