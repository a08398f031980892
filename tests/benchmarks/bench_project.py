"""t-SNE of clustered vectors of 512 numbers beside scikit-learn's, with and without PCA before it; seconds and neighbours kept.

python tests/benchmarks/bench_project.py [ROUNDS] [COUNT]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import numpy as np
import openTSNE
import sklearn
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from timing import interleaved, machine, seconds, spread

from cnncli.features.project import COMPONENTS, kept, project

COUNT, SIZE, CLUSTERS, SEED = 10_000, 512, 20, 0


def clustered(count: int) -> np.ndarray:
    """float32 [count, SIZE]: clusters of their own shapes, whose numbers depend on each other as those of a layer do."""
    random = np.random.default_rng(SEED)
    middles = 3 * random.standard_normal((CLUSTERS, 40))
    inner = middles[np.arange(count) % CLUSTERS] + random.standard_normal((count, 40))
    outer = inner @ random.standard_normal((40, SIZE)) / np.sqrt(40)
    return (np.maximum(outer, 0) + 0.1 * random.standard_normal((count, SIZE))).astype(np.float32)


def main() -> None:
    """Print the table."""
    rounds, count = (int(given) for given in [*sys.argv[1:3], *("3", str(COUNT))[len(sys.argv) - 1 :]])
    matrix = clustered(count)
    rivals: dict[str, Callable[[], np.ndarray]] = {
        "cnn": lambda: project(matrix, "tsne", seed=SEED)[0],
        f"sklearn, PCA to {COMPONENTS}": lambda: TSNE(random_state=SEED, n_jobs=-1).fit_transform(
            PCA(COMPONENTS, random_state=SEED).fit_transform(matrix)
        ),
        "sklearn": lambda: TSNE(random_state=SEED, n_jobs=-1).fit_transform(matrix),
    }
    project(matrix[:200], "tsne", seed=SEED)  # what is imported and compiled once
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> None:
        found[name] = rivals[name]().astype(np.float64)

    measured = interleaved({name: seconds(lambda name=name: keep(name)) for name in rivals}, rounds)
    for name, values in measured.items():
        print(f"{name:<20} {spread(values, 1):>24} s   {kept(matrix, found[name]) or 0:6.1%} of the 10 nearest neighbours kept")
    versions = f"openTSNE {openTSNE.__version__}, scikit-learn {sklearn.__version__}"
    print(f"{count:,} x {SIZE}, perplexity 30; {machine()}, {versions}")


if __name__ == "__main__":
    main()
