"""`cnn visualize patches` and `top9` as a user types them: pages, places and values, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import assert_failed, make_folder, run, unchanged
from PIL import Image

from cnncli.models.modelfile import load
from cnncli.models.resolve import model_file


@pytest.mark.parametrize("method", ["patches", "top9"])
def test_every_channel_of_two_layers(method: str, here: Path, relu_run: Path) -> None:
    """The values in the JSON are those of the model on the images that it names; the boxes lie where the units look."""
    make_folder(here / "images", {"all": 12})
    words = ("visualize", method, relu_run, "images", "--layer", "conv1", "--layer", "conv2")
    done = run(*words, "--channels", "0,2-4", "-o", "out", "--raw", "raw.npz", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert sorted(path.name for path in (here / "out").iterdir()) == [f"{method}-conv1.png", f"{method}-conv2.png", f"{method}.json"]
    whole = json.loads((here / "out" / f"{method}.json").read_text())
    assert [(layer["layer"], layer["receptive_field"], len(layer["channels"])) for layer in whole["layers"]] == [
        ("conv1", [3, 3], 6),
        ("conv2", [8, 8], 8),
    ]
    assert [one["channel"] for one in done.json["layers"][0]["channels"]] == [0, 2, 3, 4]
    assert whole["layers"][0]["channels"][2] == done.json["layers"][0]["channels"][1]
    model, info = load(model_file(relu_run))
    form = info.preprocess
    for channel in whole["layers"][0]["channels"]:
        assert len({one["path"] for one in channel["patches"]}) == 9, "one of each image"
        values = [one["value"] for one in channel["patches"]]
        assert values == sorted(values, reverse=True)
        first = channel["patches"][0]
        with Image.open(here / first["path"]) as image:
            pixels = form.pixels(image.convert("L" if form.channels == 1 else "RGB"))
        with torch.no_grad():
            maps = model.get_submodule("conv1")(form.normalise(torch.from_numpy(pixels)[None])).relu()
        row, column = first["position"]
        assert float(maps[0, channel["channel"], row, column]) == pytest.approx(first["value"], abs=1e-5)
        assert first["value"] == pytest.approx(float(maps[0, channel["channel"]].max()), abs=1e-5)
        assert first["box"] == [row - 1, column - 1, 3, 3], "a 3x3 convolution with padding 1"
    with np.load(here / "raw.npz") as file:
        assert file["conv2.positions"].shape == (8, 9, 2)
        assert len(file["paths"]) == 12
    with unchanged(here):
        assert_failed(run(*words, "-o", "out", cwd=here, warm=True), 2, rf"out/{method}\.json exists; use --overwrite")


def test_a_data_set_and_all_layers(here: Path, relu_run: Path) -> None:
    words = ("visualize", "patches", relu_run, "--data", "digits", "--split", "test", "--limit", "40", "--layer", "all", "-k", "4")
    done = run(*words, "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert (done.json["images"], done.json["k"]) == (40, 4)
    assert [layer["layer"] for layer in done.json["layers"]] == ["conv1", "pool1", "conv2", "pool2"]
    assert len(list((here / "patches").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["patches", "--layer", "fc3"], "fc3 gives 10 numbers an image and no map; for example --layer "),
        (["patches", "--layer", "conv9"], "no layer 'conv9'"),
        (["patches", "--channels", "0,8", "--layer", "conv2"], r"--channels 8: there are 8 channels; 0-7"),
        (["patches", "--channels", "x"], "should be numbers and ranges; for example --channels 0-15,40"),
        (["patches", "-k", "6"], "the 6 strongest images of a channel need 6 images, and there are 5; give more images"),
        (["top9"], "the 9 strongest images of a channel need 9 images, and there are 5"),
        (["top9", "--by", "gided"], "--by 'gided' is not one of deconvnet, guided; did you mean guided"),
        (["patches", "-o", "file"], "--out file is a file; give a folder"),
        (["patches", "--data", "digits"], "images are given by name and by --data"),
    ],
)
def test_what_is_refused(words: list[str], pattern: str, here: Path, relu_run: Path) -> None:
    make_folder(here / "images", {"all": 5})
    (here / "file").touch()
    with unchanged(here):
        assert_failed(run("visualize", words[0], relu_run, "images", *words[1:], cwd=here, warm=True), 2, pattern)


def test_no_images(here: Path, relu_run: Path) -> None:
    assert_failed(run("visualize", "patches", relu_run, cwd=here, warm=True), 2, "patches looks at images; give image files or a folder")
    listed = run("visualize", "patches", relu_run, "--list-layers", cwd=here, warm=True)
    assert listed.code == 0
    assert "conv2" in listed.out
