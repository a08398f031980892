"""`cnn visualize` as a user types it: the pictures, the numbers behind them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import Done, Trained, assert_failed, make_folder, run, unchanged
from PIL import Image

from cnncli.models.modelfile import load
from cnncli.models.resolve import model_file
from cnncli.visualize.methods import METHODS


def visualize(*words: str | Path, cwd: Path, code: int = 0, **options: Any) -> Done:
    done = run("visualize", *words, cwd=cwd, warm=True, **options)
    assert done.code == code, f"{done.out}{done.err}"
    return done


def test_the_methods_are_listed(here: Path) -> None:
    listed = run("visualize", "--list", cwd=here)
    assert (listed.code, listed.err) == (0, "")
    for method in METHODS:
        assert method.name in listed.out
    assert "Zeiler and Fergus" in " ".join(listed.out.split())
    assert max(map(len, run("visualize", "--list", cwd=here, COLUMNS="80").out.splitlines())) <= 80


def test_filters(here: Path, digits_run: Trained) -> None:
    done = visualize("filters", digits_run.folder, "-o", "f", "--json", "--raw", "f.npz", cwd=here)
    assert done.json["shape"] == [6, 1, 5, 5]
    assert done.json["random"] is None
    assert len(list((here / "f" / "filters").glob("filter-?.png"))) == 6
    with Image.open(here / "f" / "filters" / "filter-3.png") as image:
        assert image.size == (130, 130)
    with np.load(here / "f.npz") as file:
        model, _ = load(model_file(digits_run.folder))
        assert np.array_equal(file["filters"], model.get_submodule("c1").weight.detach().numpy())
    with unchanged(here):
        assert_failed(
            run("visualize", "filters", digits_run.folder, "-o", "f", cwd=here, warm=True), 2, r"f/filters\.png exists; use --overwrite"
        )


def test_filters_of_an_earlier_call_are_replaced(here: Path, digits_run: Trained) -> None:
    """With --overwrite the folder holds the filters of the layer that was drawn last, and what else was there."""
    visualize("filters", digits_run.folder, "--layer", "c3", "-o", "f", cwd=here)
    (here / "f" / "filters" / "filter-notes.txt").touch()
    visualize("filters", digits_run.folder, "-o", "f", "--overwrite", cwd=here)
    assert sorted(path.name for path in (here / "f" / "filters").iterdir()) == [*(f"filter-{n}.png" for n in range(6)), "filter-notes.txt"]


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--layer", "c1:input"], "--layer c1:input: the weights are the layer's"),
        (["--layer", "c1#9"], "c1 runs 1 time, and there is no run '9'; say c1"),
        (["--show", "channels"], "say which filter: --number 0 to 5"),
    ],
)
def test_filters_that_there_are_not(words: list[str], pattern: str, here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        assert_failed(run("visualize", "filters", digits_run.folder, *words, cwd=here, warm=True), 2, pattern)


def test_random_weights_are_said(here: Path) -> None:
    done = visualize("filters", "lenet5", "--json", cwd=here)
    assert "random weights" in done.json["title"]
    assert done.json["random"] == 0
    assert "note: lenet5 has random weights" in done.err
    assert (here / "filters" / "filters.png").is_file(), "the method's name is the default folder"


@pytest.mark.parametrize("method", ["saliency", "guided", "deconvnet", "compare"])
def test_signals(method: str, here: Path, relu_run: Path) -> None:
    """The numbers behind the picture, against gradients by hand; a page is twelve images."""
    make_folder(here / "images", {"all": 13})
    done = visualize(method, relu_run, "images", "-o", "out", "--raw", "raw.npz", "--json", cwd=here)
    assert sorted(path.name for path in (here / "out").iterdir()) == [f"{method}-1.png", f"{method}-2.png"]
    assert len(done.json["images"]) == 13
    assert set(done.json["images"][0]) == {"path", "class", "channel", "value"}
    with np.load(here / "raw.npz") as file:
        arrays = {name: file[name] for name in file.files}
    model, info = load(model_file(relu_run))
    images = info.preprocess.normalise(torch.from_numpy(arrays["images"])).requires_grad_()
    scores = model(images)
    assert np.allclose(scores.max(1).values.detach().numpy(), arrays["values"], atol=1e-5)
    assert scores.argmax(1).tolist() == [one["channel"] for one in done.json["images"]]
    if method == "saliency":
        (gradient,) = torch.autograd.grad(scores.max(1).values.sum(), images)
        assert np.allclose(arrays["saliency"], gradient.numpy(), atol=1e-5)
    assert len(done.json["columns"]) == (3 if method == "compare" else 1)


def test_a_neuron_of_a_layer(here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 2})
    done = visualize("guided", relu_run, "images", "--layer", "conv2", "--channel", "3", "--json", cwd=here)
    first = done.json["images"][0]
    assert first["channel"] == 3
    assert len(first["position"]) == 2
    assert "channel 3 of conv2" in done.json["title"]
    again = visualize(
        "guided", relu_run, "images", "--layer", "conv2", "--channel", "3", "--position", "1,2", "--json", "-o", "b", cwd=here
    )
    assert again.json["images"][0]["position"] == [1, 2]


def test_smooth_gradient_and_input(here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 1})
    one = visualize("saliency", relu_run, "images", "--samples", "3", "--noise", "0.1", "--times-input", "--json", cwd=here).json
    assert one["columns"] == ["SmoothGrad: mean of 3 at noise 0.1, times input"]


def test_nets_without_a_rule(here: Path, digits_run: Trained) -> None:
    """LeNet's tanh: refused with what is there and what to do; drawn under its own name on request."""
    make_folder(here / "images", {"all": 1})
    with unchanged(here):
        done = run("visualize", "guided", digits_run.folder, "images", cwd=here, warm=True)
        assert_failed(done, 2, "guided backpropagation has a rule for ReLU alone, and .* runs 4 tanh; --plain-gradient draws")
    plain = visualize("guided", digits_run.folder, "images", "--plain-gradient", "--json", cwd=here).json
    assert plain["columns"] == ["plain gradient (no rule)"]


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (["--layer", "conv9"], 2, "no layer 'conv9'; did you mean"),
        (["--layer", "conv2", "--channel", "8"], 2, "no channel 8: there are 8 channels in .*; 0 to 7"),
        (["--class", "cat"], 2, "--class 'cat' is none of the model's classes; there are 10: 0, 1, 2"),
        (["--channel", "1"], 2, "--channel is of a layer; name it"),
        (["--position", "1,1"], 2, "--position is in a layer's map"),
        (["--layer", "conv2", "--position", "x"], 2, "should be ROW,COLUMN"),
        (["--layer", "conv2", "--position", "99,0"], 2, "the map has"),
        (["--layer", "conv2", "--class", "1"], 2, "leave one of them out"),
        (["-o", "file"], 2, "--out file is a file; give a folder"),
        (["--raw", "x.txt"], 2, r"should end in \.npz"),
        (["--weights", "random"], 2, "has its own weights"),
    ],
)
def test_what_is_refused(words: list[str], code: int, pattern: str, here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 1})
    (here / "file").touch()
    with unchanged(here):
        assert_failed(run("visualize", "guided", relu_run, "images", *words, cwd=here, warm=True), code, pattern)
        assert_failed(run("visualize", "guided", relu_run, "images", *words, "--json", cwd=here, warm=True), code, pattern, json_out=True)


def test_images_that_cannot_be_read(here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 2})
    (here / "images" / "all" / "bad.png").write_bytes(b"no image")
    done = visualize("saliency", relu_run, "images", cwd=here, code=5)
    assert "left out: " in done.err
    assert "bad.png" in done.err
    only = run("visualize", "saliency", relu_run, "images/all/bad.png", "-o", "other", cwd=here, warm=True)
    assert_failed(only, 3, "no image could be read")
    assert_failed(run("visualize", "saliency", relu_run, "nope.png", "-o", "other", cwd=here, warm=True), 3, "nope")


# ---- where a class is seen ----


@pytest.mark.parametrize(("method", "raw"), [("gradcam", "maps"), ("integrated", "pixels"), ("occlusion", "probabilities")])
def test_methods_that_ask_about_a_class(method: str, raw: str, here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 2})
    done = visualize(method, relu_run, "images", "--class", "3", "--raw", "raw.npz", "--json", cwd=here)
    assert [one["class"] for one in done.json["images"]] == ["3", "3"]
    assert done.json["title"].endswith("the probability of 3" if method == "occlusion" else "the score of 3")
    assert (here / method / f"{method}.png").is_file()
    model, info = load(model_file(relu_run))
    with np.load(here / "raw.npz") as file:
        assert len(file[raw]) == 2
        with torch.no_grad():
            scores = model(info.preprocess.normalise(torch.from_numpy(file["images"])))
    wanted = scores.softmax(1)[:, 3] if method == "occlusion" else scores[:, 3]
    assert np.allclose([one["value"] for one in done.json["images"]], wanted.numpy(), atol=1e-5)
    if method == "occlusion":
        assert done.json["images"][0]["least"] <= done.json["images"][0]["value"] + 1
        assert done.json["images"][0]["size"] == 4
    with unchanged(here):
        assert_failed(run("visualize", method, relu_run, "images", cwd=here, warm=True), 2, rf"{method}/{method}\.png exists")


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["gradcam", "--layer", "fc3"], "needs a layer that gives a map, and fc3 does not"),
        (["gradcam", "--layer", "conv9"], "no layer 'conv9'"),
        (["occlusion", "--size", "17"], "--size 17: the image has 16 x 16 pixels; 1 to 16"),
        (["integrated", "--class", "cat"], "none of the model's classes"),
    ],
)
def test_what_these_refuse(words: list[str], pattern: str, here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 1})
    with unchanged(here):
        assert_failed(run("visualize", words[0], relu_run, "images", *words[1:], cwd=here, warm=True), 2, pattern)
