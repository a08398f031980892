"""`cnn train`, `cnn eval` and `cnn data` on tar shards, here and on a server."""

from __future__ import annotations

import json
from pathlib import Path

import harness
import pytest
from harness import run
from sharding import serving, shard_set, write

SETS = {"train-000.tar": 40, "train-001.tar": 35, "val-000.tar": 30}
TRAIN = ("train", "lenet5", "--input", "1x32x32", "--epochs", "2", "--lr", "0.01", "--batch-size", "16")


def losses(folder: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["train_loss"], row["val_loss"]) for row in rows]


def test_training_and_judging_on_local_shards(here: Path) -> None:
    write(here / "shards", shard_set(SETS))
    done = run(*TRAIN, "--data", "shards/train-{000..001}.tar::shards/val-000.tar", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "75 training images, 30 validation images" in done.err
    judged = run("eval", "run", "--json", cwd=here, warm=True)
    assert judged.code == 0, judged.err
    assert judged.json["count"] == 30
    assert [row["class"] for row in judged.json["per_class"]] == ["red", "green", "blue"]
    again = run(*TRAIN, "--data", "shards", "-o", "run2", "--store", "stream", cwd=here, warm=True)
    assert again.code == 0, again.err
    assert losses(here / "run2") == losses(here / "run")


def test_training_and_judging_on_a_server(here: Path) -> None:
    pytest.importorskip("webdataset")
    made = shard_set(SETS)
    with serving(made) as server:
        spec = f"{server.address}train-{{000..001}}.tar::{server.address}val-000.tar"
        done = run(*TRAIN, "--data", spec, "-o", "run", cwd=here, warm=True)
        assert done.code == 0, done.err
        assert "105 samples in 3 shards" in done.err
        assert "75 training images, 30 validation images" in done.err
        again = run(*TRAIN, "--data", spec, "-o", "run2", cwd=here, warm=True)
        assert again.code == 0, again.err
        assert (here / "run/last.safetensors").stat().st_size
        assert losses(here / "run") == losses(here / "run2")
        remote = run("eval", "run", "--json", cwd=here, warm=True)
        crops = ("--crop-scale", "0.3", "--mixup", "0.2")
        assert run(*TRAIN, "--data", spec.partition("::")[0], *crops, "-o", "run3", cwd=here, warm=True).code == 0
        for flags in (("--store", "disk"), ("--subset", "0.5")):
            harness.assert_failed(run(*TRAIN, "--data", spec, *flags, cwd=here, warm=True), 2, flags[0])
    assert {path.name for path in here.iterdir()} == {"run", "run2", "run3"}  # nothing else is kept
    write(here / "shards", made)
    local = run("eval", "run", "--data", "shards", "--json", cwd=here, warm=True)
    same = ("count", "top1", "loss", "confusion")
    assert [remote.json[key] for key in same] == [local.json[key] for key in same]


@pytest.mark.slow
def test_without_a_process_that_has_torch_already(here: Path) -> None:
    pytest.importorskip("webdataset")
    with serving(shard_set(SETS)) as server:
        done = run(*TRAIN, "--data", f"{server.address}train-{{000..001}}.tar", "-o", "run", cwd=here)
    assert done.code == 0, done.err
    assert "val is made of 1 of the 2 shards" in done.err


def test_looking_at_shards(here: Path) -> None:
    write(here / "shards", shard_set(SETS))
    done = run("data", "shards", "--json", cwd=here, warm=True)
    assert done.json["images"] == 105
    remote = run("data", "https://host/train-{000..009}.tar", cwd=here, warm=True)
    harness.assert_failed(remote, 2, "remote shards are not audited")
