"""The run folder: where it is, what is in it after which event, and what is left alone."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch

from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.engine.events import EpochDone, Finished, Progress, Started
from cnncli.engine.runs import FILES, Run, check_writable, choose_folder, source_of
from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, load


@pytest.fixture
def net():
    return build("mlp", input=(1, 6, 6), classes=3)


@pytest.fixture
def info(net) -> ModelInfo:
    return ModelInfo(net, ("a", "b", "c"), Preprocess(1, 6, 6), data="photos", val_fraction=0.3)


def done(epoch: int, *, best: bool, val: float | None = 0.5) -> EpochDone:
    return EpochDone(epoch, 1.25, 0.5, None if val is None else 1.5, val, 0.01, 2.0, 100.0, best=best)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_numbered_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder(None, "lenet5-digits", overwrite=False) == Path("runs/lenet5-digits-1")
    assert not Path("runs").exists(), "choosing writes nothing"
    Path("runs/lenet5-digits-1").mkdir(parents=True)
    Path("runs/lenet5-digits-3").mkdir()
    assert choose_folder(None, "lenet5-digits", overwrite=True) == Path("runs/lenet5-digits-2"), "a name of ours never replaces"
    assert choose_folder(None, "mlp-digits", overwrite=False) == Path("runs/mlp-digits-1")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lenet5-digits", "lenet5-digits"),
        ("resnet1_202.v2-my_data", "resnet1_202.v2-my_data"),
        ("conv3-16 relu FC-10 softmax-digits", "conv3-16-relu-FC-10-softmax-digits"),
        ("[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX-digits", "CONV-RELU-2-POOL-3-FC-RELU-1-SOFT-digits"),
        ("conv3-64 relu conv3-64 relu maxpool conv3-128 relu maxpool...-cifar10", "conv3-64-relu-conv3-64-relu-maxp-cifar10"),
        ("a" * 99, "a" * 40),
        ("../../etc/x -- {}|\n\0-\u00fc", "etc-x"),
        ("...", "run"),
    ],
)
def test_numbered_folders_have_plain_names(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = choose_folder(None, name, overwrite=False)
    assert chosen == Path("runs") / f"{folder}-1"
    assert len(folder) <= 40
    chosen.mkdir(parents=True)
    assert choose_folder(None, name, overwrite=False) == Path("runs") / f"{folder}-2"


def test_given_folder(tmp_path: Path) -> None:
    wanted = tmp_path / "run"
    assert choose_folder(wanted, "x", overwrite=False) == wanted
    wanted.mkdir()
    assert choose_folder(wanted, "x", overwrite=False) == wanted, "an empty folder is free"
    (wanted / ".hidden").touch()
    with pytest.raises(UsageError, match="run folder exists"):
        choose_folder(wanted, "x", overwrite=False)
    assert choose_folder(wanted, "x", overwrite=True) == wanted
    with pytest.raises(UsageError, match="is a file"):
        choose_folder(wanted / ".hidden", "x", overwrite=True)


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="file"):
        check_writable(tmp_path / "file" / "run")


def test_what_is_written_when(tmp_path: Path, net, info: ModelInfo) -> None:
    folder = tmp_path / "deep" / "run"
    model = assemble(net)
    run = Run(folder, info, {"net": "mlp", "train": {"lr": 0.1}})
    assert names(folder) == {"config.toml"}
    for event in (Started(2, 3, 4, 5), Progress(1, 1, 1.0, 0.5, 0.1, 10.0)):
        run.record(event, model)
    assert names(folder) == {"config.toml"}
    run.record(done(1, best=True), model)
    assert names(folder) == {"config.toml", "metrics.jsonl", "last.safetensors", "best.safetensors"}
    first = (folder / "best.safetensors").read_bytes()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    run.record(done(2, best=False, val=None), model)
    run.record(Finished(done(1, best=True), 3.0), model)
    assert (folder / "best.safetensors").read_bytes() == first
    assert (folder / "last.safetensors").read_bytes() != first
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "epoch": 1,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "val_loss": 1.5,
        "val_accuracy": 0.5,
        "lr": 0.01,
        "seconds": 2.0,
        "images_per_second": 100.0,
        "best": True,
    }
    assert rows[1].keys() == rows[0].keys() - {"val_loss", "val_accuracy"}
    assert tomllib.loads((folder / "config.toml").read_text()) == {"net": "mlp", "train": {"lr": 0.1}}
    loaded, stored = load(folder / "last.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True))
    assert (stored.classes, stored.data, stored.val_fraction) == (("a", "b", "c"), "photos", 0.3)
    assert stored.metrics["epoch"] == 2
    assert load(folder / "best.safetensors")[1].metrics == {
        "epoch": 1,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "val_loss": 1.5,
        "val_accuracy": 0.5,
        "lr": 0.01,
    }


def test_an_earlier_run_is_cleared_and_nothing_else(tmp_path: Path, info: ModelInfo) -> None:
    for name in (*FILES, "notes.txt", "best.safetensors.bak", ".cnn-part-1-best.safetensors"):
        (tmp_path / name).write_text("old")
    Run(tmp_path, info, {"net": "mlp"}).list_bad(["x.png: bad", "y.png: bad"])
    assert names(tmp_path) == {"config.toml", "bad_images.txt", "notes.txt", "best.safetensors.bak"}
    assert (tmp_path / "bad_images.txt").read_text() == "x.png: bad\ny.png: bad\n"
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_disk_full_in_the_metrics(tmp_path: Path, net, info: ModelInfo) -> None:
    run = Run(tmp_path / "run", info, {})
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(EnvironmentFault, match=r"metrics\.jsonl: No space left on device"):
        run.record(done(1, best=True), assemble(net))


def test_source_of(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('net = "x"\n[data]\nsource = "photos"\n')
    assert source_of(tmp_path) == "photos"
    for text in ("", "[data]\n", "data = 3\n", "not toml ="):
        (tmp_path / "config.toml").write_text(text)
        with pytest.raises(InputError, match=r"config\.toml"):
            source_of(tmp_path)
