"""Epochs in which every class comes up equally often, however many images it has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnncli.data.keyed import ORDER, PASS, TURN, keyed_bits

Numbers = npt.NDArray[np.int64]


def balanced_order(labels: Numbers, seed: int, epoch: int) -> Numbers:
    """The samples of an epoch, int64 [N], of labels int64 [N]: each of the K classes that have images comes up N/K times, rounded.

    Before epoch e class number k has been drawn floor((e N + o_k) / K) times, o being a permutation of 0..K-1 that the seed decides:
    by Hermite's identity, the sum over k is e N, so each epoch has N draws and each class floor or ceil of N/K of them. A class's draws
    walk through a permutation of its images, then through another one and so on, from epoch to epoch: no image comes up again before
    all of its class did, but where one permutation ends and the next begins.

    A function of (seed, epoch) alone.
    """
    count, present = len(labels), np.unique(labels)
    offsets = np.argsort(keyed_bits(seed, 0, present, TURN), kind="stable")
    drawn = []
    for label, offset in zip(present.tolist(), offsets.tolist(), strict=True):
        first, last = ((number * count + offset) // len(present) for number in (epoch, epoch + 1))
        drawn.append(_walk(np.flatnonzero(labels == label), first, last, seed))
    order = np.concatenate(drawn) if drawn else np.zeros(0, dtype=np.int64)
    return order[np.argsort(keyed_bits(seed, epoch, np.arange(count), ORDER), kind="stable")]


def _walk(members: Numbers, first: int, last: int, seed: int) -> Numbers:
    """Places first..last-1 of an endless row of permutations of a class's samples."""
    size = len(members)
    passes = range(first // size, -(-last // size))
    row = [members[np.argsort(keyed_bits(seed, number, members, PASS), kind="stable")] for number in passes]
    start = first - passes.start * size if row else 0
    return np.concatenate(row)[start : start + last - first] if row else members[:0]


def repeats(order: Numbers) -> Numbers:
    """How often each entry has come up before in `order`: int64 [N], 0 for the first time."""
    by_sample = np.argsort(order, kind="stable")
    found = order[by_sample]
    place = np.arange(len(order))
    begins = np.maximum.accumulate(np.where(np.r_[True, found[1:] != found[:-1]][: len(order)], place, 0))
    times = np.empty(len(order), dtype=np.int64)
    times[by_sample] = place - begins
    return times
