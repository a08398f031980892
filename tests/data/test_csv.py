"""Lists of images: what is read from them, and every way in which a line can be wrong, told with its number."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from harness import assert_failed, make_folder, run

from cnncli.data.source import Source, open_source
from cnncli.errors import InputError


@pytest.fixture
def photos(tmp_path: Path, make_images) -> Path:
    """Ten cats and ten dogs, in no folder that says what they are."""
    return make_images(tmp_path, {"c": 10, "d": 10})


def listed(root: Path, text: str | bytes, name: str = "list.csv", **options) -> Source:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    return open_source(str(root / name), **options)


def refused(root: Path, text: str | bytes, told: str, name: str = "list.csv") -> None:
    """One line that names the file, and the line in it."""
    with pytest.raises(InputError) as caught:
        listed(root, text, name)
    assert told in str(caught.value)
    assert str(root / name) in str(caught.value)
    assert "\n" not in str(caught.value)


ALL = "".join(f"{folder}/{index:03d}.png,{label}\n" for folder, label in (("c", "cat"), ("d", "dog")) for index in range(10))


def test_without_splits_they_are_derived(photos: Path) -> None:
    source = listed(photos, "path,label\n" + ALL)
    assert source.name == "list"
    assert source.classes == ("cat", "dog")
    assert {split: source.counts(split) for split in source.splits} == {"train": (8, 8), "val": (2, 2)}
    assert source.derived
    sample = source.splits["val"][0]
    assert source.locate(sample) == photos / sample.path
    assert source.read(sample).size == (6, 5)
    assert [len(s) for s in listed(photos, "path,label\n" + ALL, val_fraction=0.3, test_fraction=0.2).splits.values()] == [10, 6, 4]


def test_the_split_is_that_of_the_same_folder(tmp_path: Path, make_images) -> None:
    """By the path, so a list and a folder of the same images judge the same ones."""
    make_images(tmp_path, {"cat": 20, "dog": 20})
    folder = open_source(str(tmp_path))
    rows = "".join(f"{s.path},{folder.classes[s.label]}\n" for s in folder.samples("all"))
    source = listed(tmp_path, "path,label\n" + rows)
    assert {split: set(samples) for split, samples in source.splits.items()} == {
        split: set(samples) for split, samples in folder.splits.items()
    }


def test_splits_of_the_list(photos: Path) -> None:
    rows = (
        "c/000.png,cat,train\nd/000.png,dog,TRAIN\nc/001.png,cat,valid\nd/001.png,dog,validation\nc/002.png,cat,Val\nd/002.png,dog,test\n"
    )
    source = listed(photos, "path,label,split\n" + rows)
    assert {split: [s.path for s in samples] for split, samples in source.splits.items()} == {
        "train": ["c/000.png", "d/000.png"],
        "val": ["c/001.png", "d/001.png", "c/002.png"],
        "test": ["d/002.png"],
    }
    assert not source.derived


def test_a_split_that_the_list_lacks_is_derived(photos: Path) -> None:
    rows = "".join(f"{line},{'test' if '/009' in line else 'train'}\n" for line in ALL.splitlines())
    source = listed(photos, "path,label,split\n" + rows)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 14, "val": 4, "test": 2}
    assert source.derived


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\nc/000.png,cat\nd/000.png,dog\n", "list.csv"),
        ("c/000.png,cat\nd/000.png,dog\n", "no-header.csv"),
        ("path\tlabel\nc/000.png\tcat\nd/000.png\tdog\n", "list.tsv"),
        ("c/000.png\tcat\nd/000.png\tdog\n", "no-header.tsv"),
        ("path;label\nc/000.png;cat\nd/000.png;dog\n", "semicolons.csv"),
        ("\ufeffpath,label\nc/000.png,cat\nd/000.png,dog\n", "excel.csv"),
        ("path,label\r\nc/000.png,cat\r\n\r\nd/000.png,dog", "windows.csv"),
        ('"path", "label"\n"c/000.png", "cat"\n"d/000.png" , dog \n'.replace('" ,', '",'), "quoted.csv"),
        ("label,note,filename\ncat,x,c/000.png\ndog,y,./d/../d/000.png\n", "other order.csv"),
        ("PATH,Class\nc/000.png,cat\nd/000.png,dog\n", "list.txt"),
    ],
)
def test_forms(text: str, name: str, photos: Path) -> None:
    source = listed(photos, text, name, val_fraction=0)
    assert [(s.path, source.classes[s.label]) for s in source.splits["train"]] == [("c/000.png", "cat"), ("d/000.png", "dog")]
    assert source.read(source.splits["train"][1]).size == (6, 5)


def test_odd_names_and_absolute_paths(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "elsewhere", {"x": 1})
    names = ['a, "b"; c.png', "naïve 한국 🐱.png", " outer .png", "line\nbreak.png", os.fsdecode(b"latin-\xe9.png")]
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / "elsewhere/x/000.png").read_bytes())
    rows = "".join('"{}","{}"\n'.format(name.replace('"', '""'), f"kind {number % 2}") for number, name in enumerate(names))
    source = listed(tmp_path, f"path,label\n{rows}{tmp_path}/elsewhere/x/000.png,kind 0\n", val_fraction=0)
    assert [s.path for s in source.splits["train"]] == [*names, f"{tmp_path}/elsewhere/x/000.png"]
    assert all(source.read(s).size == (6, 5) for s in source.splits["train"])


def test_further_columns_are_kept(photos: Path) -> None:
    rows = "c/000.png,nikon,cat,3\nd/000.png,,dog,4\n"
    source = listed(photos, "path,camera,label,age\n" + rows, val_fraction=0)
    assert source.columns == {"camera": {"c/000.png": "nikon", "d/000.png": ""}, "age": {"c/000.png": "3", "d/000.png": "4"}}
    from cnncli.data.classes import match_classes

    matched = match_classes(("dog", "cat"), source)
    assert [matched.columns["camera"][s.path] for s in matched.splits["train"]] == ["nikon", ""]


GOOD = "c/000.png,cat\nd/000.png,dog\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"path,label\n{GOOD}c/999.png,cat\n", "line 4: c/999.png: no such file; paths are relative to "),
        (f"path,label\n{GOOD}c,cat\n", "line 4: c: a folder, not a file"),
        (f"path,label\n{GOOD}\n\n\nc/001.png,\n", "line 7: empty label"),
        (f"path,label\n{GOOD},cat\n", "line 4: empty path"),
        (f"path,label\n{GOOD}c/000.png,cat\n", "line 4: c/000.png is listed twice, in line 2 too"),
        (f"path,label\n{GOOD}./c/000.png,dog\n", "line 4: ./c/000.png has two labels, cat in line 2 and dog here"),
        (f"path,label\n{GOOD}c/001.png\n", "line 4: 1 values, but the first line has 2"),
        (f"path,label\n{GOOD}c/001.png,a,b\n", "line 4: 3 values, but the first line has 2"),
        ("path,label,split\nc/000.png,cat,train\nd/000.png,dog,dev\n", "line 3: split 'dev'; choose from train, val"),
        ("path,label,split\nc/000.png,cat,train\nd/000.png,dog,\n", "line 3: split ''"),
        ("path,label,split\nc/000.png,cat,train\nd/000.png,dog,train\nc/000.png,cat,val\n", "line 4: c/000.png is listed twice, in line 2"),
        (
            "path,label,split\nc/000.png,cat,train\nc/001.png,cat,train\nd/000.png,dog,val\n",
            "line 4: class dog is in val, but not in train",
        ),
        ("path,kind\nc/000.png,cat\n", "line 1: it should name the columns path and label, and has path, kind; expected a list with"),
        ("name,kind\nc/000.png,cat\n", "line 1: it should name the columns path and label, and has name, kind"),
        ("path,file,label\nc/000.png,x,cat\n", "line 1: two columns for the path: path, file"),
        ("path,label,a,a\nc/000.png,cat,1,2\n", "line 1: two columns are named 'a'"),
        ('path,label\n"c/000.png,cat\nd/000.png,dog\n', "line 2: it cannot be taken apart"),
        (f"path,label\n{GOOD}" + '"c/001\n.png",cat\nc/999.png,cat\n', "line 4: c/001\\n.png: no such file"),
        (f"path,label\n{GOOD}c/\0.png,cat\n", "line 4: c/\\x00.png: no such file"),
        ("path,label\nc/000.png,cat\nc/001.png,cat\n", "lists 2 images, all of class cat; a list needs images of two or more classes"),
        ("path,label\n", "lists 0 images"),
        ("\n\n", "lists no images"),
        ("", "is not a list of images: empty file"),
        ("path,label\nc/000.png,cat\nd/000.png,Cat\n", "labels of"),
        ("path,label\nc/000.png,cat\n".encode("utf-16"), "line 1: it is UTF-16; save the list as UTF-8"),
        (b"<!DOCTYPE html><html></html>", "is not a list of images: HTML page"),
        (b"PK\x03\x04" + bytes(100), "is not a list of images: zip archive"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, told: str, photos: Path) -> None:
    refused(photos, text, told)


def test_a_list_of_many(tmp_path: Path, make_images) -> None:
    """Opening costs a look at each file and no more. Bound: ten times what it takes here."""
    make_images(tmp_path, {"x": 1})
    (tmp_path / "many").mkdir()
    for number in range(2000):
        os.link(tmp_path / "x/000.png", tmp_path / f"many/{number}.png")
    begun = time.perf_counter()
    source = listed(tmp_path, "path,label\n" + "".join(f"many/{number}.png,{number % 5}\n" for number in range(2000)))
    assert time.perf_counter() - begun < 1
    assert source.counts("val") == (80,) * 5


def test_other_files_are_no_lists(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"x": 1})
    with pytest.raises(InputError, match="is not a folder of images: it is a file"):
        open_source(str(tmp_path / "x/000.png"))


@pytest.mark.slow
def test_train_and_eval_on_a_list(here: Path) -> None:
    """Training on a part judges the same validation images as evaluation does afterwards, in another process."""
    make_folder(here / "photos", {"a": 30, "b": 30})
    rows = "".join(f"photos/{label}/{number:03d}.png;{label}\n" for label in "ab" for number in range(30))
    (here / "list.csv").write_text(f"path;label\n{rows}")
    arguments = ("--data", "list.csv", "--input", "1x8x8", "--epochs", "2", "--subset", "0.25", "--limit-per-class", "5", "-o", "run")
    done = run("train", "mlp", *arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "training on 10 of 48 images" in done.err
    judged = run("eval", "run", "--split", "val", "--json", cwd=here, warm=True)
    assert judged.code == 0, judged.err
    rows = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    best = next(row for row in reversed(rows) if row["best"])
    assert (judged.json["count"], judged.json["data"]) == (12, "list")
    assert judged.json["top1"] == pytest.approx(best["val_accuracy"])
    assert judged.json["loss"] == pytest.approx(best["val_loss"], rel=1e-4)
    (here / "list.csv").write_text("path;label\nphotos/a/000.png;a\nphotos/a/900.png;b\n")
    assert_failed(run("train", "mlp", *arguments, "--overwrite", cwd=here, warm=True), 3, "list.csv line 3: photos/a/900.png: no such file")


@pytest.mark.slow
def test_eval_finds_the_data_root_of_the_training(here: Path, fashion_mnist_root: Path) -> None:
    arguments = ("--data", "fashion-mnist", "--data-root", fashion_mnist_root, "--limit-per-class", "20", "--epochs", "1", "-o", "run")
    done = run("train", "lenet5", *arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "200 training images, 6,000 validation images" in done.err
    judged = run("eval", "run", "--json", cwd=here, warm=True)
    assert judged.code == 0, judged.err
    assert (judged.json["data"], judged.json["split"], judged.json["count"]) == ("fashion-mnist", "test", 10_000)
    assert judged.json["per_class"][9]["class"] == "Ankle boot"
