"""Few training images of each class: exact numbers, nested, by the seed alone; val in proportion, test untouched."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.data.few import few
from cnncli.data.source import Sample, Source, open_source
from cnncli.data.split import derive
from cnncli.errors import UsageError


def made(sizes: list[int], *, val: float = 0.2, test: float = 0.2) -> Source:
    samples = [Sample(f"class{label}/{index:04d}.png", label) for label, size in enumerate(sizes) for index in range(size)]
    splits = derive(samples, val_fraction=val, test_fraction=test)
    names = tuple(f"class{label}" for label in range(len(sizes)))
    return Source("made", names, splits, ("before",), derived=True, locate=lambda sample: Path(sample.path))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(0, 2**40), st.sampled_from([0.0, 0.2]))
def test_nested_exact_and_in_order(sizes: list[int], seed: int, val: float) -> None:
    source = made(sizes, val=val)
    parts = [few(source, number, seed=seed) for number in (1, 2, 4, 5, 8, 13, 100)]
    for number, part in zip((1, 2, 4, 5, 8, 13, 100), parts, strict=True):
        assert part.counts("train") == tuple(min(size, number) for size in source.counts("train"))
        assert part.splits["test"] == source.splits["test"]
        assert ("val" in part.splits) == (number >= 5 and val > 0)
        for split, samples in part.splits.items():
            assert list(samples) == [s for s in source.splits[split] if s in set(samples)]
    for smaller, larger in pairwise(parts):
        for split in smaller.splits:
            assert set(smaller.splits[split]) <= set(larger.splits[split])
    assert parts[-1].splits == source.splits


def test_val_shrinks_by_the_same_share_in_each_class() -> None:
    source = made([100, 50, 10], test=0)  # 80, 40, 8 to train on, 20, 10, 2 to validate
    assert few(source, 8).counts("val") == (2, 2, 2)
    assert few(source, 5).counts("val") == (1, 1, 1)
    assert few(source, 20).counts("val") == (5, 5, 2)


def test_seeds_draw_others_and_the_order_of_samples_does_not_matter() -> None:
    source = made([50, 50])
    drawn = {few(source, 3, seed=seed).splits["train"] for seed in range(20)}
    assert len(drawn) == 20
    backward = replace(source, splits={split: samples[::-1] for split, samples in source.splits.items()})
    assert few(backward, 3).splits["train"][::-1] == few(source, 3).splits["train"]


def test_each_image_is_drawn_about_as_often_as_any_other() -> None:
    """300 seeds, 3 of 10 images: 90 times each, with a standard deviation of 8."""
    source = made([10, 10], val=0, test=0)
    times = dict.fromkeys(source.splits["train"], 0)
    for seed in range(300):
        for sample in few(source, 3, seed=seed).splits["train"]:
            times[sample] += 1
    assert all(50 < count < 130 for count in times.values())
    assert sum(times.values()) == 300 * 6


def test_files_added_to_another_class_change_nothing() -> None:
    before, after = (few(made([40, size]), 3).splits["train"] for size in (20, 90))
    assert [s for s in before if s.label == 0] == [s for s in after if s.label == 0]


def test_the_draw_is_frozen() -> None:
    """Another hash would draw others for the same seed. Written down once, from this rule."""
    assert [s.path[-8:-4] for s in few(made([20, 1], val=0, test=0), 3).splits["train"] if s.label == 0] == ["0000", "0007", "0009"]


def test_what_is_told() -> None:
    assert few(made([100, 50]), 2, seed=7).notices == (
        "before",
        "training on 4 of 90 images, at most 2 of each class, drawn with seed 7",
    )


@pytest.mark.parametrize("number", [0, -1])
def test_none_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"{number} training images of each class are none"):
        few(made([5, 5]), number)


def test_a_source_without_train_is_refused() -> None:
    source = made([5, 5])
    with pytest.raises(UsageError, match="made has no training images"):
        few(replace(source, splits={"test": source.splits["test"]}), 1)


def test_digits() -> None:
    part = few(open_source("digits"), 5)
    assert part.counts("train") == (5,) * 10
    assert part.counts("val") == (1,) * 10
    assert part.read(part.samples("train")[0]).size == (8, 8)


def test_a_class_that_only_val_has_keeps_its_images() -> None:
    source = made([20, 20])
    source = replace(source, splits=source.splits | {"train": tuple(s for s in source.splits["train"] if s.label == 0)})
    assert few(source, 6).counts("val") == (2, 4)


def test_a_folder(make_images, tmp_path: Path) -> None:
    source = open_source(str(make_images(tmp_path, {"train/cat": 9, "train/dog": 3, "test/cat": 2, "test/dog": 2})))
    part = few(source, 2, seed=1)
    assert [part.counts(split) for split in part.splits] == [(2, 2), (2, 2)]
    assert all(part.read(sample).size == (6, 5) for sample in part.samples("all"))
