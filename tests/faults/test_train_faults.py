"""Training that goes wrong: numbers that explode, batches of one, settings out of range, absent devices."""

from __future__ import annotations

import json
from pathlib import Path

import harness
import pytest
from harness import assert_failed, make_folder, run, unchanged


def gpus() -> int:
    import torch

    return torch.cuda.device_count()


EXPLODED = r"(not finite|times that of guessing,) at epoch \d+ step \d+ \(lr [0-9.e+]+\); "
EXPLODED += "the images of that step: run/bad_batch.txt; lower --lr"


@pytest.mark.slow
@pytest.mark.parametrize("net", ["lenet5", "convnetjs-cifar10"])
def test_T13_loss_is_not_finite(net: str, here: Path) -> None:
    done = run("train", net, "--epochs", "20", "--lr", "1e9", "--warmup", "0", "-o", "run", cwd=here, warm=True)
    assert_failed(done, 1, EXPLODED)
    assert (here / "run" / "bad_batch.txt").read_text().count("\n") > 0
    assert_finite(here / "run")


@pytest.mark.slow
def test_T13_loss_is_not_finite_after_good_epochs(here: Path) -> None:
    """A warm-up carries the rate past what the net can take; what was good before is kept."""
    done = run(
        "train", "convnetjs-cifar10", "--epochs", "40", "--lr", "3e3", "--warmup", "1", "--clip-grad", "0", "-o", "run", cwd=here, warm=True
    )
    assert_failed(done, 1, EXPLODED)
    assert_finite(here / "run")


def assert_finite(folder: Path) -> None:
    import torch

    from cnncli.models.modelfile import load

    for name in ("best.safetensors", "last.safetensors"):
        if (folder / name).exists():
            model, _ = load(folder / name)
            assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    if (folder / "metrics.jsonl").exists():
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            assert "NaN" not in line
            assert "Infinity" not in line
            json.loads(line)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["plain20", "resnet20"])
def test_T14_remainder_of_one(net: str, here: Path) -> None:
    make_folder(here / "data", {"a": 5, "b": 4})
    arguments = ("train", net, "--data", "data", "--val-fraction", "0", "--input", "1x8x8", "--epochs", "1", "-o", "run")
    done = run(*arguments, "--batch-size", "4", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "9 training images, 0 validation images, 2 steps an epoch" in done.err
    assert_finite(here / "run")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1", "8", "9", "1000"])
def test_T14_any_batch_size(size: str, here: Path) -> None:
    """Where a net's last maps are 1x1, a batch of one leaves batch norm a single value: that is told before training."""
    make_folder(here / "data", {"a": 5, "b": 4})
    arguments = ("train", "resnet20", "--data", "data", "--val-fraction", "0", "--input", "1x8x8", "--epochs", "1", "-o", "run")
    done = run(*arguments, "--batch-size", size, cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_finite(here / "run")


OUT_OF_RANGE = {
    "no epochs": ("--epochs", "0"),
    "negative epochs": ("--epochs", "-3"),
    "endless": ("--epochs", "1e9"),
    "a thousand million": ("--epochs", "1000000000"),
    "negative rate": ("--lr", "-1"),
    "no rate": ("--lr", "0"),
    "nan rate": ("--lr", "nan"),
    "infinite rate": ("--lr", "inf"),
    "empty batches": ("--batch-size", "0"),
    "negative batches": ("--batch-size", "-1"),
    "momentum": ("--momentum", "1"),
    "nan momentum": ("--momentum", "nan"),
    "decay": ("--weight-decay", "-0.1"),
    "warm-up": ("--warmup", "1.5"),
    "smoothing": ("--label-smoothing", "1"),
    "seed": ("--seed", "-1"),
    "share": ("--val-fraction", "1"),
    "test share": ("--test-fraction", "-0.1"),
    "shift": ("--shift", "-1"),
    "pixels": ("--max-pixels", "0"),
    "input": ("--input", "0x8x8"),
    "huge input": ("--input", "3x99999999x8"),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_T18_settings_out_of_range(case: str, here: Path) -> None:
    flag, value = OUT_OF_RANGE[case]
    with unchanged(here):
        done = run("train", "lenet5", flag, value, cwd=here)
    assert_failed(done, 2, flag)
    assert value in done.errors[0] or value == "nan"


@pytest.mark.slow
def test_T18_shares_that_leave_nothing(here: Path) -> None:
    with unchanged(here):
        done = run("train", "lenet5", "--val-fraction", "0.5", "--test-fraction", "0.5", cwd=here, warm=True)
    assert_failed(done, 2, "0.5.*nothing to train on")


def test_T18_input_too_small(here: Path) -> None:
    with unchanged(here):
        assert_failed(run("train", "lenet5", "--input", "1x1x1", cwd=here), 2, r"--input 1x\d+x\d+")


@pytest.mark.slow
def test_T21_absent_device(here: Path, digits_run: harness.Trained) -> None:
    if gpus() > 7:
        pytest.skip("this machine has eight GPUs")
    wanted = ["cuda:7"] + ([] if gpus() else ["cuda", "cuda:0"])
    (here / "x.png").touch()  # that it is empty would be seen later
    with unchanged(here):
        for device in wanted:
            done = run("train", "mlp", "--device", device, cwd=here, warm=True)
            assert_failed(done, 4, rf"--device {device}: no such device here; there is .*cpu")
            done = run("eval", digits_run.folder, "--device", device, "--json", cwd=here, warm=True)
            assert_failed(done, 4, rf"--device {device}", json_out=True)
            done = run("predict", digits_run.folder, "x.png", "--device", device, cwd=here, warm=True)
            assert_failed(done, 4, rf"--device {device}")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["nonsense", "cuda:x", "cuda:-1", "cuda:", "cpu:1", "CPU", ""])
def test_T21_no_device(device: str, here: Path) -> None:
    with unchanged(here):
        assert_failed(run("train", "mlp", "--device", device, cwd=here, warm=True), 2, "--device.*auto, cpu, cuda, cuda:1 or mps")
