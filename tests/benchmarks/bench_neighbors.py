"""Exact nearest neighbours, 10,000 queries against 100,000 x 512, beside FAISS's flat index; recall against float64 on 100 queries.

python tests/benchmarks/bench_neighbors.py [ROUNDS]
"""

from __future__ import annotations

import sys

import faiss
import numpy as np
import torch
from timing import interleaved, machine, seconds, spread

from cnncli.features.nearest import brute_force, nearest

QUERIES, BASE, SIZE, K, THREADS, CHECKED = 10_000, 100_000, 512, 10, 2, 100


def main() -> None:
    """Print the table."""
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    random = np.random.default_rng(0)
    base, queries = (random.standard_normal((rows, SIZE), dtype=np.float32) for rows in (BASE, QUERIES))
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        found["cnn"] = nearest(torch.from_numpy(queries), torch.from_numpy(base), K).indices.numpy()

    def flat() -> None:
        index = faiss.IndexFlatL2(SIZE)
        index.add(base)
        found["FAISS IndexFlatL2"] = index.search(queries, K)[1]

    measured = interleaved({"cnn": seconds(ours), "FAISS IndexFlatL2": seconds(flat)}, int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    true, _ = brute_force(queries[:CHECKED], base, K, "l2")
    for name, values in measured.items():
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found[name][:CHECKED].tolist(), true.tolist(), strict=True)])
        print(f"{name:<18} {spread(values, 1)} s, recall {recall:.4f}")
    print(f"{QUERIES:,} x {BASE:,} x {SIZE}, k = {K}; {machine()}, {THREADS} threads, torch {torch.__version__}, FAISS {faiss.__version__}")


if __name__ == "__main__":
    main()
