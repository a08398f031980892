"""`cnn finetune --compare`: the same images for every method, figures that belong together, and a picture of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Done, assert_failed, run, unchanged
from PIL import Image
from pretrained import digit_images, pretrained_digits

from cnncli.cli.finetune_compare import parse_sizes
from cnncli.errors import UsageError
from cnncli.transfer.comparison import METHODS

SHORT = ("--epochs", "1", "--solver", "lbfgs", "--batch-size", "8", "--precision", "fp32")
THREE = {"one": 12, "two": 12, "zero": 12}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    digit_images(folder / "data", THREE)
    digit_images(folder / "split", {f"{split}/{name}": 6 for split in ("train", "val") for name in THREE})
    (folder / "split" / "val").rename(folder / "split" / "test")
    (folder / "source").symlink_to(pretrained_digits().folder)
    return folder


@pytest.fixture(scope="module")
def folds(place: Path) -> Done:
    words = ("--compare", "--folds", "2", "--per-class", "2,all", "--json", "-o", "folds")
    return run("finetune", "source", "--data", "data", *SHORT, *words, cwd=place, warm=True)


@pytest.mark.slow
def test_every_method_is_measured_on_every_image(folds: Done, place: Path) -> None:
    assert folds.code == 0, folds.err
    found = folds.json
    assert (found["data"], found["folds"]) == ("data", 2)
    assert [(one["per_class"], one["method"]) for one in found["outcomes"]] == [(size, name) for size in (2, None) for name in METHODS]
    for one in found["outcomes"]:
        assert one["tested"] == 36, "each image is in one fold's test"
        assert one["images"] == (6 if one["per_class"] else 15)
        low, high = one["interval"]
        assert 0 <= low <= one["accuracy"] <= high <= 1
        assert (one["against_everything"] is None) == (one["method"] == "everything")
    reference = {one["per_class"]: one["accuracy"] for one in found["outcomes"] if one["method"] == "everything"}
    for one in found["outcomes"]:
        if one["against_everything"]:
            assert one["against_everything"]["difference"] == pytest.approx(one["accuracy"] - reference[one["per_class"]])
    trained = {one["method"]: one["trained"] for one in found["outcomes"]}
    assert trained["classifier"] == 99 < trained["deepest block"] < trained["everything"] == trained["from scratch"]
    assert found == json.loads((place / "folds" / "comparison.json").read_text())
    with Image.open(place / "folds" / "comparison.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.slow
def test_what_was_learned_from_ten_digits_helps_with_three(folds: Done) -> None:
    accuracy = {one["method"]: one["accuracy"] for one in folds.json["outcomes"] if one["per_class"] is None}
    assert accuracy["classifier"] > 0.8


@pytest.mark.slow
def test_a_test_split_is_measured_on(place: Path) -> None:
    done = run("finetune", "source", "--data", "split", *SHORT, "--compare", "-o", "once", cwd=place, warm=True)
    assert done.code == 0, done.err
    assert "18 images to test on" in " ".join(done.out.split())
    assert all(name in done.out for name in METHODS)
    assert "fold" not in done.err
    assert sorted(path.name for path in (place / "once").iterdir()) == ["comparison.json", "comparison.png"]
    with unchanged(place):
        assert_failed(
            run("finetune", "source", "--data", "split", "--compare", "-o", "once", cwd=place, warm=True), 2, "run folder exists: once"
        )
        told = run("finetune", "source", "--data", "split", "--compare", "--folds", "2", "-o", "new", cwd=place, warm=True)
        assert_failed(told, 2, "split has a test split already; test on it")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--folds", "3"), "--folds goes with --compare"),
        (("--per-class", "1"), "--per-class goes with --compare"),
        (("--json",), "--json goes with --compare"),
        (("--compare", "--freeze"), "--compare trains in several ways, in one process, and --freeze says how"),
        (("--compare", "--unfreeze", "1"), "and --unfreeze says how"),
        (("--compare", "--per-class", "5,2"), "--per-class '5,2' should be rising numbers, and all"),
        (("--compare", "--folds", "13"), "one.*12 images|12 images.*one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_words(words: tuple[str, ...], told: str, place: Path) -> None:
    with unchanged(place):
        done = run("finetune", "source", "--data", "data", *words, cwd=place, warm=True)
        assert_failed(done, 2, told, json_out="--json" in words)


def test_sizes() -> None:
    assert parse_sizes(None) == (None,)
    assert parse_sizes("1,5,all") == (1, 5, None)
    assert parse_sizes("all") == (None,)
    for text in ("", "0", "1,1", "2,1", "all,2", "1,all,all", "x", "1,", "-1", "1.5"):
        with pytest.raises(UsageError, match="--per-class"):
            parse_sizes(text)
