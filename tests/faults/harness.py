"""How tests run `cnn`: as a real process with its own folder and its own home, no terminal, and nothing inherited.

`start` (and `run`, which waits) takes the installed command. With warm=True the process is forked from one that has imported torch
already and then goes through the same `main`; that saves seconds each, and is for what happens after the imports.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from warm import SERVER

COMMAND = str(Path(sys.executable).parent / "cnn")
LONGEST = 120  # seconds; nothing here needs more than a few
ESCAPE = re.compile(r"\x1b")


@dataclass(frozen=True)
class Done:
    """What a process left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("cnn: error:")]


@dataclass
class Started:
    """A running process; `wait` gives what it left."""

    pid: int
    folder: Path
    finish: Any

    def wait(self) -> Done:
        code = self.finish()
        raw = [(self.folder / name).read_bytes().decode("utf-8", "surrogateescape") for name in ("out", "err")]
        return Done(code, *raw)

    def error_so_far(self) -> str:
        return (self.folder / "err").read_text("utf-8", "replace")


@cache
def scratch() -> Path:
    """A folder for the session: the home of every process, and what libraries keep between runs."""
    made = tempfile.TemporaryDirectory(prefix="cnn-tests-")
    scratch.keep = made  # type: ignore[attr-defined]  # removed when this process ends
    folder = Path(made.name)
    (folder / "home").mkdir()
    (folder / "matplotlib").mkdir()
    return folder


def environment(**changes: str | None) -> dict[str, str]:
    """The variables of a process: few, and the same on every machine. None removes one."""
    base: dict[str, str | None] = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch() / "home"),
        "LANG": "C.UTF-8",
        "MPLCONFIGDIR": str(scratch() / "matplotlib"),  # its list of fonts takes a second to make
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH"),  # a changed copy of the package can be put under test
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {key: value for key, value in (base | changes).items() if value is not None}


def run(*arguments: str | Path, **options: Any) -> Done:
    """Run `cnn` to its end."""
    return start(*arguments, **options).wait()


def start(
    *arguments: str | Path,
    cwd: Path,
    stdin: bytes = b"",
    stdout: str | None = None,
    warm: bool = False,
    front: tuple[str, ...] = (),
    first: str = "",
    **variables: str | None,
) -> Started:
    """Start `cnn` in `cwd`.

    stdout: a file to write to instead. front: a command that starts it. first: Python that a warm process runs before it, to change
    what it is about to use. Further keywords are variables.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    (folder / "in").write_bytes(stdin)
    texts = [os.fspath(argument) for argument in arguments]
    out = stdout or str(folder / "out")
    (folder / "out").touch()
    if warm:
        return server().start(texts, cwd, environment(**variables), str(folder / "in"), out, folder, first)
    with (folder / "in").open("rb") as given, Path(out).open("wb", buffering=0) as written, (folder / "err").open("wb") as talk:
        process = subprocess.Popen(
            [*front, COMMAND, *texts],
            cwd=cwd,
            env=environment(**variables),
            stdin=given,
            stdout=written,
            stderr=talk,
            start_new_session=True,
        )

    def finish() -> int:
        try:
            return process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    return Started(process.pid, folder, finish)


def without_rights() -> tuple[str, ...]:
    """A `front` for `start`, with which permissions count; for root they do not."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("setpriv"):
        pytest.skip("root reads everything, and setpriv (util-linux), which takes that right away, is absent")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


# ---- one process that has torch, and forks ----


class Server:
    """The process that has torch; it runs one child at a time."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())],
            env=environment(),
            cwd=scratch(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.line.settimeout(LONGEST)
        self.answers = self.line.makefile("r")
        self.waiting = False  # for the end of a child; a test that failed before it is not waited for

    def start(self, arguments: list[str], cwd: Path, env: dict[str, str], given: str, out: str, folder: Path, first: str) -> Started:
        self.waiting = True
        job = {"arguments": arguments, "cwd": str(cwd), "env": env, "in": given, "out": out, "err": str(folder / "err"), "first": first}
        self.line.sendall(json.dumps(job).encode() + b"\n")
        return Started(self._answer(), folder, self._finish)

    def _finish(self) -> int:
        code = self._answer()
        self.waiting = False
        return code

    def end(self) -> None:
        """End it and its child; the next test has a new one."""
        for process in (self.process.pid, *children(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _server.cache_clear()

    def _answer(self) -> int:
        """What the server says. Where it says nothing for too long, it ends, so that the next test has a new one."""
        try:
            return int(json.loads(self.answers.readline()))
        except (TimeoutError, ValueError):
            self.end()
            raise


def children(pid: int) -> list[int]:
    """The processes that a process has started, as the system lists them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


@cache
def _server() -> Server:
    return Server()


def server() -> Server:
    """The server, or a new one where the last test left its child unfinished: its answers would be taken for those to this one."""
    if _server().waiting:
        _server().end()
    return _server()


# ---- what is checked of every failure ----


def tree(folder: Path) -> dict[str, str]:
    """Every path below `folder` with a hash of what it holds: two equal trees mean that nothing was written, changed or removed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).hex()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found


def assert_failed(done: Done, code: int, pattern: str, *, json_out: bool = False) -> None:
    """The rules of every failure: the exit code, one line that says what and where, no traceback, and a clean standard output."""
    told = f"exit {done.code}\n--- stdout\n{done.out}\n--- stderr\n{done.err}"
    assert done.code == code, told
    assert len(done.errors) == 1, told
    assert re.search(pattern, done.errors[0]), f"{pattern!r} is not in:\n{told}"
    assert "Traceback" not in done.out + done.err, told
    assert not ESCAPE.search(done.out + done.err), told
    if not json_out:
        assert done.out == "", told
        return
    error = json.loads(done.out)["error"]
    assert set(error) == {"code", "message", "path", "fix"}, told
    assert error["code"] == code, told
    assert done.errors[0].startswith("cnn: error: ")
    assert " ".join(error["message"].split())[:20] in done.errors[0] or not error["message"].isascii(), told


@contextmanager
def unchanged(*folders: Path) -> Iterator[None]:
    """Nothing below `folders` may be written, changed or removed inside."""
    before = [tree(folder) for folder in folders]
    yield
    assert [tree(folder) for folder in folders] == before


# ---- material ----


def picture(number: int, *, size: tuple[int, int] = (8, 8), kind: int = 0) -> Image.Image:
    """A small grey image that `number` decides; `kind` sets its brightness, so that kinds can be told apart."""
    values = np.random.default_rng([number, kind]).integers(0, 120, size[::-1]) + 130 * (kind % 2)
    return Image.fromarray(values.astype(np.uint8))


def make_folder(root: Path, counts: dict[str, int]) -> Path:
    """A data set: {"train/cat": 5} makes five small PNG files in that folder."""
    for kind, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(number, kind=kind).save(root / folder / f"{number:03d}.png")
    return root


def png(number: int = 0) -> bytes:
    stream = io.BytesIO()
    picture(number).save(stream, "PNG")
    return stream.getvalue()


LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
HTML = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>no</body></html>\n"


@dataclass
class Trained:
    """A run folder that tests share and must not change, and the folder it was made in."""

    folder: Path
    done: Done
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"


@cache
def trained_digits() -> Trained:
    """LeNet-5 after two epochs on the digits, made by a real process."""
    home = scratch() / "trained-digits"
    home.mkdir()
    done = run("train", "lenet5", "--epochs", "2", "-o", "run", cwd=home)
    assert done.code == 0, done.err
    return Trained(home / "run", done, tree(home / "run"))


@cache
def trained_folder() -> tuple[Trained, Path]:
    """A small net after one epoch on a folder with the classes bus, cat and dog; and that folder."""
    home = scratch() / "trained-folder"
    home.mkdir()
    data = make_folder(home / "data", {"bus": 12, "cat": 12, "dog": 12})
    done = run("train", "lenet5", "--data", "data", "--epochs", "1", "-o", "run", cwd=home, warm=True)
    assert done.code == 0, done.err
    return Trained(home / "run", done, tree(home / "run")), data


def stop(started: Started, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that `start` gave."""
    os.kill(started.pid, number)
