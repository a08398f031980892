"""Labels follow class names, never positions."""

from __future__ import annotations

import pytest
from PIL import Image

from cnncli.data.classes import match_classes, refuse_twins, some
from cnncli.data.source import Sample, Source
from cnncli.errors import ExitCode, InputError


def source(*classes: str) -> Source:
    samples = tuple(Sample(f"{name}/0.png", index) for index, name in enumerate(classes))
    return Source("pets", classes, {"train": samples, "val": samples[:1]}, (), derived=False, locate=lambda _: Image.new("L", (1, 1)))


def test_d8_reordered_classes_are_relabelled_by_name() -> None:
    matched = match_classes(["dog", "cat", "bird"], source("bird", "cat", "dog"))
    assert matched.classes == ("dog", "cat", "bird")
    assert [(s.path, s.label) for s in matched.splits["train"]] == [("bird/0.png", 2), ("cat/0.png", 1), ("dog/0.png", 0)]
    assert matched.counts("val") == (0, 0, 1)


def test_d8_extra_classes_are_refused_with_the_near_miss() -> None:
    with pytest.raises(InputError, match=r"pets has classes that the model does not know: dogs; for dogs, did you mean dog\?") as caught:
        match_classes(["cat", "dog"], source("cat", "dogs"), subset=True)
    assert caught.value.code is ExitCode.INPUT
    with pytest.raises(InputError, match="CAT, DOG"):
        match_classes(["cat", "dog"], source("CAT", "DOG"))  # no spelling is guessed


def test_d8_missing_classes_need_a_word() -> None:
    with pytest.raises(InputError, match="lacks classes of the model: bird; --classes-subset allows that"):
        match_classes(["bird", "cat", "dog"], source("cat", "dog"))
    matched = match_classes(["bird", "cat", "dog"], source("cat", "dog"), subset=True)
    assert matched.counts("train") == (0, 1, 1)


@pytest.mark.parametrize(("one", "two"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("\u00c9t\u00e9", "e\u0301te\u0301")])
def test_d9_twins_are_refused_and_told_apart(one: str, two: str) -> None:
    with pytest.raises(InputError, match="case or Unicode form") as caught:
        refuse_twins([one, "other", two], "pets")
    assert ascii(one) in str(caught.value)
    assert ascii(two) in str(caught.value)


def test_long_lists_are_cut() -> None:
    assert some(map(str, range(8))) == "0, 1, 2, 3, 4 and 3 more"
    assert some(["a\nb"]) == "a\\nb"
