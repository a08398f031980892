"""What nearest neighbours say of labelled images: kNN accuracy, near duplicates, and labels that are probably wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cnncli.engine.intervals import wilson
from cnncli.features.feature_set import UNLABELLED, Array, FeatureSet
from cnncli.features.found import Pair, Pairs, Protocol, Suspect, Vote
from cnncli.features.nearest import Metric, Nearest, nearest

Search = Callable[..., Nearest]
OUTER_FENCE = 3.0  # interquartile ranges (Tukey 1977)
MOST_PAIRS = 1000  # that are kept beyond the near duplicates


def protocol_of(features: FeatureSet) -> Protocol:
    """Test images (else those of val) against train images where there are both; else each image against all others.

    Only labelled images take part.
    """
    labelled = np.flatnonzero(features.labels != UNLABELLED)
    train = np.intersect1d(features.rows_of("train"), labelled)
    for name in ("test", "val"):
        asking = np.intersect1d(features.rows_of(name), labelled)
        if len(asking) and len(train):
            return Protocol(asking, train, f"{len(asking):,} {name} images against {len(train):,} train images", leave_one_out=False)
    told = f"each of {len(labelled):,} images against all others (leave-one-out)"
    return Protocol(labelled, labelled, told, leave_one_out=True)


def search(
    features: FeatureSet,
    space: str,
    protocol: Protocol,
    k: int,
    metric: Metric,
    *,
    device: torch.device,
    find: Search = nearest,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Nearest:
    """The k nearest images of the base for each query, in one space. indices: rows of the feature set."""
    base = features.matrix(space, protocol.base)
    queries = base if protocol.leave_one_out else features.matrix(space, protocol.queries)
    own = torch.arange(len(base)) if protocol.leave_one_out else None
    found = find(torch.from_numpy(queries).to(device), base, k, metric=metric, own=own, on_progress=on_progress)
    rows = torch.from_numpy(np.asarray(protocol.base, dtype=np.int64))
    return Nearest(rows[found.indices.cpu()], found.distances.cpu())


def everything(features: FeatureSet) -> Protocol:
    """Each image against all others, labelled or not."""
    rows = np.arange(len(features))
    return Protocol(rows, rows, f"each of {len(rows):,} images against all others", leave_one_out=True)


def majority(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(class, its votes), int64 [Q] each, of the neighbours' labels [Q, k], the nearest first; ties go to the nearer."""
    votes = torch.zeros_like(labels)
    for place in range(labels.shape[1]):  # all pairs at once would take [Q, k, k]
        votes[:, place] = (labels == labels[:, place : place + 1]).sum(1)
    votes[labels == UNLABELLED] = -1
    most = votes.amax(1, keepdim=True)
    best = (votes == most).int().cumsum(1).eq(0).sum(1, keepdim=True)  # the first of equals, which argmax need not give
    return labels.gather(1, best).flatten(), most.flatten().clamp(min=0)


def vote(features: FeatureSet, space: str, protocol: Protocol, found: Nearest) -> Vote:
    """Accuracy of the k nearest in a space, with Wilson's 95 % interval."""
    labels = torch.from_numpy(np.asarray(features.labels))
    said, _ = majority(labels[found.indices])
    hits = (said == labels[torch.from_numpy(np.asarray(protocol.queries))]).numpy()
    interval = wilson(int(hits.sum()), len(hits))
    about = features.space(space)
    accuracy = float(hits.mean()) if len(hits) else float("nan")
    return Vote(space, about.kind, about.size, found.indices.shape[1], hits, accuracy, interval.low, interval.high)


def fence_of(closest: Array) -> float:
    """The distance below which an image's nearest neighbour is out of the ordinary: Tukey's outer fence of the logarithms.

    closest: [N], from each image to its nearest. With quartiles q1 and q3 of log distance it is exp(q1 - 3 (q3 - q1)): "far out" in Tukey
    1977, Exploratory Data Analysis, section 2D; of a log-normal distance one in a million is. Distances of 0 are duplicates whatever the
    fence, and are left out of the quartiles. 0 where fewer than 4 are left.
    """
    logs = np.log(closest[closest > 0])
    if len(logs) < 4:
        return 0.0
    low, high = np.quantile(logs, (0.25, 0.75))
    return float(np.exp(low - OUTER_FENCE * (high - low)))


def near_pairs(features: FeatureSet, found: Nearest) -> Pairs:
    """Pairs of images by distance, of a search of each image among all others: all near duplicates, and others up to MOST_PAIRS.

    near: at a distance of 0, or below `fence_of`. Of an image only its k nearest are known. same_pixels: where the set has pixels, whether
    all of these are equal (they may have been made smaller).
    """
    distances, indices = found.distances.numpy(), found.indices.numpy()
    fence = fence_of(distances[:, 0])
    left = np.repeat(np.arange(len(indices)), indices.shape[1])
    pairs = np.stack([np.minimum(left, indices.ravel()), np.maximum(left, indices.ravel())], 1)
    far = distances.ravel()
    wanted = (far == 0) | (far < fence)
    wanted[np.argsort(far, kind="stable")[: 2 * MOST_PAIRS]] = True
    pairs, far = pairs[wanted], far[wanted]
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    far = far[first]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], far))
    near = (far == 0) | (far < fence)
    order = order[: max(MOST_PAIRS, int(near.sum()))]
    pixels = next((space.name for space in features.spaces if space.kind == "pixels"), None)
    made = []
    for (one, other), distance, close in zip(pairs[order].tolist(), far[order].tolist(), near[order].tolist(), strict=True):
        same = None if pixels is None else bool(np.array_equal(features.arrays[pixels][one], features.arrays[pixels][other]))
        labels = int(features.labels[one]), int(features.labels[other])
        made.append(Pair(one, other, distance, close, same, labels[0] != labels[1] and UNLABELLED not in labels))
    return Pairs(tuple(made), fence, int(near.sum()))


def suspects(features: FeatureSet, rows: Array, found: Nearest) -> tuple[Suspect, ...]:
    """Images most of whose k neighbours (more than half) have one other class: the rule of edited nearest neighbours.

    That is which images Wilson 1972 (IEEE Transactions on Systems, Man, and Cybernetics 2:408) edits out of a training set. Sorted by how
    sure: by the margin between the votes for that class and for its own, as Northcutt, Jiang and Chuang 2021 (JAIR 70:1373) rank label
    errors by a normalised margin; then the closer one first. rows: [Q] of the images that were searched for.
    """
    labels = torch.from_numpy(np.asarray(features.labels))
    others = labels[found.indices]
    said, votes = majority(others)
    mine = labels[torch.from_numpy(np.asarray(rows))]
    own = (others == mine[:, None]).sum(1)
    k = others.shape[1]
    chosen = ((said != mine) & (mine != UNLABELLED) & (2 * votes > k)).nonzero().flatten().tolist()
    made = [Suspect(int(rows[i]), int(mine[i]), int(said[i]), int(votes[i]), int(own[i]), k, float(found.distances[i, 0])) for i in chosen]
    return tuple(sorted(made, key=lambda s: (s.own - s.votes, s.distance, s.row)))


def spread_queries(labels: Array, rows: Array, count: int, seed: int) -> Array:
    """At most `count` of the rows, drawn so that each class comes about as often, in the order of classes."""
    random = np.random.default_rng(seed)
    mixed = random.permutation(rows)
    classes = random.permutation(np.unique(labels[rows]))
    members = [mixed[labels[mixed] == label] for label in classes]
    turns = [(turn, place) for place, own in enumerate(members) for turn in range(len(own))]
    chosen = [members[place][turn] for turn, place in sorted(turns)[:count]]
    return np.array(sorted(chosen, key=lambda row: (labels[row], row)), dtype=np.int64)
