"""`cnn train` in several processes: how they are started, what they write and say, and how another number of them goes on."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ranks
import torch
from harness import assert_failed, run, unchanged

from cnncli.engine import launch
from cnncli.engine.launch import chosen_gpus
from cnncli.errors import CnnError, EnvironmentFault, ExitCode, UsageError
from cnncli.models.tensorfile import load_tensors, read_header, read_metadata

NET = "conv5-6/p2 relu maxpool conv5-16 relu maxpool FC-84 relu FC-10"
TRAIN = ("train", NET, "--input", "1x32x32", "--lr", "0.01", "--precision", "fp32", "--memory-format", "contiguous", "--device", "cpu")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path, read_metadata(path, read_header(path)))


def assert_same(one: Path, other: Path) -> None:
    """The weights, to the bit."""
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# ---- which GPUs ----


@pytest.mark.parametrize(("text", "count", "numbers"), [("0", 1, [0]), ("2,0", 3, [2, 0]), ("all", 2, [0, 1]), (" 1", 2, [1])])
def test_chosen_gpus(text: str, count: int, numbers: list[int]) -> None:
    assert chosen_gpus(text, count) == numbers


@pytest.mark.parametrize("text", ["", "x", "0,", "0,0", "-1", "0;1", "1.0", "ALL"])
def test_gpus_that_are_no_numbers(text: str) -> None:
    with pytest.raises(UsageError, match=r"should be different numbers, for example --gpus 0,1, or all"):
        chosen_gpus(text, 2)


@pytest.mark.parametrize(("text", "count", "there"), [("0,1", 0, "none"), ("0,2", 2, "0, 1"), ("all", 0, "train on the CPU")])
def test_gpus_that_are_not_there(text: str, count: int, there: str) -> None:
    with pytest.raises(EnvironmentFault, match=there):
        chosen_gpus(text, count)


# ---- what the launcher is told, and what becomes of its answers ----


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `launch` asks of torch's launcher, which starts nothing here; `raises` is what it raises."""
    from torch.distributed.launcher import api

    found = SimpleNamespace(config=None, words=None, raises=None, variables={})
    for name in (launch.LAUNCHED, "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)

    class Launcher:
        def __init__(self, config: Any, program: str) -> None:
            found.config, found.program = config, program

        def __call__(self, *words: str) -> None:
            found.words = words
            found.variables = dict(launch.os.environ)
            if found.raises:
                raise found.raises

    monkeypatch.setattr(api, "elastic_launch", Launcher)
    return found


def test_launch(started: SimpleNamespace) -> None:
    assert launch.launch(["train", "x", "--processes", "3"], 3) == ExitCode.DONE
    assert started.program == sys.executable
    assert started.words == ("-P", "-m", "cnncli", "train", "x", "--processes", "3")
    assert (started.config.nproc_per_node, started.config.max_restarts, started.config.max_nodes) == (3, 0, 1)
    assert started.config.rdzv_endpoint.startswith("127.0.0.1:")
    assert started.config.local_addr == "127.0.0.1"
    assert started.variables[launch.LAUNCHED] == str(launch.os.getpid())
    assert int(started.variables["OMP_NUM_THREADS"]) >= 1
    assert "CUDA_VISIBLE_DEVICES" not in started.variables


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [(None, [0, 2], "0,2"), ("", [1], "1"), ("4,5,7", [2, 0], "7,4"), ("GPU-a,GPU-b", [1], "GPU-b")],
)
def test_launch_shows_each_process_the_chosen_gpus(
    visible: str | None, gpus: list[int], expected: str, started: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers count among those that are visible already."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    launch.launch(["train"], len(gpus), gpus)
    assert started.variables["CUDA_VISIBLE_DEVICES"] == expected
    assert started.config.nproc_per_node == len(gpus)


def test_launch_leaves_a_users_threads(started: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    launch.launch(["train"], 2)
    assert started.variables["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_launch_that_a_signal_ends(number: int, code: int, started: SimpleNamespace) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException

    started.raises = SignalException("x", signal.Signals(number))
    assert launch.launch(["train"], 2) == code


@pytest.mark.parametrize("code", [2, 3, 4, -9, -11])
def test_launch_that_a_process_ends(code: int, started: SimpleNamespace) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    started.raises = ChildFailedError("x", {0: ProcessFailure(0, 123, code, "")})
    if code > 0:
        assert launch.launch(["train"], 2) == code
        return
    with pytest.raises(CnnError, match=rf"a process of the training died \(signal {-code}\)"):
        launch.launch(["train"], 2)


# ---- the command line ----


@pytest.mark.slow
def test_gpus_on_the_command_line(here: Path) -> None:
    count = torch.cuda.device_count()
    with unchanged(here):
        if not count:
            done = run("train", "mlp", "--gpus", "0,1", cwd=here, warm=True)
            assert_failed(done, 4, "--gpus 0,1: no such GPU here; GPUs there are: none")
            assert_failed(run("train", "mlp", "--gpus", "all", cwd=here, warm=True), 4, "--gpus all: there is no GPU here")
        done = run("train", "mlp", "--gpus", "99", cwd=here, warm=True)
        assert_failed(done, 4, "--gpus 99: no such GPU here; GPUs there are: ")
        assert_failed(run("train", "mlp", "--gpus", "x", cwd=here, warm=True), 2, "--gpus 'x' should be different numbers")
        for other in (("--device", "cpu"), ("--processes", "2")):
            done = run("train", "mlp", "--gpus", "0", *other, cwd=here, warm=True)
            assert_failed(done, 2, "--gpus says where to compute, and so does --device or --processes; give one of them")
        assert_failed(run("train", "mlp", "--processes", "0", cwd=here, warm=True), 2, "--processes")


@pytest.mark.slow
def test_one_line_whatever_the_number(here: Path) -> None:
    """What is wrong with a command line, or with all processes, is said once."""
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("train", "no-such-net"), 2, "no-such-net"),
        (("train", "mlp", "--gpus", "0"), 2, "--gpus starts processes, and torchrun has started these; leave out --gpus"),
        (("train", "mlp", "--processes", "2"), 2, "--processes starts processes, and torchrun has started these"),
        (("train", "mlp", "--batch-size", "1", "--device", "cpu"), 2, "--batch-size 1 is fewer images than the 2 processes"),
        (("train", "mlp", "--sync-bn", "--device", "cpu"), 2, "--sync-bn needs GPUs"),
        (("train", "mlp", "--shard", "--ema", "0.9", "--device", "cpu"), 2, "--shard and --ema do not go together"),
        (("train", "mlp", "--data", "nowhere", "--device", "cpu"), 3, "nowhere"),
    ]
    with unchanged(here):
        for arguments, code, pattern in cases:
            first, other = ranks.together(2, *arguments, cwd=here)
            assert_failed(first, code, pattern)
            assert other.code != 0
            assert (other.out, other.err) == ("", "")
        assert_failed(run("train", "mlp", "--shard", cwd=here, warm=True), 2, "--shard shares weights among processes, and there is one")


@pytest.mark.slow
def test_two_processes_train_as_one_does(here: Path) -> None:
    """The same batches, so nearly the same weights, and the same figures of validation; one of them talks and writes."""
    (alone,) = ranks.together(1, *TRAIN, "--epochs", "2", "-o", "alone", cwd=here)
    first, other = ranks.together(2, *TRAIN, "--epochs", "2", "-o", "two", cwd=here)
    for done in (alone, first, other):
        assert done.code == 0, done.err
    assert (other.out, other.err) == ("", "")
    assert len(first.out.splitlines()) == 1
    assert len(first.err.splitlines()) == len(set(first.err.splitlines())) == len(alone.err.splitlines())
    for one, two in zip(rows(here / "alone"), rows(here / "two"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
        for figure in ("epoch", "step", "val_accuracy", "val_top5", "val_macro_f1"):
            assert two[figure] == one[figure]
    assert {path.name for path in (here / "two").iterdir()} == {path.name for path in (here / "alone").iterdir()}
    for name, weight in tensors(here / "alone" / "last.safetensors").items():
        torch.testing.assert_close(tensors(here / "two" / "last.safetensors")[name], weight, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_shared_weights_are_whole_in_files_and_go_on_alone(here: Path) -> None:
    """FSDP2 in two processes; then one, and then three go on, and each says that the end will not be the same to the bit."""
    first, _ = ranks.together(2, *TRAIN, "--epochs", "1", "-o", "run", "--shard", cwd=here)
    assert first.code == 0, first.err
    shapes = {name: tensor.shape for name, tensor in tensors(here / "run" / "best.safetensors").items()}
    judged = run("eval", "run", "--split", "val", "--device", "cpu", "--json", cwd=here, warm=True)
    assert judged.json["top1"] == pytest.approx(rows(here / "run")[0]["val_accuracy"])
    resume = ("train", "--resume", "run", "--epochs")
    (refused,) = ranks.together(1, *resume, "2", cwd=here)
    assert_failed(refused, 2, "--shard shares weights among processes, and there is one; .*--no-shard")
    (alone,) = ranks.together(1, *resume, "2", "--no-shard", cwd=here)
    assert alone.code == 0, alone.err
    assert "note: the end will not be the same to the bit: 2 processes before, 1 now" in alone.err
    first, *others = ranks.together(3, *resume, "3", cwd=here)
    assert first.code == 0, first.err
    assert "note: the end will not be the same to the bit: 1 processes before, 3 now" in first.err
    assert [done.err for done in others] == ["", ""]
    assert [row["epoch"] for row in rows(here / "run")] == [1, 2, 3]
    assert len({row["step"] - 20 * row["epoch"] for row in rows(here / "run")}) == 1, "as many steps an epoch as before"
    losses = [row["train_loss"] for row in rows(here / "run")]
    assert losses == sorted(losses, reverse=True)
    assert {name: tensor.shape for name, tensor in tensors(here / "run" / "best.safetensors").items()} == shapes
