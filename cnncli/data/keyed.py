"""Random numbers that are a function of (seed, epoch, index, purpose) and of nothing else.

What is random about a sample thus does not depend on the batch it is in, on its place there, on the number of workers or ranks, or on
how far an earlier run came. The function is SplitMix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"; constants of variant 13), applied once for each part of the key. Unlike the generators of numpy and torch it cannot
change with a version.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WEYL = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, SplitMix64's increment
_MASK = 2**64 - 1

# Purposes: independent numbers for the same (seed, epoch, index).
ORDER, FLIP, SHIFT_Y, SHIFT_X, ERASED, NOISE, MIXING, MIX_RADIUS, MIX_ANGLE, MIX_Y, MIX_X, TURN, PASS, VIEW = range(14)
# Where something is drawn repeatedly (tries, layers), purposes count up from these; they lie further apart than any of them counts.
AUTO, JITTER, CROP, ERASE, SHARDS = 1_000, 2_000, 3_000, 4_000, 5_000


def keyed_bits(seed: int, epoch: int, index: npt.NDArray[np.int64], purpose: int) -> npt.NDArray[np.uint64]:
    """64 random bits for each index, shape of `index`."""
    start = 0
    for part in (seed, epoch, purpose):
        start = int(_mix(np.array([(start + part * WEYL + WEYL) & _MASK], dtype=np.uint64))[0])
    # Array arithmetic on uint64 wraps around silently, as the algorithm wants.
    return _mix(np.uint64(start) + index.astype(np.uint64) * np.uint64(WEYL))


def keyed_integers(seed: int, epoch: int, index: npt.NDArray[np.int64], purpose: int, count: int) -> npt.NDArray[np.int64]:
    """A whole number in 0..count-1 for each index; the bias, count / 2**32, is far below what any sample shows."""
    return (((keyed_bits(seed, epoch, index, purpose) >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def keyed_uniform(seed: int, epoch: int, index: npt.NDArray[np.int64], purpose: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each index, a multiple of 2**-53."""
    return (keyed_bits(seed, epoch, index, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keyed_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """A permutation of 0..count-1: indices sorted by their random bits."""
    return np.argsort(keyed_bits(seed, epoch, np.arange(count), ORDER), kind="stable")


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
