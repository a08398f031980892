"""Cross-validation and a held-out share: every image once, exact per class, whatever order the files lie in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncli.data.folds import folds, holdout
from cnncli.data.source import Sample, Source, open_source
from cnncli.data.split import derive
from cnncli.errors import UsageError


def made(sizes: list[int], *, val_fraction: float = 0.2, splits: dict[str, tuple[Sample, ...]] | None = None) -> Source:
    samples = [Sample(f"class{label}/{index:04d}.png", label) for label, size in enumerate(sizes) for index in range(size)]
    splits = derive(samples, val_fraction=val_fraction, test_fraction=0) if splits is None else splits
    names = tuple(f"class{label}" for label in range(len(sizes)))
    return Source("made", names, splits, ("before",), derived=True, locate=lambda sample: Path(sample.path))


def by_path(samples: tuple[Sample, ...]) -> list[Sample]:
    return sorted(samples, key=lambda sample: sample.path)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(7, 30), min_size=2, max_size=6), st.integers(2, 7), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_sample_is_tested_once_and_sizes_differ_by_one(sizes: list[int], count: int, val: float) -> None:
    source = made(sizes)
    parts = folds(source, count, val_fraction=val)
    everything = by_path(source.samples("all"))
    assert by_path(tuple(s for part in parts for s in part.samples("test"))) == everything
    for part in parts:
        assert by_path(part.samples("all")) == everything
        assert len(part.samples("all")) == len(set(part.samples("all")))
    per_class = [part.counts("test") for part in parts]
    for column in (*zip(*per_class, strict=True), [sum(row) for row in per_class]):
        assert max(column) - min(column) <= 1


def test_train_and_val_are_split_by_the_rule_of_the_house() -> None:
    source = made([40, 23])
    for part in folds(source, 5, val_fraction=0.25):
        rest = by_path((*part.samples("train"), *part.samples("val")))
        assert {name: part.splits[name] for name in ("train", "val")} == derive(rest, val_fraction=0.25, test_fraction=0)
        assert list(part.splits) == ["train", "val", "test"]
    assert list(folds(source, 2, val_fraction=0)[0].splits) == ["train", "test"]


def test_the_order_of_files_and_the_split_before_do_not_matter() -> None:
    source = made([12, 9, 31])
    other = replace(source, splits={"val": source.samples("all")[::-1]})
    for one, two in zip(folds(source, 4, val_fraction=0.1), folds(other, 4, val_fraction=0.1), strict=True):
        assert one.splits == two.splits


def test_few_move_when_files_are_added() -> None:
    """A random deal would move four of five."""

    def fold_of(size: int) -> dict[str, int]:
        return {s.path: n for n, part in enumerate(folds(made([size, 50]), 5, val_fraction=0)) for s in part.samples("test")}

    before, after = fold_of(1000), fold_of(1010)
    assert sum(after[path] != number for path, number in before.items()) <= 30


def test_folds_are_runs_of_the_frozen_order() -> None:
    """The first of five is what would be the val split of a fifth; the hash itself is frozen in test_split.py."""
    source = made([20, 5], val_fraction=0.2)
    first, *others = folds(source, 5, val_fraction=0)
    assert first.splits["test"] == source.splits["val"]
    assert [part.counts("test") for part in others] == [(4, 1)] * 4


@pytest.mark.parametrize(
    ("sizes", "count", "told", "hint"),
    [
        ([10, 3, 4], 5, "class 'class1' has 3 images, too few for 5 folds", "at most 3 folds"),
        ([10, 1], 2, "class 'class1' has 1 image, too few for 2 folds", "no number of folds works"),
        ([10, 10], 1, "1 folds leave nothing", "two folds or more"),
        ([10, 10], -3, "-3 folds leave nothing", "two folds or more"),
    ],
)
def test_refusals(sizes: list[int], count: int, told: str, hint: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        folds(made(sizes), count, val_fraction=0.2)
    assert hint in caught.value.hint


def test_the_largest_count_that_is_named_works() -> None:
    assert len(folds(made([10, 3, 4]), 3, val_fraction=0.2)) == 3
    assert [part.counts("train") for part in folds(made([2, 2]), 2, val_fraction=0.2)] == [(1, 1)] * 2


def test_a_class_without_images_stays_one() -> None:
    assert {part.counts("test") for part in folds(made([6, 0, 6]), 3, val_fraction=0.2)} == {(2, 0, 2)}


def test_a_source_with_a_test_split_is_refused() -> None:
    source = open_source("digits")
    for call in (lambda: folds(source, 5, val_fraction=0.1), lambda: holdout(source, 0.2, val_fraction=0.1)):
        with pytest.raises(UsageError, match="digits has a test split already"):
            call()


@pytest.mark.parametrize("val", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range(val: float) -> None:
    with pytest.raises(UsageError, match="leaves nothing to train on"):
        folds(made([5, 5]), 2, val_fraction=val)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="leave nothing to train on"):
            holdout(made([5, 5]), fraction, val_fraction=0.2)
    with pytest.raises(UsageError, match="leave nothing to train on"):
        holdout(made([5, 5]), 0.5, val_fraction=0.5)


def test_digits_in_ten_folds() -> None:
    parts = folds(open_source("digits", test_fraction=0), 10, val_fraction=0.1)
    assert sorted(len(part.samples("test")) for part in parts) == [179] * 3 + [180] * 7
    assert parts[3].read(parts[3].samples("test")[0]).size == (8, 8)
    assert parts[0].derived
    assert parts[0].notices == ("fold 1 of 10: tested on 180 of 1,797 images",)


def test_a_folder_in_folds_is_read_from_where_it_lies(make_images, tmp_path: Path) -> None:
    root = make_images(tmp_path, {"train/cat": 7, "train/dog": 8, "val/cat": 2, "val/dog": 1})
    parts = folds(open_source(str(root)), 3, val_fraction=0.2)
    assert [part.counts("test") for part in parts] == [(3, 3)] * 3
    assert all(isinstance(part.read(sample), Image.Image) for part in parts for sample in part.samples("test"))


def test_holding_out_is_opening_with_a_test_share(make_images, tmp_path: Path) -> None:
    for spec in ("digits", str(make_images(tmp_path, {"cat": 20, "dog": 13}))):
        held = holdout(open_source(spec, val_fraction=0.3, test_fraction=0), 0.2, val_fraction=0.1)
        assert held.splits == open_source(spec, val_fraction=0.1, test_fraction=0.2).splits


def test_holding_out_leaves_a_given_val_split(make_images, tmp_path: Path) -> None:
    source = open_source(str(make_images(tmp_path, {"train/cat": 20, "train/dog": 10, "val/cat": 4, "val/dog": 4})))
    held = holdout(source, 0.2, val_fraction=0.1)
    assert held.splits["val"] == source.splits["val"]
    assert [held.counts(split) for split in ("train", "val", "test")] == [(16, 8), (4, 4), (4, 2)]
    assert held.splits == open_source(str(tmp_path), test_fraction=0.2).splits
    assert held.notices[-1] == "6 of 38 images held out for the test"
