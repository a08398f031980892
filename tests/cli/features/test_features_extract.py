"""`cnn features extract` and `retrieve` as a user types them: the files, the tables, the JSON, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import Done, Trained, assert_failed, run, unchanged

from cnncli.features.files import read_features
from cnncli.models.modelfile import load
from cnncli.models.resolve import model_file


def extract(*words: str | Path, cwd: Path, code: int = 0, **options: Any) -> Done:
    done = run("features", "extract", *words, cwd=cwd, warm=True, **options)
    assert done.code == code, f"{done.out}{done.err}"
    return done


def activations(run_folder: Path, layer: str, images: torch.Tensor) -> np.ndarray:
    """What a layer gives, by a hook of our own."""
    model, _ = load(model_file(run_folder))
    found = []
    model.get_submodule(layer).register_forward_hook(lambda _m, _a, output: found.append(output.clone()))
    with torch.no_grad():
        model(images)
    return found[0].flatten(1).numpy()


def test_the_numbers_are_the_layers(here: Path, digits_run: Trained) -> None:
    """Of each image, in its row, against the model called by hand on pixels read by hand."""
    from sklearn.datasets import load_digits

    done = extract(
        digits_run.folder,
        "--data",
        "digits",
        "--split",
        "test",
        "--layer",
        "f6",
        "--layer",
        "c1",
        "--pool",
        "flatten",
        "-o",
        "f.npz",
        cwd=here,
    )
    assert (done.err, "f.npz: 359 images of digits, test" in done.out) == ("", True)
    features = read_features(here / "f.npz")
    _, info = load(model_file(digits_run.folder))
    assert set(features.splits) == {"test"}
    assert features.names == ("f6", "c1")
    digits = load_digits()
    rows = [0, 100, 358]
    numbers = [int(Path(features.paths[row]).stem.rpartition("-")[2]) for row in rows]
    assert [digits.target[number] for number in numbers] == features.labels[rows].tolist()
    from cnncli.data.source import open_source

    source = open_source("digits")
    samples = {sample.path: sample for sample in source.samples("all")}
    pixels = np.stack([info.preprocess.pixels(source.read(samples[features.paths[row]])) for row in rows])
    images = info.preprocess.normalise(torch.from_numpy(pixels))
    for name, module in (("f6", "tanh6"), ("c1", "tanh1")):
        assert np.allclose(features.matrix(name, rows), activations(digits_run.folder, module, images), atol=1e-5)


def test_before_the_activation(here: Path, digits_run: Trained) -> None:
    words = (digits_run.folder, "--data", "digits", "--split", "val", "--layer", "f6")
    extract(*words, "-o", "after.npy", cwd=here)
    extract(*words, "--activation", "before", "-o", "before.npy", cwd=here)
    after, before = np.load(here / "after.npy"), np.load(here / "before.npy")
    assert np.allclose(after, np.tanh(before), atol=1e-6)
    assert read_features(here / "after.npy").spaces[0].activation == "after"


def test_all_splits_labels_and_json(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, data = folder_run
    shutil.copytree(data, here / "photos")
    done = extract(trained.folder, "--data", "photos", "-o", "f.npz", "--json", "--baselines", "pixels,random", cwd=here)
    result = done.json
    features = read_features(here / "f.npz")
    assert result["count"] == len(features)
    assert result["file"] == "f.npz"
    assert [space["kind"] for space in result["spaces"]] == ["layer", "pixels", "random"]
    assert result["random"] is None
    assert result["left_out"] == []
    assert {"model", "data", "split", "how", "seconds", "images_per_second"} < set(result)
    assert features.classes == ("bus", "cat", "dog")
    for path, label in zip(features.paths, features.labels.tolist(), strict=True):
        assert features.classes[label] in path
        assert (here / "photos" / path).is_file()
    assert set(features.splits) <= {"train", "val", "test"}
    assert 0 <= features.matrix("pixels").min() <= features.matrix("pixels").max() <= 1
    assert features.spaces[2].name == f"{features.spaces[0].name}@random"


def test_the_layer_before_the_classifier_is_the_default(here: Path, digits_run: Trained) -> None:
    done = extract(digits_run.folder, "--data", "digits", "--split", "val", "-o", "f.npz", cwd=here)
    assert read_features(here / "f.npz").names == ("f6",)
    assert done.err == "layer: f6, the last before the classifier (output)\n"


def test_random_weights_are_said(here: Path) -> None:
    words = ("lenet5", "--data", "digits", "--split", "val", "--layer", "f6")
    done = extract(*words, "-o", "a.npz", cwd=here)
    assert done.err == "note: lenet5 has random weights, seed 0\n"
    assert "lenet5, random weights (seed 0)" in done.out
    extract(*words, "-o", "b.npz", cwd=here)
    extract(*words, "-o", "c.npz", "--seed", "1", cwd=here)
    a, b, c = (read_features(here / f"{name}.npz") for name in "abc")
    assert np.array_equal(a.matrix("f6"), b.matrix("f6"))
    assert not np.allclose(a.matrix("f6"), c.matrix("f6"))
    assert (a.origin.random, c.origin.random) == (0, 1)


def test_images_without_classes(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, data = folder_run
    images = sorted(data.rglob("*.png"))[:5]
    (here / "flat").mkdir()
    for number, image in enumerate(images):
        shutil.copy(image, here / "flat" / f"{number}.png")
    refused = run("features", "extract", trained.folder, "--data", "flat", "-o", "f.npz", cwd=here, warm=True)
    assert_failed(refused, 3, "flat")
    extract(trained.folder, "--data", "flat", "--unlabelled", "-o", "f.npz", cwd=here)
    features = read_features(here / "f.npz")
    assert features.paths == ("0.png", "1.png", "2.png", "3.png", "4.png")
    assert set(features.labels.tolist()) == {-1}
    assert features.classes == ()
    assert set(features.splits) == {""}


@pytest.mark.parametrize("columns", ["80", "140"])
def test_list_layers(here: Path, columns: str) -> None:
    done = extract("lenet5", "--list-layers", cwd=here, COLUMNS=columns)
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[2].split() == ["layer", "operation", "output", "numbers", "active"]
    assert ["c1", "Conv2d", "6x28x28", "4,704", "tanh1"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= int(columns)
    listed = extract("lenet5", "--list-layers", "--json", cwd=here).json
    assert listed["random"] == 0
    assert listed["layers"][0] == {"name": "c1", "operation": "Conv2d", "shape": [6, 28, 28], "active": "tanh1", "runs": 1}


@pytest.mark.parametrize(("columns", "heads"), [("140", 5), ("80", 4), ("60", 4)])
def test_long_names_of_layers_stay_a_table(here: Path, columns: str, heads: int) -> None:
    """A narrow terminal has one column less, and then broken names, and the legend says what is missing."""
    done = extract("squeezenet1_1", "--list-layers", cwd=here, COLUMNS=columns)
    lines = done.out.splitlines()
    assert lines[2].split() == ["layer", "operation", "output", "numbers", "active"][:heads]
    assert max(map(len, lines)) <= int(columns)
    assert any(line.split()[:3] == ["conv1", "Conv2d", "64x111x111"] for line in lines)
    legend = " ".join(done.out.split())
    assert ("A wider terminal shows" in legend) == (heads == 4)
    assert ("active: where" in legend) == (heads == 5)


def test_the_layers_on_a_very_narrow_terminal(here: Path) -> None:
    """No table fits: a line a fact, and none is missing."""
    lines = extract("squeezenet1_1", "--list-layers", cwd=here, COLUMNS="40").out.splitlines()
    assert lines[2:7] == ["layer: conv1", "operation: Conv2d", "output: 64x111x111", "numbers: 788,544", "active: relu_conv1"]
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (["--layer", "f7", "-o", "f.npz"], 2, "no layer 'f7'; did you mean .*f6.*--list-layers lists them"),
        (["--layer", "pixels", "-o", "f.npz"], 2, "--baselines pixels takes them"),
        (["-o", "f.txt"], 2, r"should end in \.npz"),
        (["-o", "there.npz"], 2, r"there\.npz exists; use --overwrite"),
        (["--layer", "f6", "--layer", "c1", "-o", "f.npy"], 2, "holds one layer, and these are 2"),
        ([], 2, "say which: -o features.npz"),
        (["--pool", "mean", "-o", "f.npz"], 2, "--pool 'mean' is not one of avg, max"),
        (["--activation", "behind", "-o", "f.npz"], 2, "--activation 'behind' is not one of after, before"),
        (["--dtype", "float", "-o", "f.npz"], 2, "did you mean float32 or float16"),
        (["--baselines", "pixel", "-o", "f.npz"], 2, "--baselines 'pixel' is unknown; did you mean pixels"),
        (["--split", "nope", "-o", "f.npz"], 2, "has no split 'nope'"),
        (["--weights", "random", "-o", "f.npz"], 2, "has its own weights; leave out --weights random"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_refused(words: list[str], code: int, pattern: str, as_json: bool, here: Path, digits_run: Trained) -> None:
    (here / "there.npz").write_bytes(b"old")
    with unchanged(here):
        done = run(
            "features", "extract", digits_run.folder, "--data", "digits", *words, *(["--json"] if as_json else []), cwd=here, warm=True
        )
    assert_failed(done, code, pattern, json_out=as_json)


def test_data_that_is_missing(here: Path, digits_run: Trained) -> None:
    assert_failed(run("features", "extract", digits_run.folder, "-o", "f.npz", cwd=here, warm=True), 2, "say where they are: --data FOLDER")
    assert_failed(
        run("features", "extract", digits_run.folder, "--data", "nope", "-o", "f.npz", cwd=here, warm=True), 3, "no such data: 'nope'"
    )


# ---- retrieve ----


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, folder_run: tuple[Trained, Path]) -> Path:
    """A folder with photos and the features of them."""
    trained, data = folder_run
    home = tmp_path_factory.mktemp("index")
    shutil.copytree(data, home / "photos")
    extract(trained.folder, "--data", "photos", "-o", "photos.npz", cwd=home)
    return home


def retrieve(*words: str | Path, cwd: Path) -> Done:
    return run("features", "retrieve", "photos.npz", *words, cwd=cwd, warm=True)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_nearest_images_as_paths(index: Path, metric: str) -> None:
    features = read_features(index / "photos.npz")
    matrix = features.matrix(features.names[0]).astype(np.float64)
    row = 7
    query = Path("photos") / features.paths[row]
    if metric == "l2":
        distances = np.linalg.norm(matrix - matrix[row], axis=1)
    else:
        units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        distances = 1 - units @ units[row]
    distances[row] = np.inf
    wanted = [str(Path("photos") / features.paths[one]) for one in np.argsort(distances, kind="stable")[:4]]
    done = retrieve(query, "-k", "4", "--metric", metric, cwd=index)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == wanted, "the image itself is left out"
    assert all((index / path).is_file() for path in wanted)
    zeros = retrieve(query, "-k", "4", "--metric", metric, "--print0", cwd=index).out
    assert zeros == "".join(f"{path}\0" for path in wanted)
    found = retrieve(query, "-k", "4", "--metric", metric, "--json", cwd=index).json
    assert [one["path"] for one in found["queries"][0]["nearest"]] == wanted
    assert np.allclose([one["distance"] for one in found["queries"][0]["nearest"]], np.sort(distances)[:4], atol=1e-6)


def test_several_images_and_ones_from_elsewhere(index: Path) -> None:
    features = read_features(index / "photos.npz")
    inside = index / "photos" / features.paths[3]
    shutil.copy(inside, index / "elsewhere.png")
    done = retrieve("elsewhere.png", inside, "-k", "1", cwd=index)
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert lines[0] == ["elsewhere.png", str(Path("photos") / features.paths[3])], "a copy of it is found"
    assert lines[1][0] == str(inside)
    assert lines[1][1] != lines[0][1]


def test_what_retrieve_refuses(index: Path, folder_run: tuple[Trained, Path]) -> None:
    count = len(read_features(index / "photos.npz"))
    (index / "bad.png").write_bytes(b"no image")
    some = next((index / "photos").rglob("*.png"))
    assert_failed(retrieve("nope.png", cwd=index), 3, r"nope\.png: no such file")
    assert_failed(retrieve("photos", cwd=index), 3, "photos: it is a folder")
    assert_failed(retrieve("bad.png", cwd=index), 3, r"bad\.png")
    shutil.copy(some, index / "copy.png")
    assert_failed(
        retrieve("copy.png", "-k", str(count + 1), cwd=index), 2, f"-k {count + 1}: the set has {count} images; ask for at most {count}"
    )
    assert_failed(retrieve(some, "-k", str(count), cwd=index), 2, f"has {count - 1} other images")
    assert_failed(retrieve(some, "--metric", "l1", cwd=index), 2, "--metric 'l1' is not one of")
    assert_failed(retrieve(some, "--layer", "nope", cwd=index), 2, "the features have no layer 'nope'; it has")
    assert_failed(retrieve(some, "--weights", "random", cwd=index), 2, "leave it out")
    assert_failed(run("features", "retrieve", "lost.npz", some, cwd=index, warm=True), 3, r"no such feature file: lost\.npz")
    assert_failed(run("features", "retrieve", folder_run[0].folder, some, cwd=index, warm=True), 2, "say where they are: --data")


def test_features_of_another_model_than_the_file_says(index: Path, digits_run: Trained, tmp_path: Path) -> None:
    """The run folder that made them has been trained anew since."""
    trained = tmp_path / "model"
    shutil.copytree(digits_run.folder, trained)
    extract(trained, "--data", "digits", "--split", "val", "-o", "f.npz", cwd=tmp_path)
    done = run("train", "lenet5", "--data", "digits", "--epochs", "1", "--seed", "5", "-o", "other", cwd=tmp_path, warm=True)
    assert done.code == 0
    shutil.copy(tmp_path / "other" / "best.safetensors", trained / "best.safetensors")
    some = next((index / "photos").rglob("*.png"))
    assert_failed(
        run("features", "retrieve", "f.npz", some, cwd=tmp_path, warm=True), 3, "has other weights than those of which f.npz holds features"
    )


def test_asking_a_model_at_once(index: Path, folder_run: tuple[Trained, Path]) -> None:
    some = min((index / "photos").rglob("*.png"))
    done = run("features", "retrieve", folder_run[0].folder, some, "--data", "photos", "-k", "2", cwd=index, warm=True)
    assert done.out == retrieve(some, "-k", "2", cwd=index).out
    assert (
        json.loads(
            run("features", "retrieve", folder_run[0].folder, some, "--data", "photos", "-k", "2", "--json", cwd=index, warm=True).out
        )["data"]
        == "photos"
    )
