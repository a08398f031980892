"""`cnn visualize activations` as a user types it, and `cnn train --keep-every`, which its animation needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import Done, Trained, assert_failed, make_folder, run, tree, unchanged
from PIL import Image

from cnncli.models.modelfile import load

NET = ("conv3-6 relu maxpool conv3-8 relu maxpool FC-10", "--input", "1x16x16", "--limit-per-class", "32", "--batch-size", "64")


def train(here: Path, *words: str) -> Done:
    done = run("train", *words, cwd=here, warm=True)
    assert done.code == 0, done.err
    return done


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "epochs").iterdir())


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs, of which every second one is kept."""
    home = tmp_path_factory.mktemp("kept")
    train(home, *NET, "--epochs", "4", "--keep-every", "2", "-o", "run")
    return home / "run"


def visualize(*words: str | Path, cwd: Path, code: int = 0) -> Done:
    done = run("visualize", "activations", *words, cwd=cwd, warm=True)
    assert done.code == code, f"{done.out}{done.err}"
    return done


def test_maps_of_images(here: Path, kept_run: Path) -> None:
    make_folder(here / "images", {"all": 2})
    done = visualize(kept_run, "images", "--layer", "conv2", "--raw", "raw.npz", "--json", cwd=here)
    assert sorted(path.name for path in (here / "activations").iterdir()) == ["activations-1.png", "activations-2.png"]
    assert (done.json["layer"], done.json["shape"], done.json["random"]) == ("conv2", [8, 8, 8], None)
    assert "all 8 maps of 8x8" in done.json["title"]
    model, info = load(kept_run / "best.safetensors")
    with np.load(here / "raw.npz") as file:
        images, maps = torch.from_numpy(file["images"]), file["maps"]
    seen = info.preprocess.normalise(images)
    with torch.no_grad():
        for name, module in model.named_children():
            seen = module(seen)
            if name == "conv2":
                break
    assert np.allclose(maps, seen.clamp(min=0).numpy(), atol=1e-5)
    for row, one in enumerate(done.json["images"]):
        largest = [channel["largest"] for channel in one["channels"]]
        assert largest == sorted(largest, reverse=True)
        assert largest == pytest.approx(sorted(maps[row].max((1, 2)).tolist(), reverse=True))
        first = one["channels"][0]
        assert first["active"] == pytest.approx((maps[row, first["channel"]] > 0).mean())
    assert done.json["dead"] == [channel for channel in range(8) if maps[:, channel].max() <= 0]
    with unchanged(here):
        assert_failed(run("visualize", "activations", kept_run, "images", cwd=here, warm=True), 2, r"activations-1\.png exists")


def test_some_channels(here: Path, digits_run: Trained) -> None:
    make_folder(here / "images", {"all": 1})
    words = ("--channels", "4,0-1", "--order", "number", "--scale", "map", "--activation", "before", "--json")
    done = visualize(digits_run.folder, "images", *words, cwd=here)
    assert [one["channel"] for one in done.json["images"][0]["channels"]] == [0, 1, 4]
    assert done.json["layer"] == "c1", "the first that gives a map"
    assert "before its activation: 3 of 6 maps" in done.json["title"]
    assert done.json["dead"] is None
    assert (here / "activations" / "activations.png").is_file()


def test_animation(here: Path, kept_run: Path) -> None:
    make_folder(here / "images", {"all": 1})
    done = visualize(kept_run, "images", "--animate", "--raw", "raw.npz", "--json", cwd=here)
    assert done.json["epochs"] == [0, 2, 4]
    with Image.open(here / "activations" / "activations.gif") as image:
        assert image.n_frames == 3
    with np.load(here / "raw.npz") as file:
        assert file["maps"].shape == (1, 3, 6, 16, 16)
        assert not np.allclose(file["maps"][0, 0], file["maps"][0, 1])


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["--animate"], "kept no models on the way; train with --keep-every 1"),
        (["--layer", "output"], "gives 10 numbers an image and no map; for example --layer"),
        (["--channels", "6"], "there are 6 channels; 0-5"),
        (["--order", "size"], "--order 'size' is not one of strength, number"),
        (["--scale", "x"], "--scale 'x'"),
        (["--activation", "x"], "--activation 'x'"),
    ],
)
def test_what_is_refused(words: list[str], pattern: str, here: Path, digits_run: Trained) -> None:
    make_folder(here / "images", {"all": 1})
    with unchanged(here):
        assert_failed(run("visualize", "activations", digits_run.folder, "images", *words, cwd=here, warm=True), 2, pattern)


def test_a_bare_net_has_no_epochs(here: Path) -> None:
    make_folder(here / "images", {"all": 1})
    assert_failed(run("visualize", "activations", "lenet5", "images", "--animate", cwd=here, warm=True), 2, "--animate is of a run")


# ---- what is kept ----


def test_kept_models(here: Path, kept_run: Path) -> None:
    assert kept(kept_run) == [f"epoch-{epoch:04d}.safetensors" for epoch in (0, 2, 4)]
    last, before = (load(kept_run / name)[0].state_dict() for name in ("last.safetensors", "epochs/epoch-0004.safetensors"))
    assert all(torch.equal(last[name], before[name]) for name in last)
    assert load(kept_run / "epochs" / "epoch-0002.safetensors")[1].metrics["epoch"] == 2
    for words in (("eval", kept_run / "epochs" / "epoch-0000.safetensors", "--data", "digits"), ("runs", kept_run.parent)):
        done = run(*words, cwd=here, warm=True)
        assert done.code == 0, done.err


@pytest.mark.slow
def test_a_resumed_run_has_the_same(here: Path, kept_run: Path) -> None:
    """Stopped after its second epoch by --epochs' own means: an earlier state, with a file from later left over."""
    words = (*NET, "--epochs", "4", "--keep-every", "2")
    stop = (
        "from cnncli.engine.runs import Run\nown = Run.record\n"
        "def record(self, event, training):\n"
        "    own(self, event, training)\n"
        "    if getattr(event, 'epoch', 0) == 3 and hasattr(event, 'train_loss'):\n        raise KeyboardInterrupt\n"
        "Run.record = record\n"
    )
    assert run("train", *words, "-o", "run", cwd=here, warm=True, first=stop).code == 130
    assert kept(here / "run") == ["epoch-0000.safetensors", "epoch-0002.safetensors"]
    (here / "run" / "epochs" / "epoch-0004.safetensors").write_text("of a process that died before it saved its state")
    train(here, "--resume", "run")
    assert kept(here / "run") == kept(kept_run)
    for name in kept(kept_run):
        ours, theirs = (load(folder / "epochs" / name)[0].state_dict() for folder in (here / "run", kept_run))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    before = tree(here / "run")
    assert_failed(run("train", "--resume", "run", "--keep-every", "1", cwd=here, warm=True), 2, r"--keep-every 1 \(was 2\)")
    assert tree(here / "run") == before
    train(here, *NET, "--epochs", "1", "--overwrite", "-o", "run")
    assert not (here / "run" / "epochs").exists()
    assert json.loads((here / "run" / "result.json").read_text())["finished"]
