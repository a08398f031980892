"""Two models on the same images: statsmodels, published numbers, the likelihood maximised by a search, and how often intervals hold."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from cnncli.engine.paired import compare, compare_hits, difference_interval, holm, mcnemar

Z = 1.959963984540054


def score_statistic(only_a: int, only_b: int, count: int, difference: float) -> float:
    """(estimate - D) / its standard error, with the likeliest shares whose difference is D found by a search over one of them."""
    both = count - only_a - only_b

    def unlikely(q: float) -> float:
        pairs = ((only_a, q), (only_b, q + difference), (both, 1 - 2 * q - difference))
        return -sum(n * math.log(max(p, 1e-300)) for n, p in pairs if n)

    low, high = max(0.0, -difference), (1 - difference) / 2
    q = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13, "maxiter": 500}).x
    variance = (2 * q + difference - difference**2) / count
    return ((only_b - only_a) / count - difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("only_a", "only_b", "count"), [(1, 7, 20), (7, 1, 20), (0, 4, 12), (12, 30, 500), (3, 3, 9), (5, 0, 1000), (40, 20, 160)]
)
def test_interval_against_the_score_test(only_a: int, only_b: int, count: int) -> None:
    found, middle = difference_interval(only_a, only_b, count), (only_b - only_a) / count
    low = optimize.brentq(lambda d: score_statistic(only_a, only_b, count, d) - Z, -1 + 1e-6, middle - 1e-6)
    high = optimize.brentq(lambda d: score_statistic(only_a, only_b, count, d) + Z, middle + 1e-6, 1 - 1e-6)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_published_numbers() -> None:
    """Complete response before and after consolidation therapy (Cavo et al. 2012), 59 / 6 / 16 / 80 of 161, as in Fagerland, Lydersen and
    Laake, Statistical Analysis of Contingency Tables (2017), chapter 8.
    """
    found = difference_interval(16, 6, 161)
    assert (found.low, found.high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert mcnemar(16, 6) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize(("q_a", "q_b"), [(0.02, 0.02), (0.1, 0.1), (0.02, 0.12), (0.3, 0.1), (0.05, 0.5), (0.3, 0.3)])
def test_the_interval_holds_as_often_as_it_says(q_a: float, q_b: float) -> None:
    """Exactly: over all tables of 40 images, weighed by their chances. As for other score intervals, it is near 95 %, not above it."""
    count, held = 40, 0.0
    for only_a in range(count + 1):
        for only_b in range(count + 1 - only_a):
            chance = stats.multinomial.pmf([only_a, only_b, count - only_a - only_b], count, [q_a, q_b, 1 - q_a - q_b])
            if chance > 1e-9:
                found = difference_interval(only_a, only_b, count)
                held += chance * (found.low <= q_b - q_a <= found.high)
    assert 0.93 < held <= 1


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_intervals_of_any_counts(counts: tuple[int, int, int]) -> None:
    only_a, more, count = counts
    only_b = min(more, count - only_a)
    found, other = difference_interval(only_a, only_b, count), difference_interval(only_b, only_a, count)
    assert -1 <= found.low <= (only_b - only_a) / count <= found.high <= 1
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    assert found.high - found.low > 1e-6
    # It is the score test's: 0 is outside where (b - c)^2 / (b + c) is above 1.96^2.
    if only_a + only_b and abs((square := (only_b - only_a) ** 2 / (only_a + only_b)) - Z * Z) > 1e-6:
        assert (found.low <= 0 <= found.high) == (square < Z * Z)


def test_equal_models_have_a_width() -> None:
    found = difference_interval(0, 0, 100)
    assert (found.low, found.high) == pytest.approx((-Z * Z / (100 + Z * Z), Z * Z / (100 + Z * Z)))


def test_intervals_at_the_ends() -> None:
    assert difference_interval(0, 9, 9).high == 1.0
    assert difference_interval(9, 0, 9).low == -1.0
    assert difference_interval(0, 1, 1).low < 0


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_mcnemar_against_statsmodels(only_a: int, only_b: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as other

    found = mcnemar(only_a, only_b)
    assert found == mcnemar(only_b, only_a)
    assert found == pytest.approx(other([[5, only_a], [only_b, 7]], exact=True).pvalue, rel=1e-9)
    if only_a + only_b:
        assert found == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_mcnemar_of_many_images() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(25_000, 25_000) == 1.0
    assert 0 <= mcnemar(0, 50_000) < 1e-300


def test_compare_counts() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (500,))
    truth = torch.nn.functional.one_hot(labels, 4)
    scores_a, scores_b = torch.randn(500, 4) + truth, torch.randn(500, 4) + 1.6 * truth
    found = compare(scores_a, scores_b, labels)
    right = [(a == t, b == t) for a, b, t in zip(scores_a.argmax(1).tolist(), scores_b.argmax(1).tolist(), labels.tolist(), strict=True)]
    assert found.only_a == right.count((True, False))
    assert found.only_b == right.count((False, True))
    assert found.accuracy_a == pytest.approx(np.mean([a for a, _ in right]))
    assert found.accuracy_b == pytest.approx(np.mean([b for _, b in right]))
    assert found.difference == pytest.approx(found.accuracy_b - found.accuracy_a)
    assert found.interval == difference_interval(found.only_a, found.only_b, 500)
    assert found.p == mcnemar(found.only_a, found.only_b) < 0.05
    assert found == compare_hits(scores_a.argmax(1) == labels, scores_b.argmax(1) == labels)
    assert type(found.only_a) is int


def test_a_model_against_itself() -> None:
    scores, labels = torch.randn(30, 3), torch.arange(30) % 3
    found = compare(scores, scores, labels)
    assert (found.difference, found.only_a, found.only_b, found.p) == (0.0, 0, 0, 1.0)
    assert found.interval.low < 0 < found.interval.high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_holm_against_the_closure_principle(p_values: list[float]) -> None:
    """What Holm's steps are short for (Marcus, Peritz and Gabriel 1976): a test counts as much as the least of the sets that it is in does,
    and a set as its least p times its size (Bonferroni).
    """
    tests = range(len(p_values))
    sets = [chosen for size in tests for chosen in combinations(tests, size + 1)]
    expected = [max(min(1.0, len(chosen) * min(p_values[j] for j in chosen)) for chosen in sets if i in chosen) for i in tests]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([]) == ()
