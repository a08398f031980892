"""Labels follow class names, never positions."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncli.data.classes import match_classes, refuse_twins, some
from cnncli.data.source import Sample, Source
from cnncli.data.wnids import imagenet_names, imagenet_wnids
from cnncli.errors import ExitCode, InputError
from cnncli.models.imagenet import unique_names


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


def test_d8_no_class_in_common_has_a_message_of_its_own() -> None:
    with pytest.raises(InputError, match=r"no class in common: pets has CAT, DOG, the model cat, dog; for CAT, did you mean cat\?"):
        match_classes(["cat", "dog"], source("CAT", "DOG"))
    with pytest.raises(
        InputError, match=r"pets has xxx, the model cat, dog; give data with the model's classes; `cnn finetune` teaches it others"
    ):
        match_classes(["cat", "dog"], source("xxx"), subset=True)
    with pytest.raises(
        InputError, match=r"pets has aunt, the model tench, .* and 995 more; the model tells ImageNet's 1,000 classes apart; `cnn fine"
    ):
        match_classes(tuple(imagenet_wnids()), source("aunt"), subset=True)


# ---- ImageNet: folders by number, models by name ----

IMAGENETTE = {
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player", "n03000684": "chain saw", "n03028079": "church",
    "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas pump", "n03445777": "golf ball", "n03888257": "parachute",
}  # fmt: skip


def test_the_table_of_imagenet() -> None:
    """WNIDs against the list in timm, names against torchvision's; Imagenette's ten pairs are written out by its authors."""
    from timm.data import ImageNetInfo
    from torchvision.models import ResNet18_Weights

    names = imagenet_names()
    assert list(names) == ImageNetInfo("imagenet-1k").label_names() == sorted(names)
    assert tuple(names.values()) == unique_names(ResNet18_Weights.DEFAULT.meta["categories"])
    assert len(set(names.values())) == 1000
    assert {wnid: names[wnid] for wnid in IMAGENETTE} == IMAGENETTE


def test_folders_with_wnids_match_a_model_with_names() -> None:
    model = tuple(imagenet_wnids())
    matched = match_classes(model, source(*reversed(IMAGENETTE)), subset=True)
    assert matched.classes == model
    for sample in matched.splits["train"]:
        assert model[sample.label] == IMAGENETTE[sample.path.partition("/")[0]]
    with pytest.raises(InputError, match=r"lacks classes of the model: goldfish, great white shark, .* and 985 more; --classes-subset"):
        match_classes(model, source(*IMAGENETTE))
    whole = match_classes(model, source(*sorted(imagenet_names(), reverse=True)))
    assert [s.label for s in whole.splits["train"]] == list(reversed(range(1000)))


def test_folders_with_names_match_a_model_with_wnids_and_mixed_ones_too() -> None:
    model = ("n03888257", "church", "n01440764", "mine")
    matched = match_classes(model, source("mine", "tench", "n03028079", "parachute"))
    assert {s.path.partition("/")[0]: s.label for s in matched.splits["train"]} == {"parachute": 0, "n03028079": 1, "tench": 2, "mine": 3}


def test_one_class_under_both_its_names_is_refused() -> None:
    with pytest.raises(InputError, match="pets has one class twice: n01440764 and tench; merge the two"):
        match_classes(tuple(imagenet_wnids()), source("n01440764", "tench"), subset=True)
    match_classes(("n01440764", "tench"), source("n01440764", "tench"))  # a model that has both tells them apart


def test_a_wnid_that_imagenet_does_not_have_is_a_class_like_others() -> None:
    with pytest.raises(InputError, match="does not know: n00000001"):
        match_classes(tuple(imagenet_wnids()), source("n00000001", "tench"), subset=True)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(IMAGENETTE)), unique=True, min_size=1), st.lists(st.booleans(), min_size=10, max_size=10), st.randoms()
)
def test_whatever_the_words_and_their_order_labels_follow_the_class(wnids: list[str], by_name: list[bool], draw: Random) -> None:
    model = list(imagenet_wnids())
    draw.shuffle(model)
    names = [IMAGENETTE[wnid] if flag else wnid for wnid, flag in zip(wnids, by_name, strict=False)]
    matched = match_classes(model, source(*names), subset=True)
    truth = IMAGENETTE | {name: name for name in IMAGENETTE.values()}
    assert [model[s.label] for s in matched.splits["train"]] == [truth[s.path.partition("/")[0]] for s in matched.splits["train"]]


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
