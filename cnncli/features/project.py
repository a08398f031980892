"""Feature vectors as points of a plane: PCA, t-SNE, UMAP; and how many neighbours stay neighbours there.

PCA: the two directions of largest variance. t-SNE: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9 (2008), by openTSNE,
from the first two principal components (Kobak and Berens, Nature Communications 10:5416, 2019), with the learning rate N / exaggeration
(Belkina et al., Nature Communications 10:5415, 2019). UMAP: McInnes, Healy and Melville, arXiv 1802.03426, by umap-learn.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.features.projected import Method

Matrix = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
Told = Callable[[int, int], None]

USUAL_PERPLEXITY = 30.0
COMPONENTS = 50  # that t-SNE works on: distances hardly change, and neighbours are found ten times as fast
NEIGHBOURS_OF_PERPLEXITY = 3  # a Gaussian of perplexity p is nothing beyond 3 p neighbours (van der Maaten, JMLR 15, 2014, section 4.1)
EXACT_PCA = 2048  # numbers an image up to which all directions are found, and not the first few by random projections
EXAGGERATED, FREE = 250, 500  # iterations
EXAGGERATION = 12
# Up to here the repulsion is summed over a tree (Barnes and Hut), above it is interpolated on a grid (Linderman et al., Nature Methods 16,
# 2019), whose cost does not grow with the points. The tree gives the same bits with any number of threads, the grid with one alone.
MOST_FOR_TREE = 4000
POINTS_OF_THREAD = 2000  # at least; with fewer, threads wait for each other longer than they work
NEW_PERPLEXITY = 5  # of an image that is put among others; openTSNE's
NEW_NEIGHBOURS = 25  # at whose median it starts
NEW_ITERATIONS = 250
UMAP_NEIGHBOURS = 15
KEPT_OF = 10  # nearest neighbours that are looked at
MOST_LOOKED_AT = 2000  # images
BLOCK = 1024  # rows of distances at a time


@dataclass(frozen=True)
class Fit:
    """What puts further images into the same plane.

    mean: float64 [D]; components: float64 [C, D], directions of length 1; explained: their shares of the variance. reference: of t-SNE,
    the components of its images, float32 [N, C]. embedding: their places, float64 [N, 2]. Both empty for PCA.
    """

    method: Method
    mean: npt.NDArray[np.float64]
    components: npt.NDArray[np.float64]
    explained: npt.NDArray[np.float64]
    reference: Matrix
    embedding: Points
    perplexity: float = USUAL_PERPLEXITY
    seed: int = 0


def largest_perplexity(count: int) -> int:
    """That so many images allow: each needs three times as many neighbours."""
    return (count - 1) // NEIGHBOURS_OF_PERPLEXITY


def choose_perplexity(asked: float | None, count: int) -> float:
    """The asked one, or the usual 30, or less where the images are few. UsageError, with the largest, for more than they allow."""
    most = largest_perplexity(count)
    if most < 1:
        raise UsageError(f"t-SNE needs at least {NEIGHBOURS_OF_PERPLEXITY + 1} images, and there are {count}", "use --method pca")
    if asked is None:
        return min(USUAL_PERPLEXITY, float(most))
    if not (math.isfinite(asked) and asked >= 1):
        raise UsageError(f"--perplexity {asked:g} should be at least 1", f"for example {min(30, most)}", path="--perplexity")
    if asked > most:
        told = f"--perplexity {asked:g} needs {math.floor(NEIGHBOURS_OF_PERPLEXITY * asked) + 1:,} images, and there are {count:,}"
        raise UsageError(told, f"the largest here is --perplexity {most}", path="--perplexity")
    return asked


def project(
    matrix: Matrix,
    method: Method,
    *,
    perplexity: float | None = None,
    neighbours: int | None = None,
    seed: int = 0,
    told: Told | None = None,
) -> tuple[Points, Fit]:
    """(points [N, 2], what puts further images there) of float32 [N, D]. The same seed gives the same points.

    told: called with (iterations done, of how many) of t-SNE. UsageError where the images are too few; InputError where all are the same;
    EnvironmentFault for UMAP without umap-learn.
    """
    if len(matrix) < 2:
        raise UsageError(f"a projection needs at least 2 images, and there are {len(matrix)}", "give more images")
    if (matrix == matrix[0]).all():
        raise InputError(f"all {len(matrix):,} images have the same features", "take another layer or other images")
    if method == "umap":
        return _umap(matrix, neighbours, seed)
    if method == "tsne":
        perplexity = choose_perplexity(perplexity, len(matrix))
    fit, scores = _pca(matrix, COMPONENTS if method == "tsne" else 2, seed)
    start = _two(scores)
    if method == "pca":
        return start, fit
    assert perplexity is not None
    reference = scores.astype(np.float32)
    points = _tsne(reference, start, perplexity, seed, told)
    return points, Fit("tsne", fit.mean, fit.components, fit.explained, reference, points, perplexity, seed)


def place(fit: Fit, matrix: Matrix) -> Points:
    """Further images, float32 [M, D], in the plane of a fit: [M, 2]. Each is placed on its own, whichever others come with it.

    t-SNE has no formula for them: each starts at the median of its nearest neighbours' places and moves as the images of the fit pull
    and push it, which stay where they are (Policar, Strazar and Zupan, "Embedding to reference t-SNE space", Machine Learning 112, 2023).
    """
    if fit.method == "umap":
        raise UsageError(
            "a UMAP fit cannot be kept: its state is a Python object, and cnn stores no such thing",
            "use --method tsne or pca",
            path="--fit",
        )
    if not len(matrix):
        return np.zeros((0, 2))
    scores = _scores(fit, matrix)
    return _two(scores) if fit.method == "pca" else _placed(fit, scores.astype(np.float32))


def kept(matrix: Matrix, points: Points, seed: int = 0) -> float | None:
    """How many of an image's 10 nearest neighbours are among its 10 nearest in the plane, as a share in 0..1; the mean over at most 2,000.

    None for 2 images, where nothing could be lost.
    """
    k = min(KEPT_OF, len(matrix) - 2)
    if k < 1:
        return None
    rows = np.random.default_rng(seed).permutation(len(matrix))[:MOST_LOOKED_AT]
    there, here = (_nearest(m, m[rows], k, own=rows)[0] for m in (matrix, points.astype(np.float32)))
    both = (there[:, :, None] == here[:, None, :]).any(axis=2)
    return float(both.mean())


def _two(scores: Points) -> Points:
    """The first two columns; a second one of zeros where there is but one."""
    found = np.zeros((len(scores), 2))
    found[:, : min(2, scores.shape[1])] = scores[:, :2]
    return found


def _pca(matrix: Matrix, components: int, seed: int) -> tuple[Fit, Points]:
    """(a fit of PCA, scores [N, C]): at most so many directions, none of no variance."""
    mean = matrix.mean(axis=0, dtype=np.float64)
    count, size = matrix.shape
    components = min(components, count, size)
    if min(count, size) <= EXACT_PCA:
        directions, variances, total = _exact_directions(matrix, mean, components)
    else:
        from sklearn.decomposition import PCA

        pca = PCA(components, svd_solver="randomized", random_state=seed).fit(matrix - mean.astype(np.float32))
        directions, variances = pca.components_.astype(np.float64), pca.explained_variance_.astype(np.float64)
        total = float(variances.sum() / pca.explained_variance_ratio_.sum())
    strongest = np.abs(directions).argmax(axis=1, keepdims=True)  # is positive: a direction and its opposite are the same
    # A file has rows in C order, and sums follow the order.
    directions = np.ascontiguousarray(directions * np.sign(np.take_along_axis(directions, strongest, axis=1)))
    empty = np.zeros((0, len(directions)), dtype=np.float32)
    fit = Fit("pca", mean, directions, variances / total, empty, np.zeros((0, 2)), seed=seed)
    return fit, _scores(fit, matrix)


def _exact_directions(matrix: Matrix, mean: Points, components: int) -> tuple[Points, Points, float]:
    """(directions [C, D], their variances [C], the variance of all), from the products of columns or of rows, whichever are fewer."""
    from scipy.linalg import eigh

    count, size = matrix.shape
    tall = size <= count
    products = np.zeros((min(count, size),) * 2)
    for first in range(0, max(count, size), BLOCK):  # so that float64 is there of one block alone
        own = slice(first, first + BLOCK)
        block = matrix[own] - mean if tall else (matrix[:, own] - mean[own]).T
        products += block.T @ block
    values, vectors = eigh(products, subset_by_index=(len(products) - components, len(products) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    some = values > len(products) * np.finfo(np.float64).eps * values[0]  # the rest is rounding
    values, vectors = values[some], vectors[:, some]
    if not tall:
        blocks = (slice(first, first + BLOCK) for first in range(0, size, BLOCK))
        vectors = np.concatenate([(matrix[:, own] - mean[own]).T @ vectors for own in blocks])
        vectors /= np.linalg.norm(vectors, axis=0)
    return vectors.T, values / (count - 1), float(np.trace(products)) / (count - 1)


def _scores(fit: Fit, matrix: Matrix) -> Points:
    """Where images lie along the directions: [N, C]."""
    blocks = [(matrix[first : first + BLOCK] - fit.mean) @ fit.components.T for first in range(0, len(matrix), BLOCK)]
    return np.concatenate(blocks)


def _nearest(base: Matrix, asked: Matrix, k: int, own: npt.NDArray[Any] | None = None) -> tuple[npt.NDArray[np.int64], Matrix]:
    """(indices [M, k], distances [M, k]) of the nearest rows of `base`, exactly, the nearest first. own: the row that each asked one is."""
    among, queries = torch.from_numpy(base), torch.from_numpy(np.ascontiguousarray(asked))
    shift = among.mean(dim=0)  # small numbers lose less in |a|^2 - 2ab + |b|^2
    among, queries = among - shift, queries - shift
    squares = (among * among).sum(dim=1)
    indices, distances = [], []
    for first in range(0, len(queries), BLOCK):
        block = queries[first : first + BLOCK]
        table = torch.addmm(squares.expand(len(block), -1), block, among.T, alpha=-2)
        if own is not None:
            table[torch.arange(len(block)), torch.from_numpy(own[first : first + BLOCK])] = torch.inf
        values, found = table.topk(k, largest=False)
        distances.append((values + (block * block).sum(dim=1, keepdim=True)).clamp_min(0).sqrt())
        indices.append(found)
    return torch.cat(indices).numpy(), torch.cat(distances).numpy()


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gradients(count: int) -> dict[str, Any]:
    """How openTSNE sums forces, so that the same seed gives the same points."""
    tree = count <= MOST_FOR_TREE
    return {
        "negative_gradient_method": "bh" if tree else "fft",
        "n_jobs": min(_threads(), max(1, count // POINTS_OF_THREAD)) if tree else 1,
    }


def _tsne(scores: Matrix, start: Points, perplexity: float, seed: int, told: Told | None) -> Points:
    from openTSNE import TSNEEmbedding, initialization
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    count = len(scores)
    neighbours, distances = _nearest(scores, scores, math.floor(NEIGHBOURS_OF_PERPLEXITY * perplexity), own=np.arange(count))
    index = PrecomputedNeighbors(neighbours, distances)
    affinities = PerplexityBasedNN(knn_index=index, perplexity=perplexity, n_jobs=_threads(), random_state=seed)
    begin = initialization.jitter(initialization.rescale(start), random_state=seed)  # so that no two points lie on each other
    embedding = TSNEEmbedding(np.ascontiguousarray(begin), affinities, random_state=seed, **_gradients(count))
    for before, iterations, more in ((0, EXAGGERATED, {"exaggeration": EXAGGERATION}), (EXAGGERATED, FREE, {})):

        def heard(iteration: int, _error: float, _points: Any, before: int = before) -> None:
            if told is not None:
                told(before + iteration, EXAGGERATED + FREE)

        embedding.optimize(
            iterations,
            learning_rate="auto",
            momentum=0.8,
            max_step_norm=5,
            inplace=True,
            callbacks=[heard],
            callbacks_every_iters=10,
            **more,
        )
    points = np.asarray(embedding, dtype=np.float64).copy()
    if not np.isfinite(points).all():
        raise InputError("t-SNE did not come to an end: its points are not finite", "use --method pca, or another --perplexity")
    return points


def _placed(fit: Fit, scores: Matrix) -> Points:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import joint_probabilities_nn
    from openTSNE.tsne import PartialTSNEEmbedding

    count = len(fit.reference)
    gradients = _gradients(min(len(scores), MOST_FOR_TREE))
    perplexity = min(NEW_PERPLEXITY, count / NEIGHBOURS_OF_PERPLEXITY)
    neighbours, distances = _nearest(fit.reference, scores, min(NEW_NEIGHBOURS, count))
    wanted = max(1, math.floor(NEIGHBOURS_OF_PERPLEXITY * perplexity))
    probabilities = joint_probabilities_nn(
        *(neighbours[:, :wanted], distances[:, :wanted], [perplexity]),
        symmetrize=False, normalization="point-wise", n_reference_samples=count, n_jobs=_threads(),
    )  # fmt: skip
    # Of the affinities among the images of the fit, which stay where they are, it asks for the number of rows alone.
    rows = SimpleNamespace(P=np.empty((count, 0)))
    reference = TSNEEmbedding(fit.embedding.copy(), rows, random_state=fit.seed, **gradients)
    start = np.ascontiguousarray(np.median(fit.embedding[neighbours], axis=1))
    found = PartialTSNEEmbedding(start, reference, P=probabilities, **gradients)
    found.optimize(NEW_ITERATIONS, learning_rate=0.1, exaggeration=1.5, momentum=0.8, max_grad_norm=0.25, inplace=True)
    return np.asarray(found, dtype=np.float64).copy()


def _umap(matrix: Matrix, neighbours: int | None, seed: int) -> tuple[Points, Fit]:
    if find_spec("umap") is None:
        raise EnvironmentFault("UMAP needs the package umap-learn", 'pip install "cnncli[umap]"', path="--method")
    most = len(matrix) - 1
    if most < 3:
        raise UsageError(f"UMAP needs at least 4 images, and there are {len(matrix)}", "use --method pca")
    if neighbours is not None and not 2 <= neighbours <= most:
        told = f"--umap-neighbors {neighbours}: {len(matrix):,} images allow 2 to {most:,}"
        raise UsageError(told, f"the largest here is {most}", path="--umap-neighbors")
    import warnings

    from umap import UMAP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a seed means one thread
        few = most <= 10  # its spectral start needs more points than eigenvectors
        made = UMAP(n_neighbors=min(neighbours or UMAP_NEIGHBOURS, most), random_state=seed, init="random" if few else "spectral")
        points = np.asarray(made.fit_transform(matrix), dtype=np.float64)
    nothing = np.zeros((0, 0))
    return points, Fit("umap", nothing, nothing, nothing, np.zeros((0, 0), dtype=np.float32), points, seed=seed)
