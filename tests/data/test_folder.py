"""Folders as people have them: layouts, junk, links, and every refusal in one line that names the folder."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from cnncli.data.decode import BadImage
from cnncli.data.source import Source, open_source
from cnncli.errors import ExitCode, InputError

# The fixture make_images(root, {"cat": 3}) writes small PNG files.
pytestmark = pytest.mark.filterwarnings("error:::cnncli")


def refused(folder: Path, **options: bool) -> str:
    with pytest.raises(InputError) as caught:
        open_source(str(folder), **options)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.code is ExitCode.INPUT
    assert caught.value.path
    return text


def notices(source: Source) -> str:
    return " | ".join(source.notices)


def test_classes_without_a_split(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "pets", {"dog": 10, "cat": 5})
    source = open_source(str(tmp_path / "pets"))
    assert source.name == "pets"
    assert source.classes == ("cat", "dog")
    assert source.derived
    assert source.notices == ()
    assert (source.counts("train"), source.counts("val")) == ((4, 8), (1, 2))
    sample = source.samples("train")[0]
    assert sample.path.startswith("cat/")
    assert source.read(sample).size == (6, 5)
    assert list(open_source(str(tmp_path / "pets"), val_fraction=0).splits) == ["train"]
    three = open_source(str(tmp_path / "pets"), test_fraction=0.2)
    assert [sum(three.counts(s)) for s in ("train", "val", "test")] == [9, 3, 3]
    assert three.samples("val") == source.samples("val")  # asking for a test split takes nothing from validation


def test_file_that_vanished_is_a_bad_image_with_its_whole_path(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"a": 2, "b": 2})))
    sample = source.samples("train")[0]
    (tmp_path / sample.path).unlink()
    with pytest.raises(BadImage, match="no such file") as caught:
        source.read(sample)
    assert caught.value.name == str(tmp_path / sample.path)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_d11_given_splits(tmp_path: Path, make_images, val: str) -> None:
    make_images(tmp_path, {"train/cat": 3, "train/dog": 3, f"{val}/cat": 2, f"{val}/dog": 1, "test/dog": 4})
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert not source.derived
    assert [source.counts(s) for s in ("train", "val", "test")] == [(3, 3), (2, 1), (0, 4)]
    assert list(source.splits) == ["train", "val", "test"]


def test_train_without_val_derives_it_and_leaves_test_alone(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})
    source = open_source(str(tmp_path), test_fraction=0.5)
    assert source.derived
    assert [source.counts(s) for s in ("train", "val", "test")] == [(8, 8), (2, 2), (3, 3)]


def test_splits_without_train_for_judging(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"test/cat": 3, "test/dog": 3})))
    assert list(source.splits) == ["test"]
    assert not source.derived


def test_nested_folders_belong_to_their_class(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"cat/2024/may": 2, "cat": 1, "dog": 2})), val_fraction=0)
    assert source.counts("train") == (3, 2)


def test_d7_empty_class_in_train(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 2, "dog": 2, "cow": 0})
    text = refused(tmp_path)
    assert "class folders without images: cow; remove them or use --allow-empty" in text
    source = open_source(str(tmp_path), allow_empty=True, val_fraction=0)
    assert (source.classes, source.counts("train")) == (("cat", "cow", "dog"), (2, 0, 2))


def test_d7_empty_or_missing_class_in_val_keeps_indices(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"train/ant": 2, "train/bee": 2, "train/cow": 2, "val/bee": 0, "val/cow": 2})
    source = open_source(str(tmp_path))
    assert source.counts("val") == (0, 0, 2)
    assert {s.label for s in source.samples("val")} == {2}


def test_class_in_val_that_train_lacks(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"train/cat": 2, "train/dog": 2, "val/cat": 2, "val/dogs": 2, "val/cow": 1})
    assert "val has classes that train lacks: cow, dogs" in refused(tmp_path)


def test_d5_d6_hidden_and_junk_are_ignored(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 2, "dog": 2, ".git": 1, ".ipynb_checkpoints": 1, "__MACOSX": 1, "@eaDir": 1, "cat/.thumbs": 1})
    for name in (".DS_Store", "Thumbs.db", "._000.png"):
        (tmp_path / "cat" / name).write_bytes(b"junk")
    source = open_source(str(tmp_path), val_fraction=0)
    assert source.classes == ("cat", "dog")
    assert source.counts("train") == (2, 2)
    assert len(source.notices) == 1
    for name in (".git", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "cat/.thumbs", "--include-hidden"):
        assert name in notices(source)
    kept = open_source(str(tmp_path), val_fraction=0, include_hidden=True)
    assert ".git" in kept.classes
    assert kept.counts("train")[kept.classes.index("cat")] == 3  # .thumbs too, but never ._000.png


def test_d15_images_by_content_others_counted(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 1, "dog": 2})
    picture = (tmp_path / "cat/000.png").read_bytes()
    for name in ("A.JPG", "b.Jfif", "c", "d.data"):
        (tmp_path / "cat" / name).write_bytes(picture)
    (tmp_path / "cat/notes.txt").write_text("words")
    (tmp_path / "dog/labels.csv").write_text("a,b")
    source = open_source(str(tmp_path), val_fraction=0)
    assert source.counts("train") == (5, 2)
    assert "ignored 2 files that are not images: cat/notes.txt, dog/labels.csv" in notices(source)


def test_d14_special_files_are_skipped_and_named(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 2, "dog": 2})
    os.mkfifo(tmp_path / "cat/x.jpg")
    (tmp_path / "cat/dir.jpg").mkdir()
    source = open_source(str(tmp_path), val_fraction=0)
    assert source.counts("train") == (2, 2)
    assert "cat/x.jpg (a FIFO, not a file)" in notices(source)


def test_d13_links(tmp_path: Path, make_images) -> None:
    outside = make_images(tmp_path / "outside", {"more": 3})
    root = make_images(tmp_path / "root", {"cat": 2, "dog": 2, "dog/deep": 1})
    (root / "cat/loop").symlink_to(root)  # must not bring the dogs to the cats
    (root / "cat/self").symlink_to(".")
    (root / "kitten").symlink_to("cat")
    (root / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (root / "cat/circle.jpg").symlink_to("circle.jpg")
    (root / "dog/linked").symlink_to(outside / "more")
    (root / "dog/linked_again").symlink_to(outside / "more")
    (outside / "more/back").symlink_to(outside)
    source = open_source(str(root), val_fraction=0)
    assert source.classes == ("cat", "dog")
    assert source.counts("train") == (2, 6)
    assert "cat/circle.jpg, cat/gone.jpg" in notices(source)
    assert "cat/loop" in notices(source)
    assert "kitten" in notices(source)


def test_d9_names_that_differ_in_case_or_form(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "one", {"Cat": 2, "cat": 2})
    assert "'Cat' and 'cat'" in refused(tmp_path / "one")
    make_images(tmp_path / "two", {unicodedata.normalize(form, "café"): 2 for form in ("NFC", "NFD")})
    assert "'cafe\\u0301' and 'caf\\xe9'" in refused(tmp_path / "two")
    make_images(tmp_path / "three", {"train/cat": 2, "train/dog": 2, "val/Cat": 2})
    assert "'Cat' and 'cat'" in refused(tmp_path / "three")


def test_d10_too_little(tmp_path: Path, make_images) -> None:
    expected = "expected a folder FOLDER/CLASS/*.jpg with two or more classes"
    for name, counts, told in (
        ("one class", {"cat": 4}, "one class only: cat (4 images)"),
        ("flat", {".": 7}, "has 7 images but no class folders"),
        ("empty", {}, "0 images in 0 class folders"),
        ("hollow", {"cat": 0, "dog": 0}, "0 images in 2 class folders"),
        ("one image", {"cat": 1, "dog": 0}, "one image only, in 2 class folders"),
        ("flat splits", {"train": 3, "val": 2}, "hold no class folders (5 images without a class)"),
    ):
        (tmp_path / name).mkdir()
        text = refused(make_images(tmp_path / name, counts))
        assert told in text
        assert expected in text
        assert str(tmp_path / name) in text


def test_train_beside_other_folders(tmp_path: Path, make_images) -> None:
    vehicles = make_images(tmp_path / "vehicles", {"bus": 2, "car": 2, "train": 2})
    assert open_source(str(vehicles)).classes == ("bus", "car", "train")
    mixed = make_images(tmp_path / "mixed", {"train/cat": 2, "train/dog": 2, "annotations": 1})
    assert "split folders (train) beside others (annotations)" in refused(mixed)
    twice = make_images(tmp_path / "twice", {"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1})
    assert "has the split val twice: val, valid" in refused(twice)


def test_images_beside_class_folders_are_told(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"cat": 2, "dog": 2, ".": 1})))
    assert "ignored 1 images that are in no class folder: 000.png" in notices(source)


def test_what_is_no_folder(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 1})
    assert "is not a folder of images: it is a file" in refused(tmp_path / "cat/000.png")
    (tmp_path / "link").symlink_to("nowhere")
    assert "no such file" in refused(tmp_path / "link")
    assert "no such data" in refused(tmp_path / "none")


def test_d23_folder_without_permission(tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(tmp_path, {"cat": 2, "dog": 2})
    scandir = os.scandir

    def closed(path: object) -> object:  # chmod does not stop root, who runs many a container's tests
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert f"cannot read folder {tmp_path}/dog: permission denied" in refused(tmp_path)


def test_d22_names_of_any_bytes(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"한국": 2, "emoji 😀": 2, os.fsdecode(b"caf\xe9"): 3})
    (tmp_path / "한국/000.png").rename(tmp_path / "한국" / os.fsdecode(b"\xff\n.png"))
    (tmp_path / "한국/001.png").rename(tmp_path / "한국" / ("x" * 251 + ".png"))
    source = open_source(str(tmp_path), val_fraction=0.5)
    assert len(source.samples("all")) == 7
    for sample in source.samples("all"):
        assert source.read(sample).size == (6, 5)
    assert source.fingerprint()


def test_real_photos(flowers: Path) -> None:
    source = open_source(str(flowers))
    assert source.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert source.counts("train") == (64,) * 5
    assert source.counts("val") == (16,) * 5
    assert source.notices == ()
    assert source.read(source.samples("val")[0]).mode == "RGB"
