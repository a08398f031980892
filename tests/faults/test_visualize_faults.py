"""Faults of `cnn visualize`: nothing to draw with, layers of odd sizes, activations in place, names that lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Trained, assert_failed, make_folder, run, unchanged

NETS = """
from torch import nn


class Frozen(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.requires_grad_(False)

    def forward(self, images):
        return self.fc(self.relu(self.conv(images)).mean((2, 3)))


class Wide(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.first, self.pool, self.second = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2048, 1)
        self.relu, self.fc = nn.ReLU(), nn.Linear(2048, 3)

    def forward(self, images):
        return self.fc(self.relu(self.second(self.pool(self.first(images)))).flatten(1))


class Flat(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(768, 3)

    def forward(self, images):
        return self.fc(images.flatten(1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["filters", "activations", "patches", "deconvnet"])
def test_V1_many_channels_and_no_display(method: str, here: Path) -> None:
    """2,048 channels, of maps of one position: drawn without a screen, whatever the user's settings of matplotlib say."""
    make_folder(here / "images", {"all": 9})
    images = [] if method == "filters" else ["images"]
    (here / "nets.py").write_text(NETS)
    words = ("visualize", method, "nets.py:Wide", *images, "--layer", "second")
    done = run(*words, "--json", cwd=here, warm=True, DISPLAY="", MPLBACKEND="TkAgg")
    assert done.code == 0, done.err
    assert list((here / method).rglob("*.png"))


def test_V1_a_package_that_is_missing(here: Path) -> None:
    """Said before anything is computed."""
    make_folder(here / "images", {"all": 1})
    (here / "shadow").mkdir()
    (here / "shadow" / "matplotlib.py").write_text("raise ModuleNotFoundError(\"No module named 'matplotlib'\", name='matplotlib')")
    with unchanged(here):
        done = run("visualize", "saliency", "lenet5", "images", cwd=here, PYTHONPATH=str(here / "shadow"))
    assert_failed(done, 4, "the package matplotlib cannot be imported .*pip install matplotlib")


@pytest.mark.slow
def test_V2_activations_in_place_and_frozen_weights(here: Path) -> None:
    """Looked into as any other; the model itself stays as it is."""
    make_folder(here / "images", {"all": 9})
    (here / "nets.py").write_text(NETS)
    for method in ("guided", "deconvnet", "gradcam", "top9"):
        done = run("visualize", method, "nets.py:Frozen", "images", "--layer", "conv", "--json", cwd=here, warm=True)
        assert done.code == 0, (method, done.err)
    made = run("visualize", "saliency", "nets.py:Flat", "images", "--json", cwd=here, warm=True)
    assert made.code == 0, made.err
    with unchanged(here):
        assert_failed(run("visualize", "filters", "nets.py:Flat", cwd=here, warm=True), 2, "the model has no convolution")
        assert_failed(run("visualize", "patches", "nets.py:Flat", "images", cwd=here, warm=True), 2, "no layer that gives a map")
        assert_failed(run("visualize", "gradcam", "nets.py:Flat", "images", "-o", "g", cwd=here, warm=True), 2, "no layer gives a map")


def test_V3_names_that_lead_elsewhere(here: Path) -> None:
    """Files are named by the method, so that no image's name matters."""
    make_folder(here / "a", {"x": 1})
    make_folder(here / "b", {"x": 1})
    image = next((here / "a" / "x").iterdir()).name
    before = set(here.rglob("*"))
    words = (f"a/../b/x/{image}", f"a/x/{image}", str(here / "a" / "x" / image))
    done = run("visualize", "saliency", "lenet5", *words, "-o", "out", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert set(here.rglob("*")) - before == {here / "out", here / "out" / "saliency.png"}
    assert [one["path"] for one in done.json["images"]] == list(words)


@pytest.mark.parametrize("method", ["saliency", "activations"])
def test_more_images_than_are_kept_in_memory(method: str, here: Path, digits_run: Trained) -> None:
    """None is left out without a word."""
    make_folder(here / "photos", {".": 4})
    few = "import cnncli.cli.visualize.asking as asking; asking.MOST_IMAGES = 3"
    with unchanged(here):
        done = run("visualize", method, digits_run.folder, "photos", "-o", "out", cwd=here, warm=True, first=few)
    assert_failed(done, 2, "more than 3 images; --limit 3, or give fewer at a time")
    assert run("visualize", method, digits_run.folder, "photos", "--limit", "3", "-o", "out", cwd=here, warm=True, first=few).code == 0
