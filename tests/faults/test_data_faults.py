"""Data sets with something wrong: bad images, junk, empty or misspelt classes, odd layouts; and what evaluation makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import harness
import pytest
from harness import HTML, LFS_POINTER, assert_failed, make_folder, png, run, unchanged

pytestmark = pytest.mark.slow

SHORT = ("--epochs", "1", "--input", "1x8x8")


def train(here: Path, *arguments: str, data: str = "data") -> harness.Done:
    return run("train", "mlp", "--data", data, *SHORT, "-o", "run", *arguments, cwd=here, warm=True)


def rows_of(here: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]


def truncated_png() -> bytes:
    return png(7)[:-30]


def test_D1_one_bad_image_is_skipped_and_counted(here: Path) -> None:
    data = make_folder(here / "data", {"a": 100, "b": 100})
    (data / "a" / "050.png").write_bytes(truncated_png())
    with unchanged(data):
        done = train(here)
    assert done.code == 5, done.err
    assert done.errors == []
    assert "1 images could not be read" in done.err or "1 image could not be read" in done.err
    listed = (here / "run" / "bad_images.txt").read_text().splitlines()
    assert len(listed) == 1
    assert "data/a/050.png" in listed[0]
    assert "truncated" in listed[0]
    assert "159 training images" in done.err or "39 validation images" in done.err, "the others are all there"


def test_D1_the_run_stays_deterministic(here: Path) -> None:
    data = make_folder(here / "data", {"a": 100, "b": 100})
    (data / "a" / "050.png").write_bytes(truncated_png())
    found = []
    for name in ("one", "two"):
        assert run("train", "mlp", "--data", "data", *SHORT, "-o", name, cwd=here, warm=True).code == 5
        found.append((here / name / "best.safetensors").read_bytes())
    assert found[0] == found[1]


def test_D1_too_many_bad_images(here: Path) -> None:
    data = make_folder(here / "data", {"a": 50, "b": 50})
    for number in range(5):
        (data / "a" / f"0{number}0.png").write_bytes(truncated_png())
    with unchanged(here):
        done = train(here, "--val-fraction", "0")
    assert_failed(done, 3, r"5 of 100 images \(5.0%\).*a/000.png: truncated PNG.*--bad-images")


def test_D1_one_bad_image_is_an_error_if_asked(here: Path) -> None:
    data = make_folder(here / "data", {"a": 100, "b": 100})
    (data / "b" / "099.png").write_bytes(truncated_png())
    with unchanged(here):
        done = train(here, "--bad-images", "error")
    assert_failed(done, 3, r"data/b/099.png: truncated PNG")


def test_D1_a_class_without_a_readable_image(here: Path) -> None:
    data = make_folder(here / "data", {"a": 300, "b": 1})
    (data / "b" / "000.png").write_bytes(truncated_png())
    with unchanged(here):
        assert_failed(train(here), 3, r"class b .*no readable image.*b/000.png")


def test_D2_found_by_a_full_decode(here: Path) -> None:
    """Its header is whole, so a look at the header, or Pillow's verify(), passes it; the pixels end early."""
    data = make_folder(here / "data", {"a": 100, "b": 100})
    picture = harness.picture(1, size=(64, 64))
    picture.save(data / "a" / "x.jpg", quality=95)
    whole = (data / "a" / "x.jpg").read_bytes()
    (data / "a" / "x.jpg").write_bytes(whole[: len(whole) // 2])
    from PIL import Image

    with Image.open(data / "a" / "x.jpg") as image:
        image.verify()
    done = train(here, "--val-fraction", "0")
    assert done.code == 5, done.err
    assert "a/x.jpg" in (here / "run" / "bad_images.txt").read_text()


NO_IMAGES = {
    "empty": (b"", "empty file"),
    "html": (HTML, "HTML page"),
    "git-lfs": (LFS_POINTER, "git-lfs pointer: run git lfs pull"),
    "pdf": (b"%PDF-1.4\n" + b"x" * 100, "PDF"),
    "text": (b"just words\n", "text"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_D3_what_is_no_image_is_told_as_what_it_is(kind: str, here: Path) -> None:
    content, reason = NO_IMAGES[kind]
    data = make_folder(here / "data", {"a": 100, "b": 100})
    (data / "a" / "x.jpg").write_bytes(content)
    done = train(here, "--val-fraction", "0")
    assert done.code == 5, done.err
    listed = (here / "run" / "bad_images.txt").read_text()
    assert "data/a/x.jpg" in listed
    assert reason in listed


HIDDEN = (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir")


def test_D5_hidden_folders_are_no_classes(here: Path) -> None:
    data = make_folder(here / "data", {"a": 5, "b": 5} | dict.fromkeys(HIDDEN, 2))
    done = train(here)
    assert done.code == 0, done.err
    assert "2 classes" in done.err
    notices = [line for line in done.err.splitlines() if line.startswith("note:")]
    assert len(notices) == 1
    assert all(name in notices[0] for name in HIDDEN)
    assert "--include-hidden" in notices[0]
    shutil.rmtree(data / ".git")
    assert "5 classes" in train(here, "--include-hidden", "--overwrite").err


def test_D6_hidden_files_are_no_images(here: Path) -> None:
    data = make_folder(here / "data", {"a": 5, "b": 5})
    for name in (".DS_Store", "Thumbs.db", "._000.png", "desktop.ini"):
        (data / "a" / name).write_bytes(b"\x00\x05\x16\x07" + b"\0" * 60)
        (data / name).write_bytes(b"\0" * 60)
    done = train(here)
    assert done.code == 0, done.err
    assert "8 training images, 2 validation images" in done.err


def test_D7_empty_class_in_train(here: Path) -> None:
    data = make_folder(here / "data", {"a": 5, "b": 5, "void": 0})
    with unchanged(here):
        assert_failed(train(here), 3, r"without images: void; .*--allow-empty")
    done = train(here, "--allow-empty")
    assert done.code == 0, done.err
    assert "3 classes" in done.err
    (data / "void" / "notes.txt").write_text("no image here")
    assert_failed(train(here, "--overwrite"), 3, r"void; .*--allow-empty")


def test_D7_empty_class_in_val_keeps_its_index(here: Path) -> None:
    make_folder(here / "data", {"train/a": 6, "train/b": 6, "train/c": 6, "val/a": 3, "val/b": 0, "val/c": 3})
    done = train(here)
    assert done.code == 0, done.err
    done = run("eval", "run", "--json", cwd=here, warm=True)
    assert [(entry["class"], entry["support"]) for entry in done.json["per_class"]] == [("a", 3), ("b", 0), ("c", 3)]
    assert all(isinstance(entry["recall"], float) for entry in done.json["per_class"]), "0/0 is no number"


def evaluated(here: Path, model: Path, *arguments: str) -> dict[str, object]:
    done = run("eval", model, "--data", "data", "--split", "all", "--json", *arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    return done.json


def test_D8_extra_class(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    make_folder(here / "data", {"bus": 2, "cat": 2, "dog": 2, "cats": 2})
    with unchanged(here):
        done = run("eval", folder_run[0].folder, "--data", "data", cwd=here, warm=True)
        assert_failed(done, 3, r"data has classes that the model does not know: cats")
        done = run("eval", folder_run[0].folder, "--data", "data", "--classes-subset", "--json", cwd=here, warm=True)
        assert_failed(done, 3, "cats", json_out=True)


def test_D8_other_spelling(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    make_folder(here / "data", {"bus": 2, "Cat": 2, "dog": 2})
    done = run("eval", folder_run[0].folder, "--data", "data", cwd=here, warm=True)
    assert_failed(done, 3, r"Cat.*cat")


def test_D8_missing_class(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    trained, data = folder_run
    shutil.copytree(data, here / "data")
    shutil.rmtree(here / "data" / "bus")
    with unchanged(here):
        done = run("eval", trained.folder, "--data", "data", cwd=here, warm=True)
        assert_failed(done, 3, r"lacks classes of the model: bus; --classes-subset")
    found = evaluated(here, trained.folder, "--classes-subset")
    assert [(entry["class"], entry["support"]) for entry in found["per_class"]] == [("bus", 0), ("cat", 12), ("dog", 12)]
    shutil.copytree(data / "bus", here / "data" / "bus")
    assert found["confusion"][1:] == evaluated(here, trained.folder)["confusion"][1:], "labels did not move up by one"


def test_D8_order_of_the_classes_does_not_matter(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    """The model's classes in another order, weights of the last layer with them: the same net, so the same result."""
    import dataclasses

    from cnncli.models.modelfile import load, save

    trained, data = folder_run
    shutil.copytree(data, here / "data")
    model, info = load(trained.best)
    order = [2, 0, 1]
    last = list(model.state_dict())[-2:]
    state = {name: tensor[order] if name in last else tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    save(here / "turned.safetensors", model, dataclasses.replace(info, classes=tuple(info.classes[i] for i in order)))
    straight, turned = evaluated(here, trained.folder), evaluated(here, here / "turned.safetensors")
    assert turned["top1"] == straight["top1"]
    assert turned["loss"] == pytest.approx(straight["loss"], rel=1e-12)
    by_name = {entry["class"]: entry for entry in straight["per_class"]}
    assert [entry["class"] for entry in turned["per_class"]] == ["dog", "bus", "cat"]
    assert all(entry == by_name[entry["class"]] for entry in turned["per_class"])
    expected = [[straight["confusion"][i][j] for j in order] for i in order]
    assert turned["confusion"] == expected


@pytest.mark.parametrize("names", [("Cat", "cat"), (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"))], ids=ascii)
def test_D9_names_too_alike(names: tuple[str, str], here: Path) -> None:
    make_folder(here / "data", dict.fromkeys((*names, "dog"), 3))
    with unchanged(here):
        done = train(here)
    assert_failed(done, 3, r"differ only in case or Unicode form")
    assert all(ascii(name) in done.errors[0] for name in names), "both are shown, and can be told apart"


TOO_FEW = {
    "one class": ({"a": 5}, r"one class only: a \(5 images\).*FOLDER/CLASS"),
    "one image": ({"a": 1, "b": 0}, r"one image only.*FOLDER/CLASS"),
    "no image": ({"a": 0, "b": 0}, r"0 images in 2 class folders.*FOLDER/CLASS"),
    "nothing": ({".": 0}, r"0 images in 0 class folders.*FOLDER/CLASS"),
    "all in the root": ({".": 7}, r"7 images but no class folders.*FOLDER/CLASS"),
    "splits without classes": ({"train": 4, "val": 2}, r"split folders train, val hold no class folders.*FOLDER/train/CLASS"),
}


@pytest.mark.parametrize("case", TOO_FEW)
def test_D10_too_few(case: str, here: Path) -> None:
    counts, pattern = TOO_FEW[case]
    make_folder(here / "data", counts)
    with unchanged(here):
        assert_failed(train(here), 3, pattern)


def test_D11_split_folders_are_splits(here: Path) -> None:
    make_folder(here / "data", {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 3})
    done = train(here)
    assert done.code == 0, done.err
    assert "2 classes" in done.err
    assert "12 training images, 5 validation images" in done.err


def test_D11_split_folders_by_other_names(here: Path) -> None:
    make_folder(here / "data", {"Train/a": 6, "Train/b": 6, "validation/a": 2, "validation/b": 3, "test/a": 4})
    done = train(here)
    assert done.code == 0, done.err
    assert "12 training images, 5 validation images" in done.err
    found = run("eval", "run", "--json", cwd=here, warm=True).json
    assert (found["split"], found["count"]) == ("test", 4)


def test_E1_twice_the_same_and_with_any_batch_size(here: Path, digits_run: harness.Trained) -> None:
    found = [run("eval", digits_run.folder, "--json", *size, cwd=here, warm=True) for size in ((), (), ("--batch-size", "64"))]
    assert found[0].out == found[1].out
    single = run("eval", digits_run.folder, "--json", "--batch-size", "1", cwd=here, warm=True).json
    rounded = ("loss", "loss_interval")
    for other in (found[2].json, single):
        for key in rounded:
            assert other.pop(key) == pytest.approx(found[0].json[key], rel=1e-6)
        fitted, expected = other.pop("calibration"), found[0].json["calibration"]
        assert [b["count"] for b in fitted["bins"]] == [b["count"] for b in expected["bins"]]
        assert fitted["temperature"] == pytest.approx(expected["temperature"], rel=1e-3)
        assert other == {key: value for key, value in found[0].json.items() if key not in (*rounded, "calibration")}


def test_E1_preprocessing_is_the_training_s(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    """Evaluated on the split it was validated on, a model reaches what training said: same size, mean, std and evaluation mode."""
    trained, data = folder_run
    done = run("eval", trained.folder, "--split", "val", "--json", cwd=trained.folder.parent, warm=True)
    last = json.loads((trained.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert done.json["top1"] == pytest.approx(last["val_accuracy"], abs=1e-9)
    assert done.json["loss"] == pytest.approx(last["val_loss"], rel=1e-5)
    assert done.json["count"] == sum(1 for _ in data.rglob("*.png")) - 30


def test_E2_bad_images_are_left_out_and_counted(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    trained, _ = folder_run
    data = make_folder(here / "data", {"bus": 40, "cat": 40, "dog": 40})
    (data / "cat" / "020.png").write_bytes(HTML)
    with unchanged(here):
        done = run("eval", trained.folder, "--data", "data", "--split", "all", "--json", cwd=here, warm=True)
    assert done.code == 5, done.err
    assert done.json["count"] == 119
    assert [entry["support"] for entry in done.json["per_class"]] == [40, 39, 40]
    assert sum("cat/020.png" in line and "HTML page" in line for line in done.err.splitlines()) == 1
    assert done.errors == []


def test_E2_too_many_bad_images(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    data = make_folder(here / "data", {"bus": 10, "cat": 10, "dog": 10})
    (data / "cat" / "005.png").write_bytes(b"")
    with unchanged(here):
        done = run("eval", folder_run[0].folder, "--data", "data", "--split", "all", cwd=here, warm=True)
        assert_failed(done, 3, r"1 of 30 images.*cat/005.png: empty file")
        done = run("eval", folder_run[0].folder, "--data", "data", "--split", "all", "--bad-images", "error", "--json", cwd=here, warm=True)
        assert_failed(done, 3, r"cat/005.png", json_out=True)


def test_E3_nothing_to_evaluate(here: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    trained, _ = folder_run
    make_folder(here / "empty", {"bus": 0, "cat": 0, "dog": 0})
    make_folder(here / "one", {"cat": 3})
    make_folder(here / "no-test", {"train/bus": 2, "train/cat": 2, "train/dog": 2, "test/bus": 0})
    with unchanged(here):
        for data, pattern in (("empty", "empty has 0 images"), ("one", "one class only: cat")):
            assert_failed(run("eval", trained.folder, "--data", data, cwd=here, warm=True), 3, pattern)
            assert_failed(run("eval", trained.folder, "--data", data, "--classes-subset", cwd=here, warm=True), 3, pattern)
        done = run("eval", trained.folder, "--data", "no-test", "--split", "test", cwd=here, warm=True)
        assert_failed(done, 3, r"split test of no-test has no images")


def test_D12_training_tells_what_is_in_two_splits(here: Path) -> None:
    data = make_folder(here / "data", {"train/a": 20, "train/b": 20, "val/a": 8, "val/b": 8})
    for number in (3, 7):
        shutil.copy(data / f"train/a/00{number}.png", data / f"val/a/copy{number}.png")
    done = train(here)
    assert done.code == 0, done.err
    assert "warning: 2 images of data for training also in another split: train/a/003.png is val/a/copy3.png of val;" in done.err
    assert "--fix clean.csv" in done.err
    refused = train(here, "--strict", "--overwrite")
    assert_failed(refused, 3, "2 images of data for training also in another split")
    shutil.rmtree(here / "run")
    for copy in data.glob("val/a/copy*"):
        copy.unlink()
    clean = train(here, "--strict")
    assert clean.code == 0, clean.err
    assert "warning" not in clean.err


# `cnn` with a hand that takes files away after the first epoch. Arguments: how many of them, the files, the command line.
VANISHING = """
import os, sys
from cnncli.cli.main import main
from cnncli.engine.events import EpochDone
from cnncli.reports.training import TrainingReport

count, show = int(sys.argv[1]), TrainingReport.show

def show_and_take(report, event):
    show(report, event)
    for name in sys.argv[2 : 2 + count]:
        if isinstance(event, EpochDone) and os.path.exists(name):
            os.unlink(name)

TrainingReport.show = show_and_take
sys.exit(main(sys.argv[2 + count :]))
"""


def test_D4_what_is_lost_while_it_is_streamed(here: Path) -> None:
    """One image goes away after the check: the run goes on without it, and says so. Too many: exit 1, and what was saved stays."""
    data = make_folder(here / "data", {"train/a": 300, "train/b": 300, "val/a": 8, "val/b": 8})
    line = ("train", "mlp", "--data", "data", "--input", "1x8x8", "--epochs", "3", "--store", "stream", "-o", "run", "--overwrite")
    for count, wanted in ((1, 5), (20, 1)):
        gone = [str(data / f"train/b/{number:03d}.png") for number in range(count)]
        program = [sys.executable, "-c", VANISHING, str(count), *gone, *line]
        done = subprocess.run(program, cwd=here, env=harness.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == wanted, done.stderr
        assert (here / "run" / "best.safetensors").exists()
        if count == 1:
            assert len(rows_of(here)) == 3
            assert "train/b/000.png: no such file" in (here / "run" / "bad_images.txt").read_text()
        else:
            assert len([text for text in done.stderr.splitlines() if text.startswith("cnn: error:")]) == 1
            assert "could not be read while they were needed, more than 1%" in done.stderr
