"""Extracting features where the process is killed, the disk is full, layers are unknown and names are odd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from harness import Trained, assert_failed, png, run, start, tree, unchanged
from ranks import together

from cnncli.features.files import read_features
from cnncli.features.parts import folder_for

pytestmark = pytest.mark.slow

SMALL_BLOCKS = "import cnncli.features.extract as e; e.BLOCK = 64"
AT_WRITE = """
import os, time
import cnncli.features.extract as e, cnncli.features.parts as p
e.BLOCK = 64
write = p.Parts.write
def changed(self, number, block):
    {before}
    write(self, number, block)
    {behind}
p.Parts.write = changed
"""
SLOW = AT_WRITE.format(before="", behind="time.sleep(0.15)")
SLOW_BLOCKS = """
import time, cnncli.features.parts as p
write = p.Parts.write
def changed(self, number, block):
    write(self, number, block)
    time.sleep(5)
p.Parts.write = changed
"""
FULL = f"""
{SMALL_BLOCKS}
import errno, cnncli.features.parts as p
savez, count = p.np.savez, 0
def changed(file, **arrays):
    global count
    count += 1
    if count == 4:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    savez(file, **arrays)
p.np.savez = changed
"""
FULL_AT_THE_END = f"""
{SMALL_BLOCKS}
import errno, cnncli.features.numpy_files as f
def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
f._header = fail
"""


def command(run_folder: Path, *words: str) -> list[str | Path]:
    return ["features", "extract", run_folder, "--data", "digits", "-o", "f.npz", *words]


def wait_for_blocks(home: Path, count: int) -> None:
    folder = folder_for(home / "f.npz")
    ends = time.monotonic() + 60
    while len(list(folder.glob("block-*.npz"))) < count:
        assert time.monotonic() < ends, "no blocks came"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(digits_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The arrays of an extraction that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    done = run(*command(digits_run.folder), cwd=home, warm=True, first=SMALL_BLOCKS)
    assert done.code == 0, done.err
    with np.load(home / "f.npz") as file:
        return {name: file[name] for name in file.files}


def assert_whole(home: Path, whole: dict[str, np.ndarray]) -> None:
    with np.load(home / "f.npz") as file:
        assert all(np.array_equal(file[name], array) for name, array in whole.items() if name != "about")
    assert [path.name for path in home.iterdir()] == ["f.npz"]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_X1_stopped_in_the_middle(how: signal.Signals, code: int, here: Path, digits_run: Trained, whole: dict[str, np.ndarray]) -> None:
    """Blocks are there, the file is not; the same command goes on and ends in the same bytes."""
    started = start(*command(digits_run.folder), cwd=here, warm=True, first=SLOW)
    wait_for_blocks(here, 4)
    os.kill(started.pid, how)
    done = started.wait()
    assert done.code in (code, 128 - code)
    assert not (here / "f.npz").exists()
    blocks = tree(folder_for(here / "f.npz"))
    assert len(blocks) >= 5
    done = run(*command(digits_run.folder), cwd=here, warm=True, first=SMALL_BLOCKS)
    assert done.code == 0, done.err
    assert "going on: " in done.err
    assert_whole(here, whole)


def test_X1_killed_at_every_block(here: Path, digits_run: Trained, whole: dict[str, np.ndarray]) -> None:
    """A process that dies right after each block it has written, until nothing is left to do."""
    dying = AT_WRITE.format(before="", behind="os.kill(os.getpid(), 9)")
    for number in range(1, 6):
        assert run(*command(digits_run.folder), cwd=here, warm=True, first=dying).code == -9
        assert len(list(folder_for(here / "f.npz").glob("block-*.npz"))) == number
    assert run(*command(digits_run.folder), cwd=here, warm=True, first=SMALL_BLOCKS).code == 0
    assert_whole(here, whole)


def test_X1_a_disk_that_fills_up(here: Path, digits_run: Trained, whole: dict[str, np.ndarray]) -> None:
    """While blocks are written, and while they are put together: the old file stays, and nothing half is left."""
    (here / "f.npz").write_bytes(b"old")
    done = run(*command(digits_run.folder, "--overwrite"), cwd=here, warm=True, first=FULL)
    assert_failed(done, 4, r"cannot write .*block-000003\.npz: No space left on device")
    assert (here / "f.npz").read_bytes() == b"old"
    assert {path.name for path in folder_for(here / "f.npz").iterdir()} == {"plan.json", *(f"block-{n:06d}.npz" for n in range(3))}
    done = run(*command(digits_run.folder, "--overwrite"), cwd=here, warm=True, first=FULL_AT_THE_END)
    assert_failed(done, 4, r"cannot write f\.npz: No space left on device")
    assert (here / "f.npz").read_bytes() == b"old"
    assert run(*command(digits_run.folder, "--overwrite"), cwd=here, warm=True, first=SMALL_BLOCKS).code == 0
    assert_whole(here, whole)


def test_X1_other_settings_do_not_go_on(here: Path, digits_run: Trained) -> None:
    """Blocks of one layer are never mixed with those of another."""
    started = start(*command(digits_run.folder), cwd=here, warm=True, first=SLOW)
    wait_for_blocks(here, 2)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    with unchanged(here):
        done = run(*command(digits_run.folder, "--layer", "c1"), cwd=here, warm=True, first=SMALL_BLOCKS)
        assert_failed(done, 2, r"f\.npz\.parts holds an extraction with another layers; --overwrite begins anew")
    done = run(*command(digits_run.folder, "--layer", "c1", "--overwrite"), cwd=here, warm=True, first=SMALL_BLOCKS)
    assert done.code == 0
    assert read_features(here / "f.npz").names == ("c1",)


def test_X1_several_processes_share_the_images(here: Path, digits_run: Trained, whole: dict[str, np.ndarray]) -> None:
    """Two, then three that go on where a killed one stopped: the same bytes, and one of them talks."""
    found = together(2, *command(digits_run.folder), cwd=here)
    assert [done.code for done in found] == [0, 0], [done.err for done in found]
    assert "1,797 images" in found[0].out
    assert (found[1].out, found[1].err) == ("", "")
    assert_whole(here, whole)
    (here / "f.npz").unlink()
    started = start(*command(digits_run.folder), cwd=here, warm=True, first=SLOW_BLOCKS)
    wait_for_blocks(here, 1)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    found = together(3, *command(digits_run.folder), cwd=here)
    assert [done.code for done in found] == [0, 0, 0], [done.err for done in found]
    assert_whole(here, whole)


def test_X2_a_layer_that_does_not_exist(here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        for words, pattern in (
            (["--layer", "f7"], "no layer 'f7'; did you mean .*f6"),
            (["--layer", "convolution"], "no layer 'convolution'; the last ones are"),
            (["--layer", "f6", "--layer", "tanh66"], "no layer 'tanh66'; did you mean tanh6"),
            (["--layer", "f6#2"], "f6 runs 1 time"),
            (["--layer", "\x1b[31mf6"], "no layer"),
        ):
            assert_failed(run(*command(digits_run.folder, *words), cwd=here, warm=True), 2, pattern)
            assert_failed(run(*command(digits_run.folder, *words, "--json"), cwd=here, warm=True), 2, pattern, json_out=True)


def test_X3_rows_and_files_belong_together(here: Path, digits_run: Trained) -> None:
    """Names with newlines, quotes, bytes that are no UTF-8; one image twice in a list; one of them unreadable."""
    names = ["a\nb.png", "c,d.png", 'e"f.png', "%s.png", "-g.png", os.fsdecode(b"h\xff.png"), "i.png"]
    (here / "photos").mkdir()
    for number, name in enumerate(names):
        (here / "photos" / name).write_bytes(png(number))
    (here / "photos" / "zbad.png").write_bytes(png(9)[:50])
    words = ["features", "extract", digits_run.folder, "--data", "photos", "--unlabelled"]
    done = run(*words, "-o", "f.npy", cwd=here, warm=True)
    assert_failed(done, 3, "zbad")  # one of eight is more than 1 %
    (here / "photos" / "zbad.png").unlink()
    assert run(*words, "-o", "f.npy", cwd=here, warm=True).code == 0
    lines = [json.loads(line) for line in (here / "f.npy.jsonl").read_text().splitlines()][1:]
    numbers = np.load(here / "f.npy")
    assert [line["row"] for line in lines] == list(range(len(names)))
    for line in lines:
        (here / "one").mkdir(exist_ok=True)
        shutil.copy(here / "photos" / line["path"], here / "one" / "x.png")
        one = ["features", "extract", digits_run.folder, "--data", "one", "--unlabelled", "-o", "o.npy", "--overwrite"]
        assert run(*one, cwd=here, warm=True).code == 0
        assert np.allclose(np.load(here / "o.npy")[0], numbers[line["row"]], atol=1e-5), line
