"""Opening by name, and the digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnncli.data.source import SOURCES, Sample, open_source
from cnncli.errors import ExitCode, InputError, UsageError


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    digits = open_source("digits")
    original = load_digits()
    assert digits.classes == tuple("0123456789")
    assert digits.derived
    everything = digits.samples("all")
    assert len(everything) == 1797
    for sample in everything[::100]:
        index = int(Path(sample.path).stem)
        image = digits.read(sample)
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.floor(original.images[index] * 255 / 16 + 0.5))
        assert sample.label == original.target[index]


def test_digits_splits_are_disjoint_exact_and_large_enough() -> None:
    digits = open_source("digits")
    sizes = {name: len(samples) for name, samples in digits.splits.items()}
    assert list(sizes) == ["train", "val", "test"]
    assert sizes["test"] >= 300
    assert len({s.path for s in digits.samples("all")}) == sum(sizes.values()) == 1797
    whole = np.array(digits.counts("all"))
    np.testing.assert_array_equal(digits.counts("val"), np.floor(whole * 0.1 + 0.5))
    np.testing.assert_array_equal(digits.counts("test"), np.floor(whole * 0.2 + 0.5))
    assert list(open_source("digits", val_fraction=0, test_fraction=0).splits) == ["train"]


def test_a_name_that_is_also_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_images) -> None:
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "digits", {"a": 2, "b": 2})
    with pytest.raises(UsageError, match=r"write \./digits for the folder") as caught:
        open_source("digits")
    assert caught.value.code is ExitCode.USAGE
    assert open_source("./digits").classes == ("a", "b")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("digit", "did you mean digits"),
        ("MNIST", "did you mean mnist"),
        ("cifar", "`cnn data --list` has all names"),
        ("zzz", "expected the name of a data set (`cnn data --list` has all names), a list FILE.csv, or a folder FOLDER/CLASS/*.jpg"),
        ("photos/none", "expected a list FILE.csv, or a folder FOLDER/CLASS/*.jpg"),
        ("none.csv", "no such data: 'none.csv'; expected a list FILE.csv"),
        ("", "expected"),
        ("a\nb/", "a\\nb"),
    ],
)
def test_what_does_not_exist_is_named_with_what_was_expected(spec: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        open_source(spec)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (1, 0), (0.5, 0.5), (float("nan"), 0)])
def test_fractions_out_of_range(val: float, test: float) -> None:
    with pytest.raises(UsageError, match="share"):
        open_source("digits", val_fraction=val, test_fraction=test)


def test_unknown_split_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="choose from train, val, test, all"):
        open_source("digits").samples("dev")


def test_fingerprint_follows_the_files() -> None:
    digits = open_source("digits")
    assert digits.fingerprint() == open_source("digits").fingerprint()
    assert digits.fingerprint() != open_source("digits", val_fraction=0.2).fingerprint()


def test_listing_and_folders_need_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys; import cnncli.data.source, cnncli.data.folder, cnncli.data.preprocess; "
        "print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert SOURCES["digits"].megabytes == 0
    assert SOURCES["flowers102"].splits == ("train", "val", "test")


def test_less_to_train_on_leaves_the_rest_as_it_is() -> None:
    whole = open_source("digits")
    half, tenth = open_source("digits", subset=0.5), open_source("digits", subset=0.1)
    few, one = open_source("digits", limit_per_class=7), open_source("digits", subset=0.001)
    for less in (half, tenth, few, one):
        assert less.splits["val"] == whole.splits["val"]
        assert less.splits["test"] == whole.splits["test"]
    assert half.counts("train") == tuple(int(count * 0.5 + 0.5) for count in whole.counts("train"))
    assert few.counts("train") == (7,) * 10
    assert one.counts("train") == (1,) * 10
    assert set(one.splits["train"]) < set(few.splits["train"]) < set(tenth.splits["train"]) < set(half.splits["train"])
    assert open_source("digits", subset=0.5, limit_per_class=7).splits == few.splits
    assert open_source("digits", subset=0.5).splits == half.splits
    assert half.notices == (f"training on {len(half.splits['train'])} of 1,259 images",)
    assert half.fingerprint() != whole.fingerprint()
    assert open_source("digits", subset=1).splits == whole.splits


def test_less_of_a_folder_without_a_split_for_training(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"test/a": 4, "test/b": 4})
    assert open_source(str(tmp_path), subset=0.5).counts("test") == (4, 4)


def test_samples_are_small_and_hashable() -> None:
    assert {Sample("a", 1), Sample("a", 1)} == {Sample("a", 1)}
