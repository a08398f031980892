"""How tests start several processes that train together without waiting for torch in each: forked from one that has it.

`together` gives them the environment that torchrun gives. What they run is `cnn`, or a function of a test's file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import harness
from harness import Done, environment, scratch
from warm import LOADED

LONGEST = 90  # seconds

SERVER = (
    LOADED
    + r"""
import importlib.util, pytest, torch.distributed.fsdp, torch.distributed.launcher.api, torch.nn.parallel  # noqa

gc.freeze()
line = socket.socket(fileno=int(sys.argv[1]))
job = None
for order in line.makefile("r"):
    orders, children = json.loads(order), []
    for job in orders:
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    else:
        line.sendall(json.dumps(children).encode() + b"\n")
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        line.sendall(json.dumps(codes).encode() + b"\n")
        continue
    break
else:
    os._exit(0)

os.setsid()
os.chdir(job["cwd"])
os.environ.clear()
os.environ.update(job["env"])
for number, name in ((1, "out"), (2, "err")):
    opened = os.open(job[name], os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(opened, number)
    os.close(opened)
sys.stdout = sys.__stdout__ = io.TextIOWrapper(open(1, "wb", closefd=False))
sys.stderr = sys.__stderr__ = io.TextIOWrapper(open(2, "wb", closefd=False), errors="backslashreplace", line_buffering=True)
line.close()
torch.set_num_threads(1)
code = 1
try:
    if "function" in job:
        spec = importlib.util.spec_from_file_location("started", job["file"])
        module = importlib.util.module_from_spec(spec)
        sys.modules["started"] = module
        spec.loader.exec_module(module)
        code = getattr(module, job["function"])(*job["arguments"]) or 0
    else:
        code = cnncli.cli.main.main(job["arguments"])
except BaseException:
    import traceback

    traceback.print_exc()
sys.stdout.flush()
os._exit(code)
"""
)


@dataclass
class Group:
    """Processes that run together. `wait` gives what each left, the first one's first."""

    pids: list[int]
    folder: Path
    server: Server

    def wait(self) -> list[Done]:
        codes = self.server.answer()
        return [Done(code, *(self._text(rank, name) for name in ("out", "err"))) for rank, code in enumerate(codes)]

    def error_so_far(self) -> str:
        return self._text(0, "err")

    def _text(self, rank: int, name: str) -> str:
        path = self.folder / f"{rank}.{name}"
        return path.read_text("utf-8", "replace") if path.exists() else ""


class Server:
    """The process that has torch; it runs one group at a time."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())],
            # What torch itself logs is read when it is loaded, and `cnn` asks it for silence before that.
            env=environment(TORCH_CPP_LOG_LEVEL="FATAL", PYTHONPATH=f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"),
            cwd=scratch(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.line.settimeout(LONGEST)
        self.answers = self.line.makefile("r")
        self.pids: list[int] = []

    def start(self, jobs: list[dict[str, object]]) -> list[int]:
        self.line.sendall(json.dumps(jobs).encode() + b"\n")
        self.pids = self.answer()
        return self.pids

    def answer(self) -> list[int]:
        """What the server says. Where it says nothing for too long, all of its processes end, so that the next test has a new one."""
        try:
            return [int(number) for number in json.loads(self.answers.readline())]
        except (TimeoutError, ValueError):
            for pid in [*self.pids, self.process.pid]:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            _server.cache_clear()
            raise


@cache
def _server() -> Server:
    return Server()


def free_port() -> int:
    """A port of this machine that nothing listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_together(
    ranks: int, *arguments: str | Path, cwd: Path, function: str | None = None, file: str = "", **variables: str | None
) -> Group:
    """Start `ranks` processes that find each other; one of them is alone and has no environment that says otherwise.

    They run `cnn ARGUMENTS`, or function(*ARGUMENTS) of a file.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    port = str(free_port())
    jobs = []
    for rank in range(ranks):
        own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)}
        job: dict[str, object] = {
            "arguments": [os.fspath(argument) for argument in arguments],
            "cwd": str(cwd),
            "env": environment(**((own if ranks > 1 else {}) | variables)),
            "out": str(folder / f"{rank}.out"),
            "err": str(folder / f"{rank}.err"),
        }
        jobs.append(job | ({"function": function, "file": file} if function else {}))
    server = _server()
    return Group(server.start(jobs), folder, server)


def together(ranks: int, *arguments: str | Path, **options: str | Path | None) -> list[Done]:
    """`start_together`, to the end of all."""
    return start_together(ranks, *arguments, **options).wait()  # type: ignore[arg-type]


# ---- processes that a launcher has started ----


@contextmanager
def launched(*command: str | Path, cwd: Path, **variables: str | None) -> Iterator[harness.Started]:
    """A command that starts processes of its own, each in a session of its own; none of them outlives the block."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    mark = folder.name  # in the environment of all of them
    (folder / "out").touch()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [os.fspath(word) for word in command],
            cwd=cwd,
            env=environment(STARTED_BY=mark, **variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )

    def finish() -> int:
        return process.wait(LONGEST)

    try:
        yield harness.Started(process.pid, folder, finish)
    finally:
        for pid in marked(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(LONGEST)


def marked(folder: Path) -> list[int]:
    """The living processes of a command that `launched` started, without itself being among the dead that nobody has asked for."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if f"STARTED_BY={folder.name}\0".encode() in (path / "environ").read_bytes():
                    found.append(int(path.name))
    return found


def workers(started: harness.Started) -> dict[int, int]:
    """The processes that train, by their rank."""
    found = {}
    for pid in marked(started.folder):
        with suppress(OSError):
            variables = dict(part.split("=", 1) for part in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in part)
            if "RANK" in variables:
                found[int(variables["RANK"])] = pid
    return found


def epochs(run: Path) -> list[int]:
    """The epochs in a run's log."""
    path = run / "metrics.jsonl"
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(what: object, *, seconds: float = LONGEST, pause: float = 0.05) -> None:
    """Look again and again, every `pause` seconds, until `what()` is true."""
    ends = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(pause)
