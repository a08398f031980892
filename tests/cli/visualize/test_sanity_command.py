"""`cnn visualize sanity` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from harness import Trained, assert_failed, make_folder, run, unchanged

from cnncli.models.looking import drawn
from cnncli.models.modelfile import load
from cnncli.models.resolve import model_file

ALL = ["saliency", "times-input", "smoothgrad", "guided", "deconvnet", "gradcam", "integrated"]


@pytest.mark.slow
def test_all_methods(here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 3})
    words = ("visualize", "sanity", relu_run, "images", "--class", "3", "--steps", "2")
    done = run(*words, "-o", "out", "--raw", "raw.npz", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert set(done.json) == {"title", "random", "methods", "random_order", "stages", "images", "files", "left_out"}
    assert list(done.json["methods"]) == ALL
    assert [done.json["stages"][0], len(done.json["stages"])] == ["trained", 3]
    assert sorted(path.name for path in (here / "out").iterdir()) == ["deletion-insertion.png", "sanity.png"]
    for name, found in done.json["methods"].items():
        assert found["correlation"][0] == found["signed"][0] == 1.0, name
        assert len(found["correlation"]) == len(found["signed"]) == 3
        assert 0 <= found["deletion"] <= 1
        assert 0 <= found["insertion"] <= 1
    with np.load(here / "raw.npz") as file:
        for name, found in done.json["methods"].items():
            assert np.allclose(file[f"{name}, correlation"].mean(1), found["correlation"])
            areas = np.trapezoid(file[f"{name}, deletion"], file["shares"], axis=1)
            assert areas.mean() == pytest.approx(found["deletion"], abs=1e-5)
            ends = [one["probability"] for one in done.json["images"]]
            assert np.allclose(file[f"{name}, deletion"][:, 0], ends, atol=1e-5), "begins with the image"
            assert np.allclose(file[f"{name}, insertion"][:, -1], ends, atol=1e-5), "ends with the image"
    assert {one["class"] for one in done.json["images"]} == {"3"}
    again = run(*words, "-o", "again", "--json", cwd=here, warm=True).json
    assert again["methods"] == done.json["methods"], "the seed governs all"
    other = run(*words, "-o", "other", "--seed", "5", "--json", cwd=here, warm=True).json
    assert other["methods"] != done.json["methods"]
    with unchanged(here):
        assert_failed(run(*words, "-o", "out", cwd=here, warm=True), 2, "exists; use --overwrite")


def test_the_last_stage_is_the_model_as_it_is_drawn(here: Path, relu_run: Path) -> None:
    from scipy.stats import spearmanr

    data = ("--data", "digits", "--limit", "1", "--json")
    done = run("visualize", "sanity", relu_run, *data, "--methods", "saliency", "--steps", "1", cwd=here, warm=True)
    assert done.code == 0, done.err
    saliency = run("visualize", "saliency", relu_run, *data, "--raw", "s.npz", cwd=here, warm=True)
    model, info = load(model_file(relu_run))
    with np.load(here / "s.npz") as file:
        images = info.preprocess.normalise(torch.from_numpy(file["images"])).requires_grad_()
    number = saliency.json["images"][0]["channel"]
    first, last = (torch.autograd.grad(one.eval()(images)[0, number], images)[0].flatten().numpy() for one in (model, drawn(info, 1)))
    found = done.json["methods"]["saliency"]
    assert found["correlation"][1] == pytest.approx(spearmanr(abs(first), abs(last)).statistic, abs=1e-3)
    assert found["signed"][1] == pytest.approx(spearmanr(first, last).statistic, abs=1e-3)


def test_a_table_and_methods_without_a_rule(here: Path, digits_run: Trained) -> None:
    """LeNet's tanh: what has no rule is left out, or refused where it was named."""
    words = ("visualize", "sanity", digits_run.folder, "--data", "digits", "--limit", "2", "--steps", "1")
    done = run(*words, cwd=here, warm=True, COLUMNS="80")
    assert done.code == 0, done.err
    assert "note: without guided: guided backpropagation has a rule for ReLU alone" in done.err
    assert "note: without deconvnet: " in done.err
    names = [line.split()[0] for line in done.out.splitlines()[2:] if line]
    assert names == ["saliency", "times-input", "smoothgrad", "gradcam", "integrated", "random"]
    assert max(map(len, done.out.splitlines())) <= 80
    with unchanged(here):
        named = run(*words, "--methods", "saliency,guided", "-o", "other", cwd=here, warm=True)
        assert_failed(named, 2, "guided backpropagation has a rule .* 4 tanh; leave guided out of --methods")


def test_a_random_model_is_compared_with_another_one(here: Path) -> None:
    words = ("visualize", "sanity", "lenet5", "--data", "digits", "--limit", "1", "--methods", "saliency", "--steps", "1", "--json")
    done = run(*words, cwd=here, warm=True)
    assert "random weights" in done.json["title"]
    assert done.json["methods"]["saliency"]["signed"][1] < 0.9


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--methods", "salency"], "'salency' is none of the methods; did you mean saliency"),
        (["--methods", ""], "'' is none of the methods; some of saliency,times-input"),
        (["--class", "cat"], "none of the model's classes"),
        (["-o", "file"], "--out file is a file"),
    ],
)
def test_what_is_refused(words: list[str], pattern: str, here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 1})
    (here / "file").touch()
    with unchanged(here):
        assert_failed(run("visualize", "sanity", relu_run, "images", *words, cwd=here, warm=True), 2, pattern)
