"""Intervals against statsmodels and scipy.stats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.engine.intervals import Interval, mean_interval, wilson


@given(st.integers(1, 10**7).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
@settings(max_examples=200, deadline=None)
def test_wilson_against_statsmodels(pair: tuple[int, int]) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits, count = pair
    found = wilson(hits, count)
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, count, method="wilson"), abs=1e-12)
    assert 0 <= found.low <= hits / count <= found.high <= 1


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_wilson_against_its_definition(count: int) -> None:
    """A rate on the border is 1.96 of its own standard errors away from the share that was found."""
    for hits in range(count + 1):
        for rate in (wilson(hits, count).low, wilson(hits, count).high):
            if 0 < rate < 1:
                assert abs(hits / count - rate) / math.sqrt(rate * (1 - rate) / count) == pytest.approx(1.959964, abs=1e-6)


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert wilson(10, 10).low == pytest.approx(0.7225, abs=1e-4)
    assert wilson(1, 1) == Interval(pytest.approx(0.2065, abs=1e-4), 1.0)
    assert wilson(0, 0) == Interval(0.0, 1.0)
    with pytest.raises(ValueError, match="11 hits of 10"):
        wilson(11, 10)


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_mean_against_scipy(count: int) -> None:
    from scipy import stats

    values = np.random.default_rng(count).exponential(size=count)
    expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    found = mean_interval(torch.from_numpy(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    single = mean_interval(torch.from_numpy(values).float())
    assert (single.low, single.high) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("values", [[0.5], [], [1.0, math.inf], [1.0, math.nan, 2.0]])
def test_unknown_spread(values: list[float]) -> None:
    assert mean_interval(torch.tensor(values)) == Interval(-math.inf, math.inf)


def test_equal_values_have_an_interval_without_width() -> None:
    assert mean_interval(torch.full((7,), 0.25)) == Interval(0.25, 0.25)
