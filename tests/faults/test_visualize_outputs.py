"""Faults of `cnn visualize`: models that give no score a class, scores that a method can do nothing with, what an earlier call left."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from harness import assert_failed, make_folder, run, unchanged

NETS = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self, outputs=4, num_classes=None):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)

    def maps(self, images):
        return F.relu(self.conv(images))

    def forward(self, images):
        return self.fc(self.maps(images).mean((2, 3)))


class Pair(Net):
    def forward(self, images):
        return super().forward(images), images


class Named(Net):
    def forward(self, images):
        return {"scores": super().forward(images)}


class Single(Net):
    def forward(self, images):
        return super().forward(images)[:, 0]


class One(Net):
    def __init__(self):
        super().__init__(1)


class Broken(Net):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.fc.weight, float("nan"))


class Slopes(Net):
    def __init__(self):
        super().__init__()
        self.slopes = nn.PReLU()

    def maps(self, images):
        return self.slopes(self.conv(images))


class Minus(Net):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.fc.bias, -50.0)


class Below(Net):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.conv.bias, -50.0)

    def maps(self, images):
        return self.conv(images)
"""
METHODS = ("saliency", "gradcam", "integrated", "occlusion", "sanity")


@pytest.fixture
def nets(here: Path) -> str:
    make_folder(here / "images", {"all": 9})
    (here / "nets.py").write_text(NETS)
    return "nets.py:"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("net", "words", "code", "pattern"),
    [
        ("Pair", (), 2, "nets.py:Pair gives a tuple and no tensor of scores; let its forward return the scores alone"),
        ("Named", (), 2, "nets.py:Named gives a dictionary and no tensor of scores"),
        ("Single", (), 2, "nets.py:Single gives one number for an image and no score a class"),
        ("Net", ("--classes", "7"), 2, "gives 4 scores, and 7 classes are named; --classes 4"),
        ("Net", ("--class", "900"), 2, "--class '900' is none of the model's classes; there are 4: 0, 1, 2, ...; by number 0 to 3"),
        ("Broken", (), 3, "what the model computes of these images is not finite"),
    ],
)
def test_what_is_no_score(method: str, net: str, words: tuple[str, ...], code: int, pattern: str, nets: str, here: Path) -> None:
    """One line, and nothing written."""
    with unchanged(here):
        assert_failed(run("visualize", method, nets + net, "images", "--limit", "2", *words, cwd=here, warm=True), code, pattern)


@pytest.mark.parametrize("method", ["occlusion", "sanity"])
def test_one_score_alone_has_no_probability(method: str, nets: str, here: Path) -> None:
    with unchanged(here):
        done = run("visualize", method, f"{nets}One", "images", cwd=here, warm=True)
        assert_failed(done, 2, "looks at a class's probability among others, and the model has one class")


def test_an_activation_that_is_no_relu(nets: str, here: Path) -> None:
    """Refused for its slope, and one plain gradient on request; a net of ReLUs keeps its rules whatever is allowed."""
    with unchanged(here):
        for method in ("guided", "deconvnet", "compare", "top9"):
            assert_failed(
                run("visualize", method, f"{nets}Slopes", "images", cwd=here, warm=True), 2, "for ReLU alone, and .* runs 1 prelu"
            )
    done = run("visualize", "compare", f"{nets}Slopes", "images", "--plain-gradient", "--json", "--raw", "raw.npz", cwd=here, warm=True)
    assert done.json["columns"] == ["saliency: |gradient|, largest of channels", "plain gradient (no rule)"]
    with np.load(here / "raw.npz") as file:
        assert {"saliency", "gradient", "values", "channels", "paths", "images"} == set(file.files)
    done = run("visualize", "compare", f"{nets}Net", "images", "--plain-gradient", "--json", "-o", "kept", cwd=here, warm=True)
    assert done.json["columns"][1:] == ["deconvnet", "guided backpropagation"]
    done = run("visualize", "top9", f"{nets}Slopes", "images", "--layer", "conv", "--plain-gradient", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert done.json["by"] == "gradient"


def test_a_score_below_zero_and_maps_below_zero(nets: str, here: Path) -> None:
    """The deconvnet sends nothing back and says so; maps of a layer without ReLU are strongest where they are nearest to 0."""
    done = run("visualize", "deconvnet", f"{nets}Minus", "images", "--limit", "1", "--raw", "raw.npz", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert re.search(r"note: images/\S+: \d: score -[0-9.]+: the deconvnet has nothing above 0 to send back", done.err)
    with np.load(here / "raw.npz") as file:
        assert not file["deconvnet"].any()
    done = run("visualize", "patches", f"{nets}Below", "images", "--layer", "conv", "-k", "2", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert done.json["layers"][0]["never_active"] == []
    assert (here / "patches" / "patches-conv.png").is_file()


def test_pages_of_an_earlier_call(nets: str, here: Path) -> None:
    """With --overwrite they do not stay beside the new ones; other files do."""
    make_folder(here / "more", {"all": 13})
    assert run("visualize", "saliency", f"{nets}Net", "more", "-o", "out", cwd=here, warm=True).code == 0
    assert sorted(path.name for path in (here / "out").iterdir()) == ["saliency-1.png", "saliency-2.png"]
    (here / "out" / "saliency-mine.png").touch()
    assert run("visualize", "saliency", f"{nets}Net", "images", "-o", "out", "--overwrite", cwd=here, warm=True).code == 0
    assert sorted(path.name for path in (here / "out").iterdir()) == ["saliency-mine.png", "saliency.png"]


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("--noise", "0.4"), "--noise is of SmoothGrad; say how many noisy copies"),
        (("--samples", "3", "--noise", "nan"), "--noise nan is no number"),
        (("--split", "test"), "--split is of a data set; name it: --data NAME"),
        (("--layer", "conv", "--channel", "99999999999999999999"), "channel"),
        (("--layer", "conv", "--position", "99999999999999999999,0"), "should be ROW,COLUMN"),
    ],
)
def test_flags_that_would_say_nothing(words: tuple[str, ...], pattern: str, nets: str, here: Path) -> None:
    with unchanged(here):
        assert_failed(run("visualize", "saliency", f"{nets}Net", "images", *words, cwd=here, warm=True), 2, pattern)
