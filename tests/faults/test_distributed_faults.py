"""Several processes that train one model, and what goes wrong with one of them, with the one that started them, or between them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import harness
import holding
import pytest
import ranks
import torch
from harness import COMMAND, Done, assert_failed, make_folder, run, unchanged
from holding import hold, that_wait
from ranks import epochs, launched, marked, start_together, together, wait_until, workers

NET = "conv5-6/p2 relu maxpool conv5-16 relu maxpool FC-84 relu FC-10"
TRAIN = ("train", NET, "--input", "1x32x32", "--lr", "0.01", "--precision", "fp32", "--memory-format", "contiguous")
EPOCHS = 4  # of 20 steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two processes that nothing has interrupted."""
    home = tmp_path_factory.mktemp("whole")
    for done in together(2, *TRAIN, "--epochs", str(EPOCHS), "--device", "cpu", "-o", "run", cwd=home):
        assert done.code == 0, done.err
    return home / "run"


def assert_same_end(run_folder: Path, whole: Path) -> None:
    """To the bit, with every epoch once."""
    from safetensors.torch import load_file

    for name in ("last", "best"):
        one, other = (load_file(folder / f"{name}.safetensors") for folder in (run_folder, whole))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert epochs(run_folder) == list(range(1, EPOCHS + 1))


def assert_one_voice(group: list[Done], pattern: str) -> None:
    """All have ended with a failure, and one line says why."""
    told = "\n".join(done.err for done in group)
    lines = [line for line in told.splitlines() if line.startswith("cnn: error:")]
    assert len(lines) == 1, told
    assert re.search(pattern, lines[0]), told
    assert "Traceback" not in told
    assert all(done.code != 0 for done in group)


def with_a_fault(kind: str, *arguments: str) -> int:
    """`cnn` in a process whose 30th step fails, where it is the last of them."""
    from cnncli.cli.main import main
    from cnncli.engine.training import Training

    step = Training.step

    def faulty(self: Training, *values: object, **options: object) -> None:
        if self.position.steps == 30 and self.world.rank == self.world.ranks - 1:
            if kind == "raises":
                raise ValueError("a rank that fails")
            if kind == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory")
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "hangs":
                time.sleep(60)
        step(self, *values, **options)  # type: ignore[arg-type]

    Training.step = faulty  # type: ignore[method-assign]
    return main(list(arguments))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("raises", "unexpected ValueError: a rank that fails"),
        ("memory", "out of memory on cpu at batch 64; --accumulate 2 or --batch-size"),
        ("killed", "another process of this training has ended or does not answer; .*cnn train --resume run goes on"),
        ("hangs", "another process of this training has ended or does not answer; .*cnn train --resume run goes on"),
    ],
)
def test_R9_one_fails(kind: str, pattern: str, here: Path) -> None:
    """The others end, too, and what was saved stays."""
    began = time.monotonic()
    arguments = (*TRAIN, "--epochs", str(EPOCHS), "--device", "cpu", "--stall-timeout", "5" if kind == "hangs" else "60", "-o", "run")
    group = start_together(3, kind, *arguments, cwd=here, function="with_a_fault", file=__file__)
    if kind == "hangs":
        wait_until(lambda: "cnn: error:" in group.error_so_far())
        os.kill(group.pids[2], signal.SIGKILL)
    done = group.wait()
    assert time.monotonic() - began < 60
    assert_one_voice(done, pattern)
    assert epochs(here / "run") == [1]
    assert not (here / "run" / "result.json").exists()


@pytest.mark.slow
def test_R9_not_finite(here: Path) -> None:
    group = together(2, *TRAIN[:4], "--lr", "1e9", "--warmup", "0", "--epochs", "3", "--device", "cpu", "-o", "run", cwd=here)
    assert_one_voice(group, r"loss or gradient is not finite at epoch 1 step \d+ .*bad_batch.txt")


@pytest.mark.slow
def test_R9_one_is_killed(here: Path, tmp_path: Path, whole: Path) -> None:
    """`cnn train --processes 2`: one line says what became of a process, and the run goes on from what was saved."""
    (here / "json.py").write_text("raise RuntimeError('a file of the folder that the command runs in')")
    arguments = (*TRAIN, "--epochs", str(EPOCHS), "--processes", "2", "-o", "run")
    held = hold(here, 50)
    with launched(COMMAND, *arguments, cwd=here, **that_wait(tmp_path / "site")) as started:
        wait_until(lambda: len(epochs(here / "run")) == 2 and len(workers(started)) == 2)
        os.kill(workers(started)[1], signal.SIGKILL)
        held.unlink()
        began = time.monotonic()
        done = started.wait()
        assert time.monotonic() - began < 60
        assert_failed(done, 1, r"a process of the training died \(signal 9\).*--resume RUN goes on")
        assert "torch/distributed" not in done.err
        assert marked(started.folder) == []
    (here / "json.py").unlink()
    for end in together(2, "train", "--resume", "run", cwd=here):
        assert end.code == 0, end.err
    assert_same_end(here / "run", whole)


@pytest.mark.slow
def test_R16_main_process_is_killed(here: Path) -> None:
    """The processes that it has started save and end, and are gone within ten seconds."""
    with launched(COMMAND, *TRAIN, "--epochs", "100000", "--processes", "2", "-o", "run", cwd=here) as started:
        wait_until(lambda: len(epochs(here / "run")) >= 2)
        assert len(workers(started)) == 2
        os.kill(started.pid, signal.SIGKILL)
        wait_until(lambda: not workers(started), seconds=10)
        assert re.search(r"saved epoch \d+ step \d+; resume with: cnn train --resume run", started.error_so_far())
    assert not (here / "run" / ".lock").exists()


@pytest.mark.slow
def test_R10_terminated(here: Path, tmp_path: Path, whole: Path) -> None:
    """SIGTERM to the one that started them: all stop at the same step, the first saves, and the run goes on to the same bit."""
    held = hold(here, 50)
    arguments = (*TRAIN, "--epochs", str(EPOCHS), "--processes", "2", "-o", "run")
    with launched(COMMAND, *arguments, cwd=here, **that_wait(tmp_path / "site")) as started:
        wait_until(lambda: len(epochs(here / "run")) == 2)
        os.kill(started.pid, signal.SIGTERM)
        held.unlink()
        done = started.wait()
        assert done.code == 143, done.err
        assert marked(started.folder) == []
        assert len(re.findall(r"saved epoch \d+ step \d+; resume with: cnn train --resume run", done.err)) == 1
        assert done.err.count("cnn: terminated") == 1
        assert "error" not in done.err
        assert "torch/distributed" not in done.err
    # Then SIGINT to one of the processes alone.
    held = hold(here, 70)
    group = start_together(2, "train", "--resume", "run", cwd=here, function="held", file=holding.__file__)
    wait_until(lambda: len(epochs(here / "run")) == 3)
    os.kill(group.pids[0], signal.SIGINT)
    held.unlink()
    ends = group.wait()
    assert [end.code for end in ends] == [130, 130], ends
    assert "saved epoch" in ends[0].err
    assert ends[1].err == ""
    for end in together(2, "train", "--resume", "run", cwd=here):
        assert end.code == 0, end.err
        assert "to the bit" not in end.err
    assert_same_end(here / "run", whole)


@pytest.mark.slow
def test_R11_started_anew(here: Path, tmp_path: Path, whole: Path) -> None:
    """torchrun starts the same command line anew after a process is killed: it takes up what there is in its run folder."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "3", "--monitor-interval", "0.2")
    arguments = (*torchrun, "-m", "cnncli", *TRAIN, "--epochs", str(EPOCHS), "--device", "cpu", "-o", "run")
    held = hold(here, 50)
    with launched(*arguments, cwd=here, TMPDIR=str(here), **that_wait(tmp_path / "site")) as started:
        wait_until(lambda: len(epochs(here / "run")) == 2 and len(workers(started)) == 2)
        os.kill(workers(started)[1], signal.SIGKILL)
        held.unlink()
        done = started.wait()
        assert done.code == 0, done.err
        assert marked(started.folder) == []
    assert_same_end(here / "run", whole)


@pytest.mark.slow
def test_R12_shares_that_are_not_equal(here: Path) -> None:
    """Three processes; thirteen images and four to validate, then two: nothing hangs, and each is counted once."""
    make_folder(here / "data", {"train/a": 7, "train/b": 6, "val/a": 2, "val/b": 2})
    make_folder(here / "few", {"train/a": 7, "train/b": 6, "val/a": 1, "val/b": 1})
    net = ("train", "conv3-4/p1 relu GAP FC-2", "--input", "1x8x8", "--lr", "0.01", "--epochs", "2", "--batch-size", "4", "--device", "cpu")
    for data in ("data", "few"):
        for count in (1, 3):
            for done in together(count, *net, "--data", data, "-o", f"{data}-{count}", cwd=here):
                assert done.code == 0, done.err
        one, three = ([json.loads(line) for line in (here / f"{data}-{n}" / "metrics.jsonl").read_text().splitlines()] for n in (1, 3))
        for alone, shared in zip(one, three, strict=True):
            for figure in ("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_top5"):
                assert shared[figure] == alone[figure]
            assert shared["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
    first, *others = together(3, *net, "--data", "few", "--batch-size", "2", cwd=here)
    assert_failed(first, 2, "--batch-size 2 is fewer images than the 3 processes")
    make_folder(here / "tiny", {"a": 2, "b": 2})
    first, *others = together(3, *net, "--data", "tiny", "--val-fraction", "0", cwd=here)
    assert_failed(first, 2, "4 images cannot be shared by 3 processes")
    assert [done.err for done in others] == ["", ""]


@pytest.mark.slow
def test_R13_one_writes_and_talks(here: Path) -> None:
    make_folder(here / "data", {"a": 60, "b": 60})
    (here / "data" / "a" / "broken.png").write_bytes(harness.png()[:40])
    (here / "data" / "b" / ".DS_Store").write_bytes(b"x")
    net = ("train", "conv3-4/p1 relu GAP FC-2", "--input", "1x8x8", "--lr", "0.01", "--epochs", "3", "--batch-size", "4", "--device", "cpu")
    held = hold(here, 5)
    group = start_together(2, *net, "--data", "data", "-o", "run", cwd=here, function="held", file=holding.__file__)
    lock = here / "run" / ".lock"
    wait_until(lambda: lock.exists() and lock.stat().st_size > 0)
    assert json.loads(lock.read_text())["pid"] == group.pids[0]
    held.unlink()
    first, other = group.wait()
    assert (first.code, other.code) == (5, 5)
    assert (other.out, other.err) == ("", "")
    said = [line for line in first.err.splitlines() if not line.startswith("epoch ")]
    assert len(said) == len(set(said)), first.err
    assert sum("broken.png" in line for line in said) <= 1
    assert len((here / "run" / "bad_images.txt").read_text().splitlines()) == 1
    assert len((here / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    # Where the folder exists, the first one says so and both end.
    with unchanged(here):
        first, other = together(2, *net, "--data", "data", "-o", "run", cwd=here)
    assert_failed(first, 2, "run folder exists: run")
    assert other.code != 0
    assert other.err == ""


@pytest.mark.slow
def test_R14_another_number_of_processes(here: Path) -> None:
    """The batch of a step is that of all processes, so that it stays; in the middle of an epoch, too."""
    arguments = (*TRAIN, "--epochs", str(EPOCHS), "--device", "cpu", "-o", "run")
    held = hold(here, 25)
    group = start_together(2, *arguments, cwd=here, function="held", file=holding.__file__)
    wait_until(lambda: len(epochs(here / "run")) == 1)
    os.kill(group.pids[1], signal.SIGTERM)
    held.unlink()
    assert [done.code for done in group.wait()] == [143, 143]
    first, *_ = together(3, "train", "--resume", "run", cwd=here)
    assert first.code == 0, first.err
    assert first.err.count("note: the end will not be the same to the bit: 2 processes before, 3 now") == 1
    (alone,) = together(1, *TRAIN, "--epochs", str(EPOCHS), "--device", "cpu", "-o", "alone", cwd=here)
    assert alone.code == 0, alone.err
    logs = [[json.loads(line) for line in (here / name / "metrics.jsonl").read_text().splitlines()] for name in ("run", "alone")]
    for mixed, one in zip(*logs, strict=True):
        assert mixed["step"] == one["step"]
        assert mixed["train_loss"] == pytest.approx(one["train_loss"], rel=1e-2)
        assert mixed["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=0.02)
    first, other = together(2, "train", "--resume", "run", "--batch-size", "32", cwd=here)
    assert_failed(first, 2, r"--batch-size 32 \(was 64\)")
    assert other.err == ""


@pytest.mark.slow
def test_R15_processes_that_do_not_find_each_other(here: Path) -> None:
    """Whether it is the address, the name, or a port that another one has: exit 4 in bounded time, and a line that names it."""
    command = ("train", "mlp", "--device", "cpu", "--stall-timeout", "2")
    with unchanged(here), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy, free = str(taken.getsockname()[1]), str(ranks.free_port())
        began = time.monotonic()
        for rank, host, port in (("1", "127.0.0.1", free), ("1", "no-such-host.invalid", free), ("0", "127.0.0.1", busy)):
            variables = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": host, "MASTER_PORT": port}
            done = run(*command, cwd=here, warm=host == "127.0.0.1", **variables)
            assert_failed(done, 4, f"the processes do not find each other at {host}:{port}.*check MASTER_ADDR and MASTER_PORT")
            if host != "127.0.0.1":  # of torch that is loaded with `cnn`
                assert len(done.err.splitlines()) == 1, done.err
        assert time.monotonic() - began < 60
