"""Files are whole or not there: under errors at each step of writing one, and under kills at any moment."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupting import before_every_line

from cnncli import atomic
from cnncli.errors import EnvironmentFault

OLD, NEW = b"the old content", b"the new content, which is longer"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def only(folder: Path, name: str, content: bytes) -> None:
    assert [path.name for path in folder.iterdir()] == [name], "no temporary file is left"
    assert (folder / name).read_bytes() == content


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    atomic.write_bytes(path, OLD)
    only(tmp_path, "x.bin", OLD)
    atomic.write_bytes(path, NEW)
    only(tmp_path, "x.bin", NEW)
    atomic.write_text(path, "Ünï\udcff\n")
    assert path.read_bytes() == "Ünï".encode() + b"\xff\n", "names that are not UTF-8 keep their bytes"


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_bytes(tmp_path / "x", NEW)
        assert os.umask(0o027) == 0o027, "the umask is as it was"
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def failing_write(temporary: Path) -> None:
    temporary.write_bytes(NEW[:5])
    full()


def break_nothing(monkeypatch: pytest.MonkeyPatch) -> None: ...


def break_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)


def break_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "rename", full)
    monkeypatch.setattr(Path, "replace", full)


def break_chmod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", full)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("step", [break_nothing, break_fsync, break_replace, break_chmod])
def test_disk_full_at_each_step(step, existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.safetensors"
    if existing:
        path.write_bytes(OLD)
    write = failing_write if step is break_nothing else (lambda temporary: temporary.write_bytes(NEW))
    with monkeypatch.context() as patched:
        step(patched)
        with pytest.raises(EnvironmentFault, match=r"cannot write .*best\.safetensors: No space left on device") as caught:
            atomic.write_with(path, write)
    assert caught.value.path == str(path)
    if existing:
        only(tmp_path, path.name, OLD)
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_interrupted_in_the_middle(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(OLD)

    def write(temporary: Path) -> None:
        temporary.write_bytes(NEW[:3])
        raise error

    with pytest.raises(error):
        atomic.write_with(path, write)
    only(tmp_path, "x", OLD)


def test_interrupted_before_any_line(tmp_path: Path) -> None:
    """Wherever Ctrl-C falls, in the standard library too: the old file or the new one, whole, and nothing temporary."""
    path = tmp_path / "x"
    path.write_bytes(OLD)
    seen = []
    for _ in before_every_line(lambda: atomic.write_bytes(path, NEW)):
        found = path.read_bytes()
        only(tmp_path, "x", found)
        seen.append(found)
        path.write_bytes(OLD)
    assert len(seen) > 50
    assert set(seen) == {OLD, NEW}


def test_order_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is on the disk before it has its name, and the name is on the disk before the call returns."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def told_fsync(descriptor: int) -> None:
        steps.append("flush " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def told_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(Path, "replace", told_replace)
    folder = tmp_path / "folder"
    folder.mkdir()
    atomic.write_bytes(folder / "x.png", NEW)
    assert len(steps) == 3
    assert steps[0] == "flush x.png", "libraries choose the format by the suffix"
    assert steps[1:] == ["rename", "flush folder"]


def test_stale_files_of_a_killed_process(tmp_path: Path) -> None:
    (tmp_path / ".cnn-part-123-x").write_bytes(b"")
    (tmp_path / ".cnn-part-456").mkdir()
    (tmp_path / ".cnn-part-456" / ".tmp-of-a-library").write_bytes(b"")
    (tmp_path / "cnn-part-of-the-user").write_bytes(b"")
    atomic.remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cnn-part-of-the-user"]


def test_make_folder(tmp_path: Path) -> None:
    atomic.make_folder(tmp_path / "a" / "b")
    atomic.make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="file"):
        atomic.make_folder(tmp_path / "file" / "x")


WRITER = """
import itertools, sys
from pathlib import Path
from cnncli import atomic
path = Path(sys.argv[1])
for number in itertools.count(1):
    atomic.write_bytes(path, bytes([number % 251]) * 300_000)
    if number == 1:
        print("ready", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """50 kills, at moments spread over a few writes each: the file is always whole, and what is left over is removed by the next run."""
    path = tmp_path / "x.bin"
    seen = set()
    moments = random.Random(0)
    for number in range(100):
        if number >= 50 and len(seen) > 3:
            break
        longest = 0.01 if number < 50 else 0.2  # seconds: on a busy machine little is written in ten milliseconds
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0, longest))
        child.kill()
        child.communicate()
        data = path.read_bytes()
        assert len(data) == 300_000, f"kill {number}"
        assert len(set(data)) == 1, f"kill {number}: two contents in one file"
        seen.add(data[0])
    assert len(seen) > 3, "the kills fell at different moments"
    atomic.remove_stale(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]
