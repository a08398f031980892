"""`cnn features project` as a user types it."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Done, Trained, assert_failed, run, unchanged
from PIL import Image
from sklearn.decomposition import PCA

from cnncli.features.beside import content_of
from cnncli.features.feature_set import FeatureSet
from cnncli.features.files import read_features, write_features

FILES = ["coordinates.csv", "explorer.html", "mosaic.png", "projection.png"]


def project(*words: str | Path, cwd: Path, code: int = 0, **options: Any) -> Done:
    done = run("features", "project", *words, cwd=cwd, warm=True, **options)
    assert done.code == code, f"{done.out}{done.err}"
    return done


def refused(here: Path, code: int, pattern: str, *words: str | Path) -> None:
    with unchanged(here):
        assert_failed(run("features", "project", *words, cwd=here, warm=True), code, pattern, json_out="--json" in words)


@pytest.fixture(scope="module")
def features(digits_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the features of the digits in two layers of a trained LeNet."""
    home = tmp_path_factory.mktemp("project")
    words = ["--layer", "s4", "--layer", "f6", "--pool", "flatten", "--baselines", "pixels", "-o", "f.npz"]
    done = run("features", "extract", digits_run.folder, "--data", "digits", *words, cwd=home, warm=True)
    assert done.code == 0, done.err
    return home / "f.npz"


@pytest.fixture
def few(features: Path, here: Path) -> FeatureSet:
    """The first 60 of them, as few.npz in `here`."""
    found = read_features(features)
    found = found.only(np.arange(60))
    write_features(here / "few.npz", content_of(found))
    return found


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def places(path: Path) -> np.ndarray:
    return np.array([[float(cell) for cell in row[3:]] for row in rows_of(path)[1:]])


@pytest.mark.slow
def test_pca_files(features: Path, here: Path) -> None:
    """The coordinates are scikit-learn's; all four files are there, and so is every image."""
    words = ["--layer", "f6", "--method", "pca", "--points", "100", "--seed", "3"]
    done = project(features, *words, "-o", "out", "--json", cwd=here)
    assert sorted(path.name for path in (here / "out").iterdir()) == FILES
    found = done.json
    assert set(found) == {"title", "method", "count", "of", "seed", "fit", "projections", "files"}
    assert (found["method"], found["count"], found["seed"], found["fit"]) == ("pca", 100, 3, None)
    assert [one["space"] for one in found["projections"]] == ["f6", "pixels"]
    assert all(set(one) == {"space", "kind", "perplexity", "explained", "kept", "seconds"} for one in found["projections"])
    assert sorted(Path(path).name for path in found["files"]) == FILES
    everything = read_features(features)
    rows = {path: row for row, path in enumerate(everything.paths)}
    head, *lines = rows_of(here / "out" / "coordinates.csv")
    assert head == ["path", "class", "split", "x", "y"]
    chosen = [rows[line[0]] for line in lines]
    assert len(set(chosen)) == 100
    assert [line[1] for line in lines] == [everything.classes[everything.labels[row]] for row in chosen]
    matrix = everything.matrix("f6")[chosen].astype(np.float64)
    theirs = PCA(2, svd_solver="full").fit(matrix)
    assert np.allclose(np.abs(places(here / "out" / "coordinates.csv")), np.abs(theirs.transform(matrix)), atol=1e-3)
    assert found["projections"][0]["explained"] == pytest.approx(theirs.explained_variance_ratio_.tolist(), abs=1e-4)
    for name in FILES[2:]:
        with Image.open(here / "out" / name) as image:
            assert min(image.size) > 300
    refused(here, 2, r"out/projection\.png exists; use --overwrite", features, *words, "-o", "out")
    again = project(features, *words, "-o", "out", "--overwrite", cwd=here)
    assert "100 images" in again.out
    assert f"{found['projections'][0]['kept']:.1%}" in again.out


def test_names_that_a_spreadsheet_would_run(few: FeatureSet, here: Path) -> None:
    paths = [f'=HYPERLINK("http://x/{number}")' for number in range(len(few))]
    write_features(here / "h.npz", content_of(replace(few, paths=tuple(paths), classes=tuple(f"@{name}" for name in few.classes))))
    project("h.npz", "--layer", "f6", "--method", "pca", "--baselines", "none", "-o", "out", cwd=here)
    for line in rows_of(here / "out" / "coordinates.csv")[1:]:
        assert line[0].startswith("'=")
        assert line[1].startswith("'@")


def test_other_images_in_the_same_plane(few: FeatureSet, here: Path) -> None:
    """Where the direct product puts them; the features of another layer are refused."""
    words = ["--method", "pca", "--baselines", "none"]
    project("few.npz", "--layer", "f6", *words, "--save-fit", "fit.safetensors", "-o", "a", cwd=here)
    write_features(here / "new.npz", content_of(few.only(np.arange(10, 30))))
    found = project("new.npz", "--layer", "f6", "--fit", "fit.safetensors", "-o", "b", "--json", cwd=here).json
    assert (found["fit"], found["method"], found["count"]) == ("fit.safetensors", "pca", 20)
    assert np.allclose(places(here / "b" / "coordinates.csv"), places(here / "a" / "coordinates.csv")[10:30], atol=1e-6)
    refused(here, 3, r"fitted to f6 of .*, and these features are s4", "new.npz", "--layer", "s4", "--fit", "fit.safetensors", "-o", "c")
    refused(here, 2, "exclude each other", "new.npz", "--fit", "fit.safetensors", "--save-fit", "x.safetensors")


def test_what_is_refused(few: FeatureSet, here: Path) -> None:
    words = ["few.npz", "--layer", "f6", "--baselines", "none"]
    told = "--perplexity 20 needs 61 images, and there are 60; the largest here is --perplexity 19"
    refused(here, 2, told, *words, "--perplexity", "20", "--json")
    refused(here, 2, "--method 'tnse' is not one of pca, tsne, umap; did you mean tsne", *words, "--method", "tnse", "--json")
    refused(here, 2, "pictures go to a folder", *words)
    refused(here, 2, "a UMAP fit is a Python object", *words, "--method", "umap", "--save-fit", "x.safetensors")
    refused(here, 2, "--out few.npz is a file", *words, "-o", "few.npz")
    shutil.copy(here / "few.npz", here / "fit.safetensors")
    refused(here, 3, r"fit\.safetensors", *words, "--fit", "fit.safetensors", "--json")
    refused(here, 2, "exists", *words, "--method", "pca", "--save-fit", "fit.safetensors")
    arrays = {name: np.array(array) for name, array in few.arrays.items()}
    arrays["f6"][7, 0] = np.nan
    write_features(here / "nan.npz", content_of(replace(few, arrays=arrays)))
    refused(here, 3, "not finite", "nan.npz", *words[1:], "-o", "out")


@pytest.mark.slow
def test_tsne_twice(few: FeatureSet, here: Path) -> None:
    """The same seed, the same bytes, from processes of their own; and more threads change nothing."""
    words = ["few.npz", "--layer", "f6", "--baselines", "none"]
    for name, threads in (("a", "1"), ("b", "2")):
        project(*words, "-o", name, cwd=here, OMP_NUM_THREADS=threads)
    first, second = ((here / name / "coordinates.csv").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.slow
def test_umap(few: FeatureSet, here: Path) -> None:
    if find_spec("umap") is None:
        pytest.skip("umap-learn is not installed")
    words = ["few.npz", "--layer", "f6", "--baselines", "none", "--method", "umap", "--json", "--umap-neighbors"]
    found = project(*words, "8", cwd=here).json
    assert found["method"] == "umap"
    assert found["projections"][0]["kept"] > 0.3
    refused(here, 2, "60 images allow 2 to 59", *words, "60")
