"""`cnn visualize classes` as a user types it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness import Trained, assert_failed, make_folder, run, unchanged

from cnncli.cli.visualize.classes import _Answer
from cnncli.cli.visualize.job import AskJob
from cnncli.data.source import open_source
from cnncli.models.modelfile import load
from cnncli.models.resolve import model_file
from cnncli.reports import class_figure
from cnncli.reports.class_figure import ClassRow
from cnncli.visualize.classes import ClassView


def test_digits(here: Path, digits_run: Trained) -> None:
    """Against the model run on the pixels by hand, in the training's split."""
    words = ("visualize", "classes", digits_run.folder, "--data", "digits", "--split", "test")
    done = run(*words, "--raw", "c.npz", "--count", "2", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = done.json
    assert set(found) == {"title", "random", "images", "classes", "files", "left_out"}
    assert found["files"] == ["classes/classes.png", "c.npz"]
    assert all((here / path).is_file() for path in found["files"])
    model, info = load(model_file(digits_run.folder))
    source = open_source("digits", val_fraction=info.val_fraction, test_fraction=info.test_fraction)
    samples = source.samples("test")
    assert found["images"] == len(samples)
    pixels = torch.from_numpy(np.stack([info.preprocess.pixels(source.read(sample)) for sample in samples]))
    with torch.no_grad():
        shares = model.eval()(info.preprocess.normalise(pixels)).softmax(1)
    with np.load(here / "c.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for number, own in enumerate(found["classes"]):
        places = [place for place, sample in enumerate(samples) if sample.label == number]
        predicted = [info.classes[place] for place in shares[places].argmax(1).tolist()]
        wrong = Counter(name for name in predicted if name != own["class"])
        assert (own["class"], own["count"]) == (info.classes[number], len(places))
        assert own["recall"] == pytest.approx(predicted.count(own["class"]) / len(places))
        assert own["taken_for_count"] == max(wrong.values(), default=0) == wrong[own["taken_for"]]
        probabilities = [image["probability"] for image in own["images"]]
        assert probabilities == sorted(probabilities, reverse=True)
        of_images = {image["path"]: image["probability"] for image in own["images"]}
        assert of_images == pytest.approx({samples[place].path: float(shares[place, number]) for place in places}, abs=1e-5)
        assert {image["path"]: image["predicted"] for image in own["images"]} == {
            samples[place].path: name for place, name in zip(places, predicted, strict=True)
        }
        assert np.allclose(arrays["mean_images"][number], pixels[places].numpy().mean(0) / 255, atol=1e-5)
    assert any(own["taken_for"] for own in found["classes"])
    assert np.allclose(arrays["mean_saliency"].mean((1, 2)), 1, atol=1e-4)
    told = [(own["class"], image) for own in found["classes"] for image in own["images"]]
    assert arrays["labels"].tolist() == [name for name, _ in told]
    assert arrays["predicted"].tolist() == [image["predicted"] for _, image in told]
    assert arrays["paths"].tolist() == [image["path"] for _, image in told]
    assert arrays["probabilities"].tolist() == [image["probability"] for _, image in told]
    with unchanged(here):
        assert_failed(run(*words, cwd=here, warm=True), 2, r"classes/classes\.png exists; use --overwrite")


def test_the_number_beneath_an_image_is_that_of_the_json(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probability by which images are sorted, of those that are mistaken too."""
    drawn: list[ClassRow] = []
    monkeypatch.setattr(class_figure, "draw_classes", lambda path, rows, title: drawn.extend(rows))
    shares, predicted = torch.tensor([0.75, 0.5, 0.25, 0.125]), torch.tensor([0, 0, 1, 1])
    view = ClassView(0, torch.zeros(1, 4, 4).double(), torch.ones(4, 4).double(), torch.arange(4), shares, predicted)
    info = SimpleNamespace(classes=("cat", "dog"), preprocess=SimpleNamespace(mean=(0.0,), std=(1.0,)))
    images: Any = SimpleNamespace(names=tuple("abcd"), some=lambda rows: np.zeros((len(rows), 1, 4, 4), np.uint8))
    opened: Any = SimpleNamespace(info=info, seed=None)
    answer = _Answer(AskJob("classes", "net", out=here / "out"), opened, images, "title", 2)
    answer.take(view, here / "out" / "classes.png")
    answer._draw()
    assert [(shot.taken_for, shot.share) for shot in drawn[0].best] == [("", 0.75), ("", 0.5)]
    assert [(shot.taken_for, shot.share) for shot in drawn[0].worst] == [("dog", 0.125), ("dog", 0.25)]
    assert [image["probability"] for image in answer.facts[0]["images"]] == [0.75, 0.5, 0.25, 0.125]


@pytest.mark.slow
def test_one_class_and_pages(here: Path, digits_run: Trained, folder_run: tuple[Trained, Path]) -> None:
    """--class has the same numbers as all have; a random net of eleven classes needs two pages, and says that it is random."""
    words = ("visualize", "classes", digits_run.folder, "--data", "digits", "--split", "val", "--json")
    every = run(*words, "-o", "all", cwd=here, warm=True).json
    one = run(*words, "-o", "one", "--class", "7", cwd=here, warm=True).json
    assert [own["class"] for own in one["classes"]] == ["7"]
    assert one["classes"][0]["recall"] == every["classes"][7]["recall"]
    make_folder(here / "data", {str(number): 2 for number in range(11)})
    done = run("visualize", "classes", "lenet5", "--classes", "12", "--data", "data", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert [len(done.json["classes"]), done.json["images"], done.json["random"]] == [11, 22, 0]
    assert "random weights" in done.json["title"]
    assert done.json["files"] == ["classes/classes-1.png", "classes/classes-2.png"]
    made, data = folder_run
    named = run("visualize", "classes", made.folder, "--data", data, "-o", "named", "--json", cwd=here, warm=True).json
    assert [own["class"] for own in named["classes"]] == ["bus", "cat", "dog"]


@pytest.mark.parametrize("store", ["memory", "stream"])
def test_images_that_cannot_be_read(store: str, here: Path) -> None:
    """Where images are decoded as they are needed, a class may turn out to have none: its row is missing."""
    make_folder(here / "data", {"0": 250, "1": 2, **({"2": 1} if store == "stream" else {})})
    for folder in ("1", "2") if store == "stream" else ("1",):
        (here / "data" / folder / "000.png").write_bytes(b"no image")
    words = ("visualize", "classes", "lenet5", "--data", "data", "--store", store, "--json")
    done = run(*words, cwd=here, warm=True)
    assert done.code == 5, done.err
    assert [(own["class"], own["count"]) for own in done.json["classes"]] == [("0", 250), ("1", 1)]
    assert done.json["images"] == 251
    assert len(done.json["left_out"]) == (2 if store == "stream" else 1)
    assert "1/000.png" in done.json["left_out"][0]


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (["data/0/000.png"], 2, "classes looks at a data set with its classes; name it: --data NAME"),
        ([], 2, "classes looks at a data set with its classes"),
        (["data/0/000.png", "--data", "digits"], 2, "by name and by --data"),
        (["--data", "data/0"], 3, "data/0"),
        (["--data", "flowers"], 3, "no class in common"),
        (["--data", "data", "--class", "9"], 2, "data, split all, has no image of class 9; choose another class or split"),
        (["--data", "data", "--class", "cat"], 2, "--class 'cat' is none of the model's classes"),
        (["--data", "data", "--split", "nope"], 2, "no split 'nope'"),
        (["--data", "data", "--count", "0"], 2, "--count"),
        (["--data", "data", "--raw", "x.txt"], 2, r"should end in \.npz"),
        (["--data", "data", "-o", "file"], 2, "--out file is a file"),
    ],
)
def test_what_is_refused(words: list[str], code: int, pattern: str, here: Path, digits_run: Trained) -> None:
    make_folder(here / "data", {"0": 2, "1": 2})
    make_folder(here / "flowers", {"rose": 2, "tulip": 2})
    (here / "file").touch()
    with unchanged(here):
        assert_failed(run("visualize", "classes", digits_run.folder, *words, cwd=here, warm=True), code, pattern)
        assert_failed(run("visualize", "classes", digits_run.folder, *words, "--json", cwd=here, warm=True), code, pattern, json_out=True)
