"""`cnn train`: what a run folder holds, and that its settings, and nothing else, decide its weights."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from harness import Trained, assert_failed, make_folder, run
from PIL import Image

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import TrainConfig
from cnncli.settings import flag_name

pytestmark = pytest.mark.slow

KEYS = ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second", "best"]


def tensors(path: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return load_file(path)


def equal(one: Path, other: Path) -> bool:
    import torch

    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_run_folder(digits_run: Trained) -> None:
    assert {path.name for path in digits_run.folder.iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "config.toml",
        "curves.png",
    }
    assert [list(row) for row in rows(digits_run.folder)] == [KEYS, KEYS]
    assert [row["epoch"] for row in rows(digits_run.folder)] == [1, 2]
    with Image.open(digits_run.folder / "curves.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300


def test_what_it_says(digits_run: Trained) -> None:
    """One line of result on standard output; everything else is talk."""
    best = max(row["val_accuracy"] for row in rows(digits_run.folder))
    assert digits_run.done.out.startswith("run/best.safetensors: ")
    assert f"{best:.2%}" in digits_run.done.out
    assert digits_run.done.out.count("\n") == 1
    assert "61,706 parameters, input 1x32x32, 10 classes" in digits_run.done.err
    assert "1,259 training images, 179 validation images" in digits_run.done.err
    assert best > 0.5, "two epochs are enough to be far above one in ten"


def test_config_holds_every_setting_in_force(digits_run: Trained) -> None:
    config = tomllib.loads((digits_run.folder / "config.toml").read_text())
    assert config["net"] == "lenet5"
    assert set(config["train"]) == {f.name for f in fields(TrainConfig)}
    assert (config["train"]["epochs"], config["train"]["lr"], config["train"]["weight_decay"]) == (2, 0.05, 5e-4)
    assert set(config["augment"]) == {f.name for f in fields(AugmentConfig)}
    assert config["augment"] == {f.name: f.default for f in fields(AugmentConfig)} | {"flip": False, "shift": 4, "crop_scale": 1.0}
    told = set(config["data"])
    assert told <= {"source"} | {f.name for f in fields(DataConfig)}
    assert told >= {"source"} | {f.name for f in fields(DataConfig) if f.default is not None}
    assert config["data"]["source"] == "digits"


def flags_of(folder: Path) -> list[str]:
    """The command line that a config.toml describes."""
    config = tomllib.loads((folder / "config.toml").read_text())
    words = [config["net"], "--data", config["data"].pop("source")]
    if "input" in config:
        words += ["--input", config["input"]]
    for section in ("train", "data", "augment"):
        for name, value in config[section].items():
            if isinstance(value, bool):
                words += [flag_name(name)] if value else []
            else:
                words += [flag_name(name), str(value)]
    return words


def test_config_reproduces_the_run(here: Path, digits_run: Trained) -> None:
    done = run("train", *flags_of(digits_run.folder), "-o", "again", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert equal(here / "again" / "best.safetensors", digits_run.best)
    assert (here / "again" / "config.toml").read_bytes() == (digits_run.folder / "config.toml").read_bytes()
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(f)]
        for f in (here / "again", digits_run.folder)
    ]
    assert timeless[0] == timeless[1]


def test_config_reproduces_an_unusual_run(here: Path) -> None:
    """Every setting away from its default, the input size too."""
    make_folder(here / "photos", {"a": 9, "b": 9, "c": 9})
    first = [
        *("mlp", "--data", "photos", "--input", "1x8x8", "--epochs", "2", "--batch-size", "5", "--seed", "7", "--optimizer", "adamw"),
        *("--lr", "0.003", "--weight-decay", "0.2", "--warmup", "0.5", "--label-smoothing", "0.1", "--val-fraction", "0.3"),
        *(
            "--test-fraction",
            "0.2",
            "--bad-images",
            "error",
            "--max-pixels",
            "1000",
            "--allow-empty",
            "--include-hidden",
            "--flip",
            "--shift",
            "2",
        ),
    ]
    assert run("train", *first, "-o", "first", cwd=here, warm=True).code == 0
    config = tomllib.loads((here / "first" / "config.toml").read_text())
    assert config["train"]["momentum"] == 0.9
    assert config["data"]["val_fraction"] == 0.3
    done = run("train", *flags_of(here / "first"), "-o", "again", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert equal(here / "again" / "best.safetensors", here / "first" / "best.safetensors")


def test_seeds(here: Path, digits_run: Trained) -> None:
    for name, seed in (("same", "0"), ("other", "1")):
        assert run("train", "lenet5", "--epochs", "2", "--seed", seed, "-o", name, cwd=here, warm=True).code == 0
    assert equal(here / "same" / "best.safetensors", digits_run.best)
    assert equal(here / "same" / "last.safetensors", digits_run.folder / "last.safetensors")
    assert not equal(here / "other" / "best.safetensors", digits_run.best)


@pytest.mark.parametrize(
    "setting",
    [
        "--lr 0.01",
        "--batch-size 32",
        "--momentum 0.5",
        "--weight-decay 0.1",
        "--warmup 0.5",
        "--label-smoothing 0.2",
        "--shift 1",
        "--optimizer adamw",
    ],
)
def test_every_setting_has_an_effect(setting: str, here: Path, digits_run: Trained) -> None:
    assert run("train", "lenet5", "--epochs", "2", *setting.split(), "-o", "run", cwd=here, warm=True).code == 0
    assert not equal(here / "run" / "last.safetensors", digits_run.folder / "last.safetensors")


def test_best_is_the_best_epoch(here: Path) -> None:
    from cnncli.models.modelfile import read_info

    assert run("train", "mlp", "--epochs", "12", "--lr", "0.2", "-o", "run", cwd=here, warm=True).code == 0
    found = rows(here / "run")
    best = max(found, key=lambda row: (row["val_accuracy"], -row["val_loss"], row["epoch"]))
    info = read_info(here / "run" / "best.safetensors")
    assert info.metrics["epoch"] == best["epoch"]
    assert info.metrics["val_accuracy"] == best["val_accuracy"]
    assert read_info(here / "run" / "last.safetensors").metrics["epoch"] == 12
    assert [row["epoch"] for row in found if row["best"]][-1] == best["epoch"]


def test_runs_are_numbered(here: Path) -> None:
    for _ in range(2):
        assert run("train", "mlp", "--epochs", "1", cwd=here, warm=True).code == 0
    assert sorted(str(path.relative_to(here)) for path in here.glob("*/*")) == ["runs/mlp-digits-1", "runs/mlp-digits-2"]
    assert {path.name for path in here.iterdir()} == {"runs"}


def test_without_validation(here: Path) -> None:
    done = run("train", "mlp", "--epochs", "2", "--val-fraction", "0", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "training accuracy" in done.out
    assert [list(row) for row in rows(here / "run")] == [[key for key in KEYS if not key.startswith("val_")]] * 2


def test_nothing_is_written_elsewhere(here: Path, tmp_path: Path) -> None:
    """Not beside the run folder, and not into the images' folder; libraries may use their cache."""
    home = tmp_path / "home"
    home.mkdir()
    make_folder(here / "photos", {"a": 4, "b": 4})
    from harness import tree

    before = tree(here / "photos")
    done = run("train", "mlp", "--data", "photos", "--input", "1x8x8", "--epochs", "1", "-o", "run", cwd=here, HOME=str(home), warm=True)
    assert done.code == 0, done.err
    assert {path.name for path in here.iterdir()} == {"photos", "run"}
    assert tree(here / "photos") == before
    assert list(home.iterdir()) == []


def test_a_trained_model_is_no_net(here: Path, digits_run: Trained) -> None:
    done = run("train", digits_run.folder, cwd=here)
    assert done.code == 2
    assert "trained model" in done.err


def test_a_net_in_notation(here: Path) -> None:
    """The lecture's string trains; the run folder has a plain name, and its model is described like any other."""
    text = "[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-SOFTMAX"
    done = run("train", text, "--epochs", "1", cwd=here)
    assert done.code == 0, done.err
    (folder,) = (here / "runs").iterdir()
    assert folder.name == "CONV-RELU-2-POOL-2-FC-RELU-1-SOFT-digits-1"
    assert tomllib.loads((folder / "config.toml").read_text())["net"] == text
    assert rows(folder)[0]["val_accuracy"] > 0.2, "twice as good as guessing"
    shape = run("shape", f"runs/{folder.name}", "--json", cwd=here)
    assert shape.json["layers"] == run("shape", text, "--classes", "10", "--json", cwd=here).json["layers"]
    assert run("eval", f"runs/{folder.name}", cwd=here, warm=True).code == 0


def test_settings_of_the_net(here: Path) -> None:
    done = run("train", "mlp", "--set", "hidden=7", "--epochs", "1", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert tensors(here / "run/best.safetensors")["fc1.weight"].shape[0] == 7
    assert tomllib.loads((here / "run/config.toml").read_text())["set"] == {"hidden": "7"}


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("(CONV-RELU-POOL)*2", r"ends in 128x8x8 and not in 10 classes; end it with SOFTMAX"),
        ("CONV-RELU-FC-RELU", r"ends in 512 and not in 10 classes; end it with SOFTMAX"),
        ("torchvision/resnet18", r"torchvision/resnet18 is only described"),
    ],
)
def test_nets_that_cannot_be_trained(net: str, words: str, here: Path) -> None:
    done = run("train", net, "--epochs", "1", cwd=here, warm=True)
    assert_failed(done, 2, words)
    assert list(here.iterdir()) == []
