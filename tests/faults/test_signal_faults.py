"""Training that is asked to stop or to save, at every point of it; reading that hangs; readers of its output that go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import harness
import pytest
from harness import Done, Started, assert_failed, make_folder, run, start

pytestmark = pytest.mark.slow
STOPS = [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
NAMES = ["sigterm", "ctrl-c"]
TINY = ("conv3-4 relu maxpool FC-10", "--input", "1x8x8", "--limit-per-class", "20")
LONG = ("conv3-4 relu maxpool FC-10", "--input", "1x8x8", "--batch-size", "1", "--epochs", "100000")  # more than a thousand steps an epoch
STREAM = ("conv3-4 relu maxpool FC-2", "--input", "1x8x8", "--data", "data", "--store", "stream", "--batch-size", "8", "--workers", "2")
SOON = 10.0  # seconds that a run has to save and leave

# Reading a file whose path contains what the file `hang` says takes as long as that file is there; `hanging` is made when it begins.
# Likewise a flush of the state's file while there is a file `slow`.
HOOK = """
import io, os, time
def wait(name, word):
    open_("%s" % word, "w").close()
    while os.path.exists(name):
        time.sleep(0.05)
open_, fsync = io.open, os.fsync
def opened(file, *rest, **more):
    if not isinstance(file, int) and os.path.exists("hang"):
        with open_("hang") as asked:
            if asked.read().strip() in os.fspath(file):
                wait("hang", "hanging")
    return open_(file, *rest, **more)
def flushed(descriptor):
    if os.path.exists("slow") and "state.safetensors" in os.readlink("/proc/self/fd/%d" % descriptor):
        wait("slow", "saving")
    return fsync(descriptor)
io.open, os.fsync = opened, flushed
"""


def until(condition: Callable[[], bool], started: Started) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, started.error_so_far()
        time.sleep(0.005)


def position(folder: Path) -> dict[str, int]:
    from cnncli.engine.state import read_description

    return read_description(folder)["position"]


def saved(folder: Path, *, epoch: int = 1, step: int = 0) -> bool:
    if not (folder / "state.safetensors").exists():
        return False
    found = position(folder)
    return (found["epoch"], found["step"]) >= (epoch, step)


def ended(started: Started, number: int, code: int) -> Done:
    """Send a signal and wait: soon, with this code, and no process of its group is left."""
    harness.stop(started, number)
    began = time.monotonic()
    done = started.wait()
    assert time.monotonic() - began < SOON, done.err
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert done.errors == []
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)
    return done


def assert_told(done: Done, folder: Path, word: str) -> None:
    """Where it stopped, how to go on, and which signal it was."""
    found = position(folder)
    assert f"saved epoch {found['epoch']} step {found['step']}; resume with: cnn train --resume run" in done.err
    assert done.err.splitlines()[-1] == f"cnn: {word}"


@pytest.mark.parametrize(("number", "code", "word"), STOPS, ids=NAMES)
def test_T5_in_a_step(number: int, code: int, word: str, here: Path) -> None:
    """No state is due for minutes; the signal saves one."""
    started = start("train", *LONG, "-o", "run", cwd=here, warm=True)
    until(lambda: saved(here / "run"), started)
    time.sleep(0.3)
    done = ended(started, number, code)
    assert_told(done, here / "run", word)
    assert position(here / "run")["step"] > 0
    assert {path.name for path in (here / "run").iterdir()} >= {"config.toml", "state.safetensors"}
    assert not [path for path in (here / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("moment", [0.15, 0.4, 0.8, 1.3])
@pytest.mark.parametrize(("number", "code", "word"), STOPS, ids=NAMES)
def test_T4_at_the_start(number: int, code: int, word: str, moment: float, here: Path) -> None:
    """Before there is anything to save nothing is left; after that, what can be resumed."""
    started = start("train", *TINY, "--epochs", "100000", "-o", "run", cwd=here, warm=True)
    time.sleep(moment)
    done = ended(started, number, code)
    assert done.err.splitlines()[-1] == f"cnn: {word}"
    if (here / "run" / "state.safetensors").exists():
        position(here / "run")
    assert not list((here / "run").glob(".*")) if (here / "run").exists() else not list(here.iterdir())


@pytest.fixture
def streamed(here: Path) -> None:
    """Images in a folder."""
    make_folder(here / "data", {"train/a": 40, "train/b": 40, "val/a": 8, "val/b": 8})


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("where", ["data/train/", "data/val/"])
@pytest.mark.parametrize(("number", "code", "word"), STOPS, ids=NAMES)
def test_T4_while_reading_hangs(number: int, code: int, word: str, where: str, here: Path) -> None:
    """In the midst of an epoch, and in validation: nobody waits for a disk. Later it goes on to the same end."""
    started = start("train", *STREAM, "--epochs", "100000", "-o", "run", cwd=here, warm=True, first=HOOK)
    until(lambda: saved(here / "run", epoch=2), started)
    (here / "hang").write_text(where)
    until((here / "hanging").exists, started)
    time.sleep(0.2)
    done = ended(started, number, code)
    assert_told(done, here / "run", word)
    reached = position(here / "run")
    assert reached["step"] == 10 if "val" in where else reached["step"] <= 10
    (here / "hang").unlink()
    done = run("train", "--resume", "run", "--epochs", str(reached["epoch"]), cwd=here, warm=True)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, reached["epoch"] + 1))


@pytest.mark.usefixtures("streamed")
def test_T10_reading_hangs(here: Path) -> None:
    started = start("train", *STREAM, "--epochs", "100000", "--stall-timeout", "1", "-o", "run", cwd=here, warm=True, first=HOOK)
    until(lambda: saved(here / "run", epoch=2), started)
    (here / "hang").write_text("data/train/")
    until((here / "hanging").exists, started)
    began = time.monotonic()
    done = started.wait()
    assert time.monotonic() - began < SOON
    assert_failed(done, 1, r"reading images stalls: .*train/[ab]/\d+.png takes longer than 1 s; .*--stall-timeout")
    assert position(here / "run")["steps"] > 0


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(("number", "code", "word"), STOPS, ids=NAMES)
def test_G13_a_second_signal_during_the_save(number: int, code: int, word: str, here: Path) -> None:
    """It ends at once, and the state before is whole."""
    started = start("train", *STREAM, "--epochs", "100000", "-o", "run", cwd=here, warm=True, first=HOOK)
    until(lambda: saved(here / "run", epoch=2), started)
    (here / "slow").touch()
    harness.stop(started, number)
    until((here / "saving").exists, started)
    before = (here / "run" / "state.safetensors").read_bytes()
    harness.stop(started, number)
    began = time.monotonic()
    done = started.wait()
    assert time.monotonic() - began < 3
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert (here / "run" / "state.safetensors").read_bytes() == before
    (here / "slow").unlink()
    epoch = position(here / "run")["epoch"]
    assert run("train", "--resume", "run", "--epochs", str(epoch + 1), cwd=here, warm=True).code == 0


def test_T6_the_terminal_goes_away(here: Path) -> None:
    started = start("train", *LONG, "-o", "run", cwd=here, warm=True)
    until(lambda: saved(here / "run"), started)
    time.sleep(0.3)
    assert_told(ended(started, signal.SIGHUP, 143), here / "run", "terminated")


def test_T6_save_and_go_on(here: Path) -> None:
    started = start("train", *LONG, "-o", "run", cwd=here, warm=True)
    until(lambda: saved(here / "run"), started)
    found = []
    for _ in range(3):
        time.sleep(0.1)
        before = position(here / "run")
        harness.stop(started, signal.SIGUSR1)
        until(lambda: position(here / "run") != before, started)  # noqa: B023 - asked at once
        found.append(position(here / "run"))
    assert any(0 < place["step"] for place in found)
    assert "resume with" not in started.error_so_far()
    ended(started, signal.SIGTERM, 143)


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_G2_the_reader_of_a_long_run_goes_away(both: bool, here: Path) -> None:
    """The talk ends; the training does not."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [harness.COMMAND, "train", *TINY, "--epochs", "8", "-o", "run"],
        cwd=here,
        env=harness.environment(),
        stdout=writing,
        stderr=writing if both else subprocess.DEVNULL,
    )
    os.close(writing)
    if both:
        assert os.read(reading, 1)
    os.close(reading)
    assert process.wait(60) == 0
    assert (here / "run" / "metrics.jsonl").read_text().count("\n") == 8
    assert json.loads((here / "run" / "result.json").read_text())["finished"] is True
