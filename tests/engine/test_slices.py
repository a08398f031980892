"""Accuracy by a column against a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.engine.intervals import wilson
from cnncli.engine.slices import Slice, by_value


@given(st.lists(st.tuples(st.sampled_from([None, "", "a", "b", "c", "10", "9", "(none)"]), st.booleans()), max_size=40), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_against_a_loop(rows: list[tuple[str | None, bool]], most: int) -> None:
    values, hits = [value for value, _ in rows], [hit for _, hit in rows]
    found = by_value(values, hits, most=most)
    assert sum(entry.count for entry in found) == len(rows)
    assert len(found) <= most + 1
    named = [value or "(none)" for value in values]
    shown = [entry.value for entry in found]
    for entry in found:
        own = [hit for name, hit in zip(named, hits, strict=True) if name == entry.value or ("others" in entry.value and name not in shown)]
        assert (entry.count, entry.top1) == (len(own), pytest.approx(sum(own) / len(own)))
        assert entry.interval == wilson(sum(own), len(own))
        assert entry.loss is None
    counts = [entry.count for entry in found if "others" not in entry.value]
    assert counts == sorted(counts, reverse=True)
    assert by_value(values, torch.tensor(hits, dtype=torch.bool), most=most) == found


def test_orders() -> None:
    values = ["10", "9", "9", "b", "a", None, "-1.5", "nan", "9"]
    hits = [True] * len(values)
    assert [entry.value for entry in by_value(values, hits)] == ["9", "-1.5", "10", "(none)", "a", "b", "nan"]
    assert [entry.value for entry in by_value(values, hits, order="value")] == ["-1.5", "9", "10", "(none)", "a", "b", "nan"]


def test_many_values() -> None:
    """The largest stand alone, the others are one slice; of equally large ones, the first by value."""
    values = ["x"] * 5 + ["c", "b", "a", "d"]
    hits = [True, True, False, False, False, True, False, True, True]
    found = by_value(values, hits, most=2)
    assert found == (Slice("x", 5, 0.4, wilson(2, 5)), Slice("a", 1, 1.0, wilson(1, 1)), Slice("(3 others)", 3, 2 / 3, wilson(2, 3)))
    assert [entry.value for entry in by_value(values, hits, most=2, order="value")] == ["a", "x", "(3 others)"]
    assert [entry.value for entry in by_value(values, hits, most=4)] == ["x", "a", "b", "c", "d"], "one other is no others"
    assert len(by_value([str(i) for i in range(100)], [True] * 100)) == 21
    assert len(by_value([str(i) for i in range(100)], [True] * 100, most=None)) == 100


def test_losses() -> None:
    found = by_value(["a", "b", "a"], [True, False, False], torch.tensor([1.0, 5.0, 2.0]))
    assert [(entry.value, entry.loss) for entry in found] == [("a", 1.5), ("b", 5.0)]


def test_nothing() -> None:
    assert by_value([], []) == ()


@pytest.mark.parametrize(("hits", "losses"), [([True], None), ([True, False], [1.0]), ([True] * 3, None)])
def test_lengths_that_do_not_fit(hits: list[bool], losses: list[float] | None) -> None:
    with pytest.raises(ValueError, match="2 values"):
        by_value(["a", "b"], hits, losses)
