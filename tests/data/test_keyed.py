"""Keyed random numbers: equal to SplitMix64 written out in Python integers, and without visible pattern."""

from __future__ import annotations

import numpy as np

from cnncli.data import keyed
from cnncli.data.keyed import keyed_bits, keyed_integers, keyed_order, keyed_uniform

MASK = 2**64 - 1


def mix(z: int) -> int:
    """SplitMix64's output function, from Steele, Lea and Flood 2014 (Mix13)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def slow_bits(seed: int, epoch: int, index: int, purpose: int) -> int:
    weyl, state = 0x9E3779B97F4A7C15, 0
    for part in (seed, epoch, purpose):
        state = mix((state + part * weyl + weyl) & MASK)
    return mix((state + index * weyl) & MASK)


def test_mix_is_splitmix64() -> None:
    """The first two outputs of SplitMix64 from seed 0, as published with xoshiro's reference code."""
    assert [mix(0x9E3779B97F4A7C15), mix(2 * 0x9E3779B97F4A7C15 & MASK)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_bits_equal_the_slow_twin() -> None:
    index = np.array([0, 1, 7, 10**9, 2**40])
    for seed, epoch, purpose in ((0, 0, 0), (1, 2, 3), (-5, 10**6, 1), (2**63, 0, 2)):
        got = keyed_bits(seed, epoch, index, purpose)
        assert [int(v) for v in got] == [slow_bits(seed, epoch, int(i), purpose) for i in index]


def test_integers_are_uniform_and_independent() -> None:
    index = np.arange(90_000)
    counts = np.bincount(keyed_integers(0, 0, index, 2, 9), minlength=9)
    assert len(counts) == 9
    assert abs(counts - 10_000).max() < 450  # 4.7 standard deviations of a binomial count
    bits = [
        keyed_integers(*key, 2) for key in ((0, 0, index, 1), (0, 1, index, 1), (1, 0, index, 1), (0, 0, index, 2), (0, 0, index + 1, 1))
    ]
    assert abs(np.corrcoef(bits) - np.eye(5)).max() < 0.016


def test_uniform_numbers_are_the_bits_highest_53() -> None:
    index = np.arange(10_000)
    numbers = keyed_uniform(4, 5, index, 6)
    assert numbers.tolist() == [(int(bits) >> 11) / 2**53 for bits in keyed_bits(4, 5, index, 6)]
    assert 0 <= numbers.min()
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.012  # 4 standard deviations


def test_no_two_purposes_are_the_same() -> None:
    """Those that count up, too: layers of 3, operations twice, tries of 4."""
    from cnncli.data.augmenting import crops, erasing, operations
    from cnncli.data.config import AugmentConfig
    from cnncli.settings import setting_of

    single = [keyed.ORDER, keyed.FLIP, keyed.SHIFT_Y, keyed.SHIFT_X, keyed.ERASED, keyed.NOISE, keyed.MIXING]
    single += [keyed.MIX_RADIUS, keyed.MIX_ANGLE, keyed.MIX_Y, keyed.MIX_X, keyed.TURN, keyed.PASS]
    counts = {
        keyed.AUTO: 3 * int(setting_of(AugmentConfig, "rand_ops").high),
        keyed.JITTER: 100 + len(operations.Operation),
        keyed.CROP: 4 * crops.TRIES,
        keyed.ERASE: 4 * erasing.TRIES,
    }
    purposes = [*single, *(first + number for first, count in counts.items() for number in range(count))]
    assert len(set(purposes)) == len(purposes)


def test_order_is_a_permutation_of_its_own_for_each_epoch() -> None:
    orders = [keyed_order(seed, epoch, 1000) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 6
    assert keyed_order(0, 0, 0).tolist() == []
