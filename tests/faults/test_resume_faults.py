"""Going on with a run: damaged and foreign states, other words, other images, and folders that another process has."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import assert_failed, make_folder, run, unchanged
from ranks import epochs, wait_until

pytestmark = pytest.mark.slow
TINY = ("conv3-4 relu maxpool FC-10", "--input", "1x8x8", "--limit-per-class", "20")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three epochs. Tests copy it."""
    folder = tmp_path_factory.mktemp("three")
    done = run("train", *TINY, "--epochs", "3", "-o", "run", cwd=folder, warm=True)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def copied(three: Path, here: Path) -> Path:
    """The run as it is when its last save, after epoch 3, has failed."""
    shutil.copytree(three, here / "run")
    (here / "run" / "result.json").unlink()
    return here / "run"


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(folder)]


def tensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(path)


def assert_same_weights(one: Path, other: Path) -> None:
    import torch

    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_R3_a_finished_run(three: Path, here: Path) -> None:
    shutil.copytree(three, here / "run")
    with unchanged(here):
        done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert done.out == ""
    assert "run is already finished (3/3 epochs); use --epochs 6 to extend it" in done.err


def test_R3_a_finished_run_that_was_killed_before_its_curves(three: Path, here: Path) -> None:
    shutil.copytree(three, here / "run")
    (here / "run" / "curves.png").unlink()
    (here / "run" / ".cnn-part-x").mkdir()
    (here / "run" / ".cnn-part-x" / "curves.png").write_bytes(b"half")
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert sorted(os.listdir(here / "run")) == sorted(os.listdir(three))
    assert (here / "run" / "curves.png").read_bytes() == (three / "curves.png").read_bytes()


DIFFERENT = {
    "rate": (("--lr", "0.5"), r"--lr 0.5 \(was 0.05\)"),
    "net": (("lenet5",), r"NET lenet5 \(was conv3-4 relu maxpool FC-10\)"),
    "batch": (("--batch-size", "32"), r"--batch-size 32 \(was 64\)"),
    "data": (("--data", "cifar10"), r"--data cifar10 \(was digits\)"),
    "seed": (("--seed", "3"), r"--seed 3 \(was 0\)"),
    "input": (("--input", "1x9x9"), r"--input 1x9x9 \(was 1x8x8\)"),
    "mirror": (("--flip",), r"--flip True \(was False\)"),
    "precision": (("--precision", "bf16"), r"--precision bf16 \(was fp32\)"),
    "arguments": (("--set", "hidden=3"), "--set"),
    "several": (("--lr", "0.5", "--seed", "3", "--epochs", "9"), r"--lr 0.5 \(was 0.05\), .*--seed 3 \(was 0\)|--seed 3.*--lr 0.5"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_R4_other_words_than_stored(case: str, three: Path, here: Path) -> None:
    words, pattern = DIFFERENT[case]
    shutil.copytree(three, here / "run")
    with unchanged(here):
        done = run("train", "--resume", "run", *words, cwd=here, warm=True)
    assert_failed(done, 2, pattern)
    assert "--epochs 9 (" not in done.err


def test_R4_the_same_words_and_those_that_may_change(copied: Path, here: Path) -> None:
    words = ("conv3-4 relu maxpool FC-10", "--lr", "0.05", "--data", "digits", "--batch-size", "64", "--input", "1x8x8")
    free = ("--epochs", "4", "--workers", "1", "--device", "cpu", "--save-every", "1", "--patience", "50", "--stall-timeout", "9")
    done = run("train", "--resume", "run", *words, *free, cwd=here, warm=True)
    assert done.code == 0, done.err
    assert [row["epoch"] for row in rows(copied)] == [1, 2, 3, 4]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-50] ^= 4
    path.write_bytes(data)


def replaced_by_a_page(path: Path) -> None:
    path.write_bytes(harness.HTML)


def replaced_by_a_model(path: Path) -> None:
    path.write_bytes((path.parent / "best.safetensors").read_bytes())


def fact_changed(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'\\"steps\\": 12') >= 1
    path.write_bytes(data.replace(b'\\"steps\\": 12', b'\\"steps\\": 13'))


DAMAGE = [emptied, cut_off, cut_in_the_header, flipped, replaced_by_a_page, replaced_by_a_model, fact_changed]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_R5_newest_state_damaged(damage: Callable[[Path], None], copied: Path, three: Path, here: Path) -> None:
    """The one before it is taken, with a warning; the end is the same."""
    damage(copied / "state.safetensors")
    with unchanged(here):
        done = run("train", "--resume", "run", "--strict-resume", cwd=here, warm=True)
    assert_failed(done, 3, "run/state.safetensors")
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "run/state.safetensors" in warning
    assert warning.endswith("the state before it is taken, from epoch 3 step 0"), warning
    assert_same_weights(copied / "last.safetensors", three / "last.safetensors")
    assert timeless(copied) == timeless(three)


def test_R5_both_states_damaged(copied: Path, here: Path) -> None:
    flipped(copied / "state.safetensors")
    emptied(copied / "state-before.safetensors")
    with unchanged(here):
        assert_failed(run("train", "--resume", "run", cwd=here, warm=True), 3, "run/state.safetensors")


def test_R6_nothing_to_go_on_with(three: Path, here: Path) -> None:
    shutil.copytree(three, here / "run")
    (here / "run" / "state.safetensors").unlink()
    (here / "run" / "state-before.safetensors").unlink()
    (here / "empty").mkdir()
    (here / "file").write_text("x")
    with unchanged(here):
        for name, pattern in (
            ("run", "run holds no state.safetensors"),
            ("empty", "empty holds no state.safetensors"),
            ("absent", "--resume absent is not there"),
            ("file", "--resume file is a file"),
            ("run/best.safetensors", "--resume run/best.safetensors is a file"),
        ):
            assert_failed(run("train", "--resume", name, cwd=here, warm=True), 3, pattern)


def test_R6_only_the_older_state(copied: Path, three: Path, here: Path) -> None:
    (copied / "state.safetensors").unlink()
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_weights(copied / "last.safetensors", three / "last.safetensors")


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A whole state that says something else."""
    from cnncli.models.tensorfile import KEY, load_tensors, read_header, read_metadata, save_tensors

    metadata = read_metadata(path, read_header(path))
    description = json.loads(metadata[KEY])
    found = load_tensors(path, metadata)
    change(description)
    save_tensors(path, found, description)


def test_R7_a_state_of_a_newer_version(copied: Path, here: Path) -> None:
    """It is not passed over for an older one: that would throw away what was reached."""
    edited(copied / "state.safetensors", lambda found: found.update(format=3))
    with unchanged(here):
        done = run("train", "--resume", "run", cwd=here, warm=True)
    assert_failed(done, 3, r"run/state.safetensors: its format is 3, this version reads 1; pip install -U cnncli")


@pytest.mark.parametrize(("fact", "value"), [("device", "cuda"), ("threads", 7)])
def test_R8_computed_elsewhere(fact: str, value: object, copied: Path, here: Path) -> None:
    """It goes on, and says that the end is not the same to the bit."""
    edited(copied / "state.safetensors", lambda found: found["facts"].update({fact: value}))
    done = run("train", "--resume", "run", "--epochs", "4", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if "will not be the same to the bit" in line and str(value) in line]
    assert [row["epoch"] for row in rows(copied)] == [1, 2, 3, 4]


# ---- other images ----


def folder_run_of(here: Path, store: str) -> Path:
    make_folder(here / "data", {"train/a": 12, "train/b": 12, "val/a": 4, "val/b": 4})
    words = ("conv3-4 relu maxpool FC-2", "--input", "1x8x8", "--data", "data", "--store", store, "--epochs", "2", "-o", "run")
    done = run("train", *words, cwd=here, warm=True)
    assert done.code == 0, done.err
    (here / "run" / "result.json").unlink()
    return here / "data"


def added(data: Path) -> None:
    harness.picture(99).save(data / "train" / "a" / "new.png")


def removed(data: Path) -> None:
    (data / "train" / "b" / "003.png").unlink()


def edited_image(data: Path) -> None:
    harness.picture(98, size=(11, 9)).save(data / "val" / "b" / "001.png")


def renamed(data: Path) -> None:
    (data / "train" / "b" / "003.png").rename(data / "train" / "b" / "zzz.png")


CHANGES = {
    "added": (added, "train had 24 images and has 25"),
    "removed": (removed, "train had 24 images and has 23"),
    "edited": (edited_image, "val had 8 images and has 8"),
    "renamed": (renamed, "train had 24 images and has 24"),
}


@pytest.mark.parametrize("store", ["memory", "stream"])
@pytest.mark.parametrize("case", CHANGES)
def test_D27_images_changed_before_a_resume(case: str, store: str, here: Path) -> None:
    change, words = CHANGES[case]
    change(folder_run_of(here, store))
    with unchanged(here):
        done = run("train", "--resume", "run", "--epochs", "3", cwd=here, warm=True)
    assert_failed(done, 3, f"the images of data have changed since the run began: {words}; --accept-data-change goes on with these")
    done = run("train", "--resume", "run", "--epochs", "3", "--accept-data-change", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert f"warning: the images of data have changed since the run began: {words}" in done.err
    assert [row["epoch"] for row in rows(here / "run")] == [1, 2, 3]
    again = run("train", "--resume", "run", "--epochs", "4", cwd=here, warm=True)
    assert again.code == 0, again.err
    assert "have changed" not in again.err, "what was accepted is what is compared from then on"


def test_D27_classes_changed_before_a_resume(here: Path) -> None:
    data = folder_run_of(here, "memory")
    (data / "train" / "b").rename(data / "train" / "c")
    (data / "val" / "b").rename(data / "val" / "c")
    for words in ((), ("--accept-data-change",)):
        with unchanged(here):
            done = run("train", "--resume", "run", "--epochs", "3", *words, cwd=here, warm=True)
        assert_failed(done, 3, "the classes of data are not those that run learned")


def test_D27_images_that_are_gone_before_a_resume(here: Path) -> None:
    shutil.rmtree(folder_run_of(here, "memory"))
    with unchanged(here):
        assert_failed(run("train", "--resume", "run", "--epochs", "3", cwd=here, warm=True), 3, "data")


# ---- folders that exist, or are in use ----


def test_G16_a_run_folder_that_exists(three: Path, here: Path) -> None:
    shutil.copytree(three, here / "run")
    (here / "other").mkdir()
    (here / "other" / "mine.txt").write_text("mine")
    with unchanged(here):
        for name in ("run", "other"):
            done = run("train", *TINY, "-o", name, cwd=here, warm=True)
            assert_failed(done, 2, f"run folder exists: {name}; use --resume or --overwrite")
    done = run("train", *TINY, "--epochs", "1", "-o", "other", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert (here / "other" / "mine.txt").read_text() == "mine", "only what a run writes is replaced"
    done = run("train", *TINY, "--epochs", "1", "--val-fraction", "0", "-o", "run", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert len(rows(here / "run")) == 1


def test_G17_two_at_once(here: Path) -> None:
    """The second names the first, and touches nothing; the lock of a process that was killed is nobody's."""
    first = harness.start("train", *TINY, "--epochs", "100000", "-o", "run", cwd=here, warm=True)
    deadline = time.monotonic() + 60
    while not (here / "run" / "best.safetensors").exists():
        assert time.monotonic() < deadline, first.error_so_far()
        time.sleep(0.02)
    words = rf"run is in use by pid {first.pid} on host {platform.node()}: run"
    # Not by the server, which has one child at a time.
    for more in (("--resume", "run"), (*TINY, "-o", "run"), (*TINY, "-o", "run", "--overwrite")):
        assert_failed(run("train", *more, cwd=here), 3, words)
    harness.stop(first)
    first.wait()
    assert (here / "run" / ".lock").exists()
    done = run("train", *TINY, "--epochs", "1", "-o", "run", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert not (here / "run" / ".lock").exists()


# ---- disks ----


def on_a_small_disk(here: Path, megabytes: float, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a small file system at `disk`, which ends with it."""
    size = int(megabytes * 2**20)
    (here / "disk").mkdir(exist_ok=True)
    front = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size={size} tmpfs disk || exit 77\n{script}"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is absent")
    done = subprocess.run(front, cwd=here, env=harness.environment(), capture_output=True, text=True, timeout=100, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no small file system can be mounted here")
    return done


def test_T2_disk_full(here: Path) -> None:
    """Room for the first epoch, and not for another save; what was there stays whole, and goes on elsewhere."""
    words = " ".join(f"'{word}'" for word in (*TINY, "--epochs", "100000", "--save-every", "0"))
    filler = "until [ -f disk/run/best.safetensors ]; do sleep 0.1; done; dd if=/dev/zero of=disk/filler bs=1k count=9000 2>/dev/null"
    done = on_a_small_disk(
        here,
        2,
        f"({filler}) & cnn train {words} -o disk/run 2>err; code=$?; wait; ls -a disk/run >names; cp -r disk/run copied; exit $code",
    )
    told = (here / "err").read_text()
    assert done.returncode == 4, told
    (line,) = [line for line in told.splitlines() if line.startswith("cnn: error:")]
    assert "disk full writing disk/run/" in line or "No space left" in line or "cannot write disk/run" in line
    assert "Traceback" not in told
    assert ".cnn-part" not in (here / "names").read_text()
    assert_whole(here / "copied")
    last = position(here / "copied")["epoch"] + 3
    done = run("train", "--resume", "copied", "--epochs", str(last), cwd=here, warm=True)
    assert done.code == 0, done.err
    assert [row["epoch"] for row in rows(here / "copied")] == list(range(1, last + 1))


def position(folder: Path) -> dict[str, int]:
    from cnncli.engine.state import read_description

    return read_description(folder)["position"]


def assert_whole(folder: Path) -> None:
    from cnncli.engine.state import load_state
    from cnncli.models.modelfile import load

    load_state(folder, strict=True)
    for name in ("best.safetensors", "last.safetensors"):
        if (folder / name).exists():
            load(folder / name)
    rows(folder)


SHIM = """
import errno, os, sys
if "train" in sys.argv:
    real, left = os.fsync, [{after}, {times}]
    def fsync(descriptor):
        name = os.readlink(f"/proc/self/fd/{{descriptor}}")
        if "state.safetensors" in name:
            left[0] -= 1
            if left[0] < 0 < left[1]:
                left[1] -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor)
    os.fsync = fsync
"""


@pytest.mark.parametrize(("times", "code"), [(1, 0), (2, 4)])
def test_T3_the_disk_fails(times: int, code: int, here: Path, tmp_path: Path) -> None:
    """Once is tried again; twice ends the run, and what was saved before is whole."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHIM.format(after=3, times=times))
    done = run("train", *TINY, "--epochs", "6", "-o", "run", cwd=here, PYTHONPATH=str(tmp_path / "site"))
    assert done.code == code, done.err
    assert not [path.name for path in (here / "run").iterdir() if ".cnn-part" in path.name]
    if code:
        assert_failed(done, 4, "cannot write run/state.safetensors: Input/output error")
        assert_whole(here / "run")
        done = run("train", "--resume", "run", cwd=here, warm=True)
        assert done.code == 0, done.err
    assert [row["epoch"] for row in rows(here / "run")] == [1, 2, 3, 4, 5, 6]


def test_T24_pruning_keeps_a_whole_state(copied: Path, here: Path) -> None:
    """A new state never replaces the only good one: at each save the older goes only once the newer is whole. Here it cannot go."""
    from cnncli.engine.state import BEFORE, STATE, load_state, save_state

    state = load_state(copied)
    (copied / BEFORE).unlink()
    (copied / BEFORE).mkdir()  # a name that cannot be replaced
    save_state(copied, state)
    assert load_state(copied, strict=True).where == state.where
    assert sorted(path.name for path in copied.iterdir() if "state" in path.name) == sorted([STATE, BEFORE])


def test_T22_the_log_is_deleted_under_the_run(here: Path) -> None:
    """The run goes on and writes a new one; a resume has all epochs again, from the state."""
    started = harness.start("train", *TINY, "--epochs", "100000", "-o", "run", cwd=here, warm=True)
    log = here / "run" / "metrics.jsonl"
    wait_until(lambda: len(epochs(here / "run")) >= 3, pause=0.005)
    log.unlink()
    wait_until(lambda: len(epochs(here / "run")) >= 2, pause=0.005)
    harness.stop(started, signal.SIGTERM)
    done = started.wait()
    assert done.code == 143, done.err
    first, *_, last = epochs(here / "run")
    assert first > 3, "a new log, of the epochs since then"
    done = run("train", "--resume", "run", "--epochs", str(last + 1), cwd=here, warm=True)
    assert done.code == 0, done.err
    assert epochs(here / "run") == list(range(1, last + 2))
