"""`cnn train`: what a run folder holds, and that its settings, and nothing else, decide its weights."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from harness import Trained, assert_failed, make_folder, run
from PIL import Image

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.settings import flag_name

pytestmark = pytest.mark.slow

TINY = ("conv3-4 relu maxpool FC-10", "--input", "1x8x8", "--limit-per-class", "20")  # 690 parameters, four steps an epoch
VAL_KEYS = ["val_loss", "val_accuracy", "val_top5", "val_macro_f1", "val_balanced_accuracy"]
KEYS = ["epoch", "step", "train_loss", "train_accuracy", *VAL_KEYS, "lr", "seconds", "images_per_second", "best", "skipped"]
FILES = {"best.safetensors", "last.safetensors", "state.safetensors", "state-before.safetensors"}
FILES |= {"metrics.jsonl", "config.toml", "result.json", "curves.png"}
TABLES = {"train": TrainConfig, "optim": OptimConfig, "compute": ComputeConfig, "keep": KeepConfig}


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
    assert {path.name for path in digits_run.folder.iterdir()} == FILES
    assert [list(row) for row in rows(digits_run.folder)] == [KEYS, KEYS]
    assert [(row["epoch"], row["step"]) for row in rows(digits_run.folder)] == [(1, 20), (2, 40)]
    result = json.loads((digits_run.folder / "result.json").read_text())
    assert list(result) == ["finished", "reason", "seconds", "best"]
    assert (result["finished"], result["reason"]) == (True, "")
    assert result["best"] == max(rows(digits_run.folder), key=lambda row: row["val_accuracy"])
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
    assert (config["net"], config["input"]) == ("lenet5", "1x32x32")
    assert set(config) == {"net", "input", *TABLES, "data", "augment"}
    for table, kind in TABLES.items():
        told = set(config[table])
        assert told <= {f.name for f in fields(kind)}
        assert told >= {f.name for f in fields(kind) if f.default is not None}
    assert (config["train"]["epochs"], config["train"]["batch_size"]) == (2, 64)
    assert (config["optim"]["lr"], config["optim"]["weight_decay"]) == (0.05, 5e-4), "what follows the optimizer is written out"
    assert (config["compute"]["precision"], config["compute"]["memory_format"]) == ("fp32", "contiguous"), "auto is no longer open"
    assert set(config["augment"]) == {f.name for f in fields(AugmentConfig)}
    assert config["augment"] == {f.name: f.default for f in fields(AugmentConfig)} | {"flip": False, "shift": 4, "crop_scale": 1.0}
    told = set(config["data"])
    assert told <= {"source"} | {f.name for f in fields(DataConfig)}
    assert told >= {"source"} | {f.name for f in fields(DataConfig) if f.default is not None}
    assert config["data"]["source"] == "digits"


# Flags that are refused where they would do nothing.
CONDITIONAL = {"milestones", "step_factor", "rand_ops", "rand_magnitude", "power", "final_lr", "nesterov", "beta2", "epsilon", "other_lr"}


def flags_of(folder: Path) -> list[str]:
    """The command line that a config.toml describes."""
    config = tomllib.loads((folder / "config.toml").read_text())
    words = [config["net"], "--data", config["data"].pop("source")]
    if "input" in config:
        words += ["--input", config["input"]]
    for section in (*TABLES, "data", "augment"):
        for name, value in config[section].items():
            if name in CONDITIONAL:
                continue
            if isinstance(value, bool):
                bare = flag_name(name).removeprefix("--")
                other = bare.removeprefix("no-") if bare.startswith("no-") else f"no-{bare}"
                words += [f"--{bare if value else other}"]
            else:
                words += [flag_name(name), str(value)]
    return words


def timeless(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(folder)]


@pytest.mark.parametrize("how", ["flags", "file"])
def test_config_reproduces_the_run(how: str, here: Path, digits_run: Trained) -> None:
    words = flags_of(digits_run.folder) if how == "flags" else ["--config", str(digits_run.folder / "config.toml")]
    done = run("train", *words, "-o", "again", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert equal(here / "again" / "best.safetensors", digits_run.best)
    again, first = (tomllib.loads((folder / "config.toml").read_text()) for folder in (here / "again", digits_run.folder))
    if how == "file":
        assert again.pop("recipe").endswith("config.toml")
    assert again == first
    assert timeless(here / "again") == timeless(digits_run.folder)


def test_config_reproduces_an_unusual_run(here: Path) -> None:
    """Most settings away from their defaults, the input size too."""
    make_folder(here / "photos", {"a": 9, "b": 9, "c": 9})
    first = [
        *("mlp", "--data", "photos", "--input", "1x8x8", "--epochs", "2", "--batch-size", "5", "--seed", "7", "--optimizer", "adamw"),
        *("--lr", "0.003", "--weight-decay", "0.2", "--warmup", "0.5", "--label-smoothing", "0.1", "--val-fraction", "0.3"),
        *("--test-fraction", "0.2", "--bad-images", "error", "--max-pixels", "1000", "--allow-empty", "--include-hidden", "--flip"),
        *(
            "--shift",
            "2",
            "--ema",
            "0.5",
            "--schedule",
            "one-cycle",
            "--decay-all",
            "--sampling",
            "balanced",
            "--class-weights",
            "balanced",
        ),
        *("--tta", "flips", "--monitor", "val_loss", "--accumulate", "2", "--mixup", "0.4", "--erase", "0.5", "--precision", "bf16"),
        *(
            "--memory-format",
            "channels-last",
            "--keep-going",
            "--deterministic",
            "--set",
            "hidden=9",
            "--jitter",
            "0.2",
            "--save-every",
            "0",
        ),
    ]
    done = run("train", *first, "-o", "first", cwd=here, warm=True)
    assert done.code == 0, done.err
    config = tomllib.loads((here / "first" / "config.toml").read_text())
    assert config["optim"]["momentum"] == 0.9
    assert config["data"]["val_fraction"] == 0.3
    assert config["set"] == {"hidden": "9"}
    for name, words in (("flags", [*flags_of(here / "first"), "--set", "hidden=9"]), ("file", ["--config", "first/config.toml"])):
        done = run("train", *words, "-o", name, cwd=here, warm=True)
        assert done.code == 0, done.err
        assert equal(here / name / "last.safetensors", here / "first" / "last.safetensors")
        assert timeless(here / name) == timeless(here / "first")


def test_seeds(here: Path, digits_run: Trained) -> None:
    for name, seed in (("same", "0"), ("other", "1")):
        assert run("train", "lenet5", "--epochs", "2", "--seed", seed, "-o", name, cwd=here, warm=True).code == 0
    assert equal(here / "same" / "best.safetensors", digits_run.best)
    assert equal(here / "same" / "last.safetensors", digits_run.folder / "last.safetensors")
    assert not equal(here / "other" / "best.safetensors", digits_run.best)


EFFECTS = [
    *("--lr 0.01", "--batch-size 32", "--momentum 0.5", "--weight-decay 0.1", "--warmup 0.5", "--label-smoothing 0.2", "--shift 3"),
    *("--no-nesterov", "--decay-all", "--bias-lr-factor 3", "--final-lr 0.5", "--clip-grad 0.1", "--ema 0.9", "--dropout 0.5"),
    *("--optimizer adam", "--optimizer adamw", "--optimizer rmsprop", "--optimizer adadelta", "--optimizer muon"),
    *("--schedule constant", "--schedule step", "--schedule linear", "--schedule polynomial", "--schedule one-cycle"),
    *("--schedule step --milestones 1", "--schedule step --step-factor 0.5", "--schedule polynomial --power 1.5"),
    *("--optimizer muon --other-lr 0.001", "--optimizer adam --beta2 0.9", "--optimizer adam --epsilon 0.1"),
    *("--sampling balanced", "--precision bf16", "--subset 0.1", "--flip", "--reflect", "--crop-scale 0.5"),
    *("--auto-augment trivial", "--auto-augment rand", "--auto-augment rand --rand-magnitude 30", "--auto-augment rand --rand-ops 5"),
    *("--erase 0.5", "--mixup 0.5", "--cutmix 0.5", "--alternate-flip", "--jitter 0.5"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny net after two epochs, with every setting at its default; it has a dropout layer that drops nothing."""
    folder = tmp_path_factory.mktemp("plain")
    done = run("train", *WITH_DROPOUT, "--epochs", "2", "-o", "run", cwd=folder, warm=True)
    assert done.code == 0, done.err
    return folder / "run"


WITH_DROPOUT = ("conv3-4 bn relu maxpool dropout-0 FC-10", *TINY[1:])


@pytest.mark.parametrize("first", range(4))
def test_every_setting_has_an_effect(first: int, here: Path, plain: Path) -> None:
    """On the weights, each another one; and all of it trains."""
    seen = [(plain / "last.safetensors", "the defaults")]
    for number, setting in enumerate(EFFECTS[first::4]):
        done = run("train", *WITH_DROPOUT, "--epochs", "2", *setting.split(), "-o", f"run{number}", cwd=here, warm=True)
        assert done.code == 0, f"{setting}: {done.err}"
        made = here / f"run{number}" / "last.safetensors"
        for other, other_setting in seen:
            assert not equal(made, other), f"{setting} is as {other_setting}"
        seen.append((made, setting))


def test_class_weights(here: Path) -> None:
    make_folder(here / "data", {"a": 24, "b": 6})
    for name, words in (("plain", ()), ("weighed", ("--class-weights", "balanced"))):
        words = ("--data", "data", "--epochs", "1", "-o", name, *words)
        done = run("train", "conv3-4 relu maxpool FC-2", "--input", "1x8x8", *words, cwd=here, warm=True)
        assert done.code == 0, done.err
    assert not equal(here / "plain" / "last.safetensors", here / "weighed" / "last.safetensors")


def test_settings_that_only_say_how_it_is_computed(here: Path, plain: Path) -> None:
    """The same weights to the bit, or nearly: parts of a batch add up in another order."""
    import torch

    for number, (setting, exact) in enumerate(
        (
            ("--workers 1 --store stream --precision fp32 --memory-format contiguous --deterministic --save-every 0", True),
            ("--tta shifts --monitor train_loss --keep-going --stall-timeout 5 --validate-every 2", True),
            ("--accumulate 3", False),
            ("--memory-format channels-last", False),
        )
    ):
        done = run("train", *WITH_DROPOUT, "--epochs", "2", *setting.split(), "-o", f"run{number}", cwd=here, warm=True)
        assert done.code == 0, f"{setting}: {done.err}"
        one, other = tensors(here / f"run{number}" / "last.safetensors"), tensors(plain / "last.safetensors")
        for name, tensor in one.items():
            same = torch.equal(tensor, other[name]) if exact else torch.allclose(tensor.float(), other[name].float(), atol=0.02)
            assert same or ("bn" in name and "accumulate" in setting) or "running" in name, f"{setting}: {name}"


def test_length_in_steps(here: Path) -> None:
    """The last epoch is cut short and judged all the same."""
    done = run("train", *TINY, "--steps", "6", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = rows(here / "run")
    assert [(row["epoch"], row["step"]) for row in found] == [(1, 4), (2, 6)]
    assert "val_accuracy" in found[1]
    config = tomllib.loads((here / "run" / "config.toml").read_text())["train"]
    assert config["steps"] == 6
    assert "epochs" not in config


def test_length_in_minutes(here: Path) -> None:
    done = run("train", *TINY, "--minutes", "0.02", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = rows(here / "run")
    seconds = sum(row["seconds"] for row in found)
    assert 1.0 < seconds < 2.5, "1.2 s of steps"
    assert "val_accuracy" in found[-1]
    assert found[-1]["lr"] < 0.2 * max(row["lr"] for row in found), "the rate falls by the clock"
    assert ", for 0.02 min" in done.err


def test_patience(here: Path) -> None:
    done = run(
        "train", *TINY, "--epochs", "100", "--lr", "1e-12", "--patience", "2", "--monitor", "train_loss", "-o", "run", cwd=here, warm=True
    )
    assert done.code == 0, done.err
    found = rows(here / "run")
    assert len(found) < 50
    assert [row["best"] for row in found][-3:] == [True, False, False]
    reason = json.loads((here / "run" / "result.json").read_text())["reason"]
    assert reason == "no better train_loss in 2 validations"
    assert f"ended early: {reason}" in done.err


def test_validate_every(here: Path) -> None:
    done = run("train", *TINY, "--epochs", "5", "--validate-every", "3", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = rows(here / "run")
    assert [row["epoch"] for row in found if "val_accuracy" in row] == [3, 5]
    assert not any(row["best"] for row in found if "val_accuracy" not in row and row["epoch"] > 3)


@pytest.mark.parametrize(("monitor", "better"), [("val_loss", min), ("val_macro_f1", max), ("train_accuracy", max)])
def test_monitor(monitor: str, better: object, here: Path) -> None:
    from cnncli.models.modelfile import read_info

    done = run("train", *TINY, "--epochs", "6", "--lr", "0.5", "--monitor", monitor, "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = rows(here / "run")
    best = better(row[monitor] for row in found)
    assert read_info(here / "run" / "best.safetensors").metrics[monitor] == best
    assert next(row for row in reversed(found) if row["best"])[monitor] == best


def test_batch_size_is_chosen(here: Path) -> None:
    done = run("train", *TINY, "--epochs", "1", "--batch-size", "auto", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    (size,) = re.findall(r"^batches of (\d+) images$", done.err, re.MULTILINE)
    assert tomllib.loads((here / "run" / "config.toml").read_text())["train"]["batch_size"] == int(size)
    assert int(size) == 8, "200 images leave 16 steps an epoch with no more"


def test_precision_is_chosen_once(here: Path, plain: Path) -> None:
    """A short training is not worth a trial, and nothing of it is told."""
    config = tomllib.loads((plain / "config.toml").read_text())["compute"]
    assert (config["precision"], config["memory_format"]) == ("fp32", "contiguous")


def test_tensorboard(here: Path) -> None:
    pytest.importorskip("tensorboard")
    done = run("train", *TINY, "--epochs", "1", "--tensorboard", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert [path.name for path in (here / "run" / "tensorboard").iterdir() if path.name.startswith("events.out.tfevents")]


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
    assert [row["best"] for row in rows(here / "run")] == [True, True], "without validation images the last epoch is the best"


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
    done = run("train", text, "--epochs", "1", "--input", "1x16x16", cwd=here)
    assert done.code == 0, done.err
    (folder,) = (here / "runs").iterdir()
    assert folder.name == "CONV-RELU-2-POOL-2-FC-RELU-1-SOFT-digits-1"
    assert tomllib.loads((folder / "config.toml").read_text())["net"] == text
    assert rows(folder)[0]["val_accuracy"] > 0.2, "twice as good as guessing"
    shape = run("shape", f"runs/{folder.name}", "--json", cwd=here)
    assert shape.json["layers"] == run("shape", text, "--classes", "10", "--input", "1x16x16", "--json", cwd=here).json["layers"]
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
