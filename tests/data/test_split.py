"""The derived split: exact per class, at least one where two, steady when files are added."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cnncli.data.source import Sample
from cnncli.data.split import complete, derive, keep_some, share


def samples(count: int, label: int = 0) -> list[Sample]:
    return [Sample(f"class{label}/{index:05d}.jpg", label) for index in range(count)]


@pytest.mark.parametrize(
    ("count", "val", "test", "want"),
    [
        (0, 0.2, 0.2, (0, 0)),
        (1, 0.2, 0.2, (0, 0)),
        (2, 0.2, 0.0, (1, 0)),
        (2, 0.2, 0.2, (1, 0)),
        (3, 0.2, 0.2, (1, 1)),
        (3, 0.0, 0.2, (0, 1)),
        (2, 0.0, 0.2, (0, 1)),
        (2, 0.9, 0.0, (1, 0)),
        (10, 0.2, 0.1, (2, 1)),
        (80, 0.2, 0.0, (16, 0)),
        (25, 0.1, 0.0, (3, 0)),  # 2.5 rounds up
        (10, 0.0, 0.0, (0, 0)),
        (4, 0.5, 0.45, (2, 1)),  # something is left to train on
    ],
)
def test_shares(count: int, val: float, test: float, want: tuple[int, int]) -> None:
    assert share(count, val, test) == want


def test_exact_in_every_class_and_nothing_lost() -> None:
    everything = samples(100, 0) + samples(37, 1) + samples(2, 2) + samples(1, 3)
    splits = derive(everything, val_fraction=0.2, test_fraction=0.1)
    assert list(splits) == ["train", "val", "test"]
    assert sorted((s for split in splits.values() for s in split), key=lambda s: (s.label, s.path)) == everything
    for label, val, test in ((0, 20, 10), (1, 7, 4), (2, 1, 0), (3, 0, 0)):
        assert sum(s.label == label for s in splits["val"]) == val
        assert sum(s.label == label for s in splits["test"]) == test


def test_no_split_for_a_fraction_of_zero() -> None:
    assert list(derive(samples(10), val_fraction=0, test_fraction=0)) == ["train"]


def test_order_of_samples_does_not_matter_and_is_kept() -> None:
    forward = derive(samples(50), val_fraction=0.2, test_fraction=0)
    backward = derive(samples(50)[::-1], val_fraction=0.2, test_fraction=0)
    assert forward["val"] == backward["val"][::-1]


def test_few_move_when_files_are_added() -> None:
    before = {s.path: name for name, part in derive(samples(1000), val_fraction=0.2, test_fraction=0.1).items() for s in part}
    after = {s.path: name for name, part in derive(samples(1010), val_fraction=0.2, test_fraction=0.1).items() for s in part}
    assert sum(after[path] != split for path, split in before.items()) <= 6  # a random split would move some 450


def test_the_rule_is_frozen() -> None:
    """Another hash would move samples between train and validation of everybody's data sets. Written down once, from this rule."""
    splits = derive(samples(20), val_fraction=0.2, test_fraction=0)
    assert [s.path for s in splits["val"]] == ["class0/00002.jpg", "class0/00003.jpg", "class0/00004.jpg", "class0/00016.jpg"]


def test_unicode_forms_of_one_name_fall_alike() -> None:
    from cnncli.data.split import hash_order

    assert hash_order("caf\u00e9/1.jpg")[0] == hash_order("cafe\u0301/1.jpg")[0]
    assert hash_order("x\udcff.jpg")[0]


def test_a_given_split_stays_and_the_others_are_derived() -> None:
    train, test = tuple(samples(100)), tuple(samples(7, 1))
    splits, derived = complete({"test": test, "train": train}, val_fraction=0.1, test_fraction=0.5)
    assert list(splits) == ["train", "val", "test"]
    assert (len(splits["train"]), len(splits["val"]), splits["test"]) == (90, 10, test)
    assert derived
    assert complete({"val": test, "train": train, "test": test}, val_fraction=0.1, test_fraction=0.5) == (
        {"train": train, "val": test, "test": test},
        False,
    )
    assert complete({"test": test}, val_fraction=0.1, test_fraction=0.1) == ({"test": test}, False)
    assert complete({"train": train}, val_fraction=0, test_fraction=0) == ({"train": train}, False)


@pytest.mark.parametrize(
    ("count", "part", "most", "want"),
    [(10, 0.5, None, 5), (10, 0.25, None, 3), (10, 0.01, None, 1), (10, None, 4, 4), (3, None, 4, 3), (10, 0.5, 3, 3), (10, 0.2, 3, 2)],
)
def test_how_many_are_kept(count: int, part: float | None, most: int | None, want: int) -> None:
    assert len(keep_some(samples(count), share=part, most=most)) == want


def test_parts_are_nested_per_class_and_in_order() -> None:
    everything = samples(100, 0) + samples(40, 1) + samples(1, 2)
    parts = [keep_some(everything, share=part, most=None) for part in (0.05, 0.1, 0.3, 0.9, 1)]
    assert [[sum(s.label == label for s in part) for label in range(3)] for part in parts] == [
        [5, 2, 1],
        [10, 4, 1],
        [30, 12, 1],
        [90, 36, 1],
        [100, 40, 1],
    ]
    for smaller, larger in pairwise(parts):
        assert set(smaller) < set(larger)
        assert list(smaller) == [s for s in everything if s in set(smaller)]
    assert keep_some(everything[::-1], share=0.1, most=None) == parts[1][::-1]
    assert [s.path for s in keep_some(samples(20), share=0.2, most=None)] == [f"class0/000{n}.jpg" for n in ("02", "03", "04", "16")]
