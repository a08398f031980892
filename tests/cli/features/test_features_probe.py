"""`cnn features probe` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Done, Trained, assert_failed, run, unchanged

from cnncli.features.files import read_features


def probe(*words: str | Path, cwd: Path, code: int = 0, **options: Any) -> Done:
    done = run("features", "probe", *words, cwd=cwd, warm=True, **options)
    assert done.code == code, f"{done.out}{done.err}"
    return done


@pytest.fixture(scope="module")
def features(digits_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the features of the digits in three layers of a trained LeNet, and its baselines."""
    home = tmp_path_factory.mktemp("probe")
    words = ["--layer", "s2", "--layer", "s4", "--layer", "f6", "--pool", "flatten", "--baselines", "pixels,random", "-o", "f.npz"]
    done = run("features", "extract", digits_run.folder, "--data", "digits", *words, cwd=home, warm=True)
    assert done.code == 0, done.err
    return home


@pytest.mark.slow
def test_accuracies_are_those_of_scikit_learn(features: Path) -> None:
    """Within the interval, for a linear classifier of about the same penalty and for nearest neighbours."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    found = probe("f.npz", "--json", "--baselines", "pixels,random", cwd=features).json
    data = read_features(features / "f.npz")
    train, test = data.rows_of("train"), data.rows_of("test")
    assert (found["train"], found["test"], found["judged_on"]) == (len(train), len(test), "test")
    names = [space["name"] for space in found["spaces"]]
    assert names[:3] == ["s2", "s4", "f6"]
    assert set(names[3:]) == {"s2@random", "s4@random", "f6@random", "pixels"}
    for space in found["spaces"]:
        matrix, labels = data.matrix(space["name"]), data.labels
        scale = np.sqrt(((matrix[train] - matrix[train].mean(0)) ** 2).sum(1).mean())
        inner = (matrix - matrix[train].mean(0)) / scale
        penalty = float(space["linear"]["setting"].split()[1])
        theirs = LogisticRegression(C=1 / (penalty * len(train)), max_iter=2000).fit(inner[train], labels[train])
        accuracy = theirs.score(inner[test], labels[test])
        assert space["linear"]["interval"][0] <= accuracy <= space["linear"]["interval"][1], space["name"]
        _, k, metric = space["knn"]["setting"].replace(",", "").split()
        near = KNeighborsClassifier(int(k), metric="cosine" if metric == "cosine" else "minkowski").fit(matrix[train], labels[train])
        assert space["knn"]["interval"][0] <= near.score(matrix[test], labels[test]) <= space["knn"]["interval"][1], space["name"]
    linear = {space["name"]: space["linear"]["accuracy"] for space in found["spaces"]}
    assert linear["s2"] > 0.9
    assert linear["f6"] > linear["f6@random"]


@pytest.mark.slow
def test_files_and_table(features: Path) -> None:
    done = probe("f.npz", "--layer", "f6", "--baselines", "none", "-o", "out", cwd=features)
    assert "probing f6" in done.err
    assert "wrote out/probe.png" in done.err
    assert sorted(path.name for path in (features / "out").iterdir()) == ["probe.json", "probe.png"]
    result = json.loads((features / "out" / "probe.json").read_text())
    assert [space["name"] for space in result["spaces"]] == ["f6"]
    assert f"{100 * result['spaces'][0]['linear']['accuracy']:.1f}%" in done.out
    with unchanged(features):
        assert_failed(run("features", "probe", "f.npz", "-o", "out", cwd=features, warm=True), 2, r"out/probe\.png exists; use --overwrite")
    (features / "file").touch()
    assert_failed(run("features", "probe", "f.npz", "-o", "file", cwd=features, warm=True), 2, "--out file is a file")


@pytest.mark.slow
def test_a_model_at_once(here: Path, folder_run: tuple[Trained, Path]) -> None:
    """Without a feature file, with the baselines computed beside; no test split: the validation images judge, which is said."""
    trained, data = folder_run
    found = probe(trained.folder, "--data", data, "--json", cwd=here).json
    kinds = [space["kind"] for space in found["spaces"]]
    assert kinds == ["layer", "pixels", "hog", "random"]
    assert found["classes"] == 3
    assert found["notes"] or found["judged_on"] == "test"


def test_what_is_refused(here: Path, digits_run: Trained, folder_run: tuple[Trained, Path], features: Path) -> None:
    shutil.copy(features / "f.npz", here / "f.npz")
    (here / "flat").mkdir()
    for number, image in enumerate(sorted(folder_run[1].rglob("*.png"))[:4]):
        shutil.copy(image, here / "flat" / f"{number}.png")
    done = run("features", "extract", digits_run.folder, "--data", "flat", "--unlabelled", "-o", "u.npz", cwd=here, warm=True)
    assert done.code == 0, done.err
    words = ["--baselines", "none"]
    assert_failed(run("features", "probe", "u.npz", *words, cwd=here, warm=True), 3, "the features have no labels")
    assert_failed(run("features", "probe", "f.npz", "--layer", "f7", *words, cwd=here, warm=True), 2, "no layer 'f7'; did you mean f6")
    assert_failed(run("features", "probe", "f.npz", "--baselines", "colour", cwd=here, warm=True), 2, "--baselines 'colour' is unknown")
    assert_failed(run("features", "probe", "nope.npz", *words, cwd=here, warm=True), 3, r"no such feature file: nope\.npz")
    assert_failed(
        run("features", "probe", "f.npz", "--split", "lost", *words, cwd=here, warm=True),
        2,
        "has no images of split 'lost'; it has test, train, val",
    )


def test_numbers_that_are_not_finite(here: Path, features: Path) -> None:
    from cnncli.features.beside import content_of
    from cnncli.features.files import write_features

    found = read_features(features / "f.npz")
    arrays = {name: np.array(array) for name, array in found.arrays.items()}
    arrays["f6"][int(found.rows_of("train")[3]), 0] = np.nan
    from dataclasses import replace

    write_features(here / "n.npz", content_of(replace(found, arrays=arrays)))
    done = run("features", "probe", "n.npz", "--layer", "f6", "--baselines", "none", "--json", cwd=here, warm=True)
    assert_failed(done, 3, "the f6 features of 1 images are not finite", json_out=True)
