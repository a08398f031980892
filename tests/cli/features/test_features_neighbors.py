"""`cnn features neighbors`, on a feature file: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cnncli.cli.features.neighbors import command
from cnncli.cli.main import main as run
from cnncli.features.beside import content_of
from cnncli.features.feature_set import FeatureSet, Space
from cnncli.features.files import read_features, write_features


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    vectors = (random.standard_normal((60, 8)) + 4 * np.eye(8)[labels]).astype(np.float32)
    spaces = (Space("fc7", "layer", (8,), "fc7"), Space("pixels", "pixels", (8,)))
    arrays = {"fc7": vectors, "pixels": random.standard_normal((60, 8)).astype(np.float32)}
    features = FeatureSet(arrays, spaces, labels, ("a", "b", "c"), tuple(f"{row}.png" for row in range(60)), ("",) * 60)
    path = tmp_path / "features.npz"
    write_features(path, content_of(features))
    return path


def test_it_prints_accuracy_and_writes_picture_and_json(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["features", "neighbors", str(file), "-k", "5", "--baselines", "pixels", "-o", str(out)]) == 0
    assert "kNN accuracy" in capsys.readouterr().out
    assert (out / "neighbors.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads((out / "neighbors.json").read_text())
    assert [one["space"] for one in found["accuracy"]] == ["fc7", "pixels"]
    assert found["accuracy"][0]["accuracy"] > 0.9 > found["accuracy"][1]["accuracy"]
    assert len(found["queries"]) == 8
    assert all(len(near) == 5 for query in found["queries"] for near in query["neighbors"].values())
    assert all(query["path"] != near["path"] for query in found["queries"] for near in query["neighbors"]["fc7"])
    assert run(["features", "neighbors", str(file), "-o", str(out), "--baselines", "pixels"]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["-k", "60"], "-k 60 neighbours need 61 images, there are 60"), (["--metric", "cosin"], "cosine"), (["--search", "fais"], "faiss")],
)
def test_what_cannot_be_is_refused_in_a_line(file, flags, told, capsys):
    assert run(["features", "neighbors", str(file), "--baselines", "pixels", *flags]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of noise in two classes."""
    random = np.random.default_rng(1)
    for number in range(10):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def test_an_image_file_asks_and_random_weights_are_said_everywhere(folder, tmp_path, capsys):
    query, out = str(folder / "a" / "4.png"), tmp_path / "out"
    flags = ["--weights", "random", "--data", str(folder), "--query", query, "-k", "3", "--baselines", "pixels", "-o", str(out)]
    assert run(["features", "neighbors", "lenet5", *flags]) == 0
    table = capsys.readouterr().out
    assert "layer, random weights" in table
    assert "weights are random" in table
    found = json.loads((out / "neighbors.json").read_text())
    assert found["random"] == 0
    assert [one["kind"] for one in found["accuracy"]] == ["random", "pixels"]
    (asked,) = found["queries"]
    assert asked["path"] == query
    assert asked["class"] is None
    assert all(one["path"] != "a/4.png" for near in asked["neighbors"].values() for one in near), "it is not its own neighbour"


def changed(file, **new):
    """The features of `file`, changed, in another file."""
    path = file.with_name("changed.npz")
    write_features(path, content_of(replace(read_features(file), **new)))
    return str(path)


def test_a_set_without_classes_has_neighbours_and_duplicates_and_no_accuracy(file, capsys):
    path = changed(file, labels=np.full(60, -1), classes=())
    assert run(["features", "neighbors", path, "-k", "3", "--baselines", "none"]) == 0
    told = capsys.readouterr().out
    assert "near duplicates" in told
    assert "the images have no classes" in told
    assert "accuracy  " not in told


def test_a_train_split_of_fewer_images_than_neighbours_is_said(file, capsys):
    path = changed(file, splits=("train",) * 4 + ("test",) * 56)
    assert run(["features", "neighbors", path, "-k", "5", "--baselines", "none"]) == 0
    assert "-k 5, and there are only 4 labelled images" in " ".join(capsys.readouterr().out.split())


def test_the_recall_of_faiss_is_said(file, capsys):
    pytest.importorskip("faiss")
    assert run(["features", "neighbors", str(file), "-k", "3", "--baselines", "none", "--search", "faiss"]) == 0
    assert "recall 1.000 of the 3 nearest, measured against exact search of 60 queries" in " ".join(capsys.readouterr().out.split())


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("cnncli.cli.features.neighbors.gather", lambda *_, **__: pytest.fail("it has begun"))
    assert run(["features", "neighbors", str(file), "-o", str(tmp_path / "new" / "out")]) == 4
    assert "permission denied" in capsys.readouterr().err


def test_the_documented_keys_are_those_that_are_written(file, capsys):
    labels = np.arange(60) % 3
    labels[0] = 1  # a suspect
    path = changed(file, labels=labels)
    assert run(["features", "neighbors", path, "-k", "3", "--baselines", "none", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    text = (command.__doc__ or "").split("JSON: ")[1]

    def keys(value):
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = set(value) - {"fc7"} if isinstance(value, dict) else set()
        return own.union(*map(keys, children))

    assert keys(found) == set(re.findall(r'"(\w+)"', text))
