"""Models from a user's file: what it may hold, what it may do, and how it may fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from cnncli.errors import CnnError, UsageError
from cnncli.models import foreign_code
from cnncli.models.describe import Description, describe
from cnncli.models.own_process import in_own_process

FILE = r'''
import os
import torch
from torch import nn
import beside

class Small(nn.Module):
    """Its own input, a number of classes."""

    input_shape = (3, 16, 16)

    def __init__(self, num_classes=7):
        super().__init__()
        print("made on", torch.empty(1).device)
        os.write(1, b"from below\n")
        self.conv = nn.Conv2d(3, beside.FILTERS, 3)
        self.fc = nn.Linear(beside.FILTERS, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Plain(Small):
    input_shape = None

class Needs(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1)

    def forward(self, x):
        return self.conv(x)

class Reads(Small):
    """Cannot be made without numbers."""

    def __init__(self):
        super().__init__()
        assert torch.rand(3).sum().item() > 0

class Width(nn.Module):
    def __init__(self, width, depth):
        super().__init__()

class Typo(nn.Module):
    def forward(self, x):
        return x.relux()

class Odd(Small):
    input_shape = (3, 16)

class Channels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.conv(x)

class Leaves(nn.Module):
    def __init__(self):
        raise SystemExit(3)

class Holds(nn.Module):
    def forward(self, x):
        while True:
            try:
                x = x + 1
            except BaseException:
                pass

class Nothing(nn.Module):
    def forward(self, x):
        return x

class Pair(Small):
    def forward(self, x, y):
        return super().forward(x)

class Quantised(nn.Module):
    def forward(self, x):
        raise NotImplementedError("quantized::linear: We could not find the fake impl for this operator.")

def exported():
    return torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), (torch.zeros(1, 3, 9, 9),)).module()

class Config:
    """No model, although its name is in the file."""

    def __init__(self):
        raise AssertionError("it was made")

def make():
    return Small(5)

def nothing():
    pass

ready = Small(2).train()
number = 7
'''


def line_of(words: str) -> int:
    return FILE[: FILE.index(words)].count("\n") + 1


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))
    Path("mine.py").write_text(FILE)
    Path("beside.py").write_text("FILTERS = 4")


def test_a_class_of_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    described = describe("mine.py:Small")
    assert (described.name, described.input, described.classes, described.net) == ("mine.py:Small", (3, 16, 16), 7, None)
    assert [(row.name, row.params) for row in described.rows] == [("conv", 112), ("mean", 0), ("fc", 35)]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert sorted(printed.err.splitlines()) == ["from below", "from below", "made on cpu", "made on meta"]
    assert describe("mine.py:Small", classes=3, input=(3, 8, 8)).rows[-1].output == (3,)
    plain = describe("mine.py:Plain")
    assert plain.input == (3, 224, 224)
    assert plain.notes[0].startswith("The file does not say what it takes, so this is for 3x224x224; --input")
    assert not Path("cache").exists(), "a file may change: nothing is kept"


def test_functions_modules_and_what_is_made_with_numbers() -> None:
    assert describe("mine.py:make").classes == 5
    assert describe("mine.py:ready").classes == 2
    assert describe("mine.py:Reads").classes == 7
    assert describe("mine.py:Needs", classes=4).rows[0].params == 16


def test_a_model_that_torch_exported() -> None:
    """It has one mode, and refuses `eval()`."""
    (row,) = describe("mine.py:exported", input=(3, 9, 9)).rows
    assert (row.operation, row.params, row.output) == ("conv 3x3, 4", 112, (4, 7, 7))


def test_nothing_of_it_stays() -> None:
    """Not its modules, its search path, its folder's bytecode, its signal handlers."""
    before = list(sys.path), set(sys.modules), list(sys.argv), signal.getsignal(signal.SIGALRM), sys.dont_write_bytecode
    describe("mine.py:Small")
    assert before == (list(sys.path), set(sys.modules), list(sys.argv), signal.getsignal(signal.SIGALRM), sys.dont_write_bytecode)
    assert sorted(os.listdir()) == ["beside.py", "mine.py"]


def test_the_model_is_made_without_weights() -> None:
    def work(_: object) -> dict[str, list[bool]]:
        made = {name: foreign_code.make(Path("mine.py"), name, classes=None).model for name in ("Small", "ready", "Reads")}
        return {name: [model.training, *(p.is_meta for p in model.parameters())] for name, model in made.items()}

    found = in_own_process(work, what="test", seconds=60, explain=lambda error: CnnError(repr(error)))
    assert found == {"Small": [False] + [True] * 4, "ready": [False] + [False] * 4, "Reads": [False] + [False] * 4}


FAULTS = {
    "Nothing": (CnnError, r"mine\.py:Nothing has no layers: its forward pass computes nothing"),
    "Pair": (CnnError, r"TypeError: Pair\.forward\(\) missing 1 .*; it is given one image and nothing else"),
    "Quantised": (CnnError, r"^quantized::linear has no form without numbers, so its layers cannot be listed; describe the model before"),
    "Smal": (UsageError, r"mine\.py has no Smal; did you mean Small"),
    "xyz": (UsageError, r"mine\.py has no xyz; models in mine\.py: Small, Plain, Needs"),
    "number": (UsageError, r"mine\.py:number is no torch\.nn\.Module but of type int; models in mine\.py: Small, Plain"),
    "Config": (UsageError, r"mine\.py:Config is a class that is no torch\.nn\.Module; models in mine\.py: Small"),
    "nothing": (UsageError, r"mine\.py:nothing gives no torch\.nn\.Module but None"),
    "Width": (UsageError, "needs width, depth; give them defaults"),
    "Needs": (UsageError, "needs classes; for example --classes 10"),
    "Odd": (UsageError, r"input_shape is \(3, 16\) and should be \(channels, height, width\)"),
    "Typo": (CnnError, rf"mine\.py:{line_of('x.relux')}: AttributeError: .*relux"),
    "Channels": (CnnError, r"RuntimeError: .*; the input was taken as 3x224x224: --input says another"),
    "Leaves": (CnnError, rf"mine\.py:{line_of('raise SystemExit')}: the file called exit\(3\)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_in_a_file(name: str) -> None:
    kind, words = FAULTS[name]
    with pytest.raises(kind, match=words) as caught:
        describe(f"mine.py:{name}")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_classes_of_what_takes_none() -> None:
    for name, words in (("ready", "is a finished module"), ("make", "takes neither num_classes nor classes")):
        with pytest.raises(UsageError, match=words):
            describe(f"mine.py:{name}", classes=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:", r"broken\.py:1: SyntaxError"),
        ("\nimport nosuchpackage.part", r"broken\.py:2: ModuleNotFoundError: .*; install nosuchpackage"),
        ("import wrong", r"wrong\.py:2: ZeroDivisionError"),
        ("input()", r"broken\.py:1: EOFError"),
        ("raise KeyboardInterrupt", r"broken\.py:1: KeyboardInterrupt"),
        ("import os; os._exit(7)", "broken.py:Net ended its process with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)", "broken.py:Net ended its process by signal SIGUSR1"),
    ],
)
def test_a_file_that_cannot_be_run(text: str, words: str) -> None:
    Path("broken.py").write_text(text)
    Path("wrong.py").write_text("\n1 / 0")
    with pytest.raises(CnnError, match=words) as caught:
        describe("broken.py:Net")
    assert caught.value.code == 1


def test_the_traceback_is_there_for_debugging() -> None:
    with pytest.raises(CnnError) as caught:
        describe("mine.py:Typo")
    (note,) = caught.value.__notes__
    assert "return x.relux()" in note


def test_a_file_named_like_a_module_that_is_loaded() -> None:
    Path("torch.py").write_text("from torch import nn\nclass Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 2, 1)")
    assert describe("torch.py:Net").rows[0].params == 8


HOLDS = {
    "Holds": None,  # swallows every exception
    "Sums": "import itertools\nsum(itertools.repeat(0))",  # never looks at signals
    "Sleeps": "import time\ntime.sleep(1000)",
    "Deaf": "import os, signal, time\nfor s in (15, 14): signal.signal(s, signal.SIG_IGN)\ntime.sleep(1000)",
    "Closed": "import os, time\nos.closerange(3, 100)\ntime.sleep(1000)",
}


@pytest.mark.parametrize("name", HOLDS)
def test_time_is_limited(name: str) -> None:
    code = HOLDS[name]
    if code is not None:
        Path("mine.py").write_text(code)
    words = rf"mine\.py:{name} (did not finish within 0\.4 s; --timeout 0\.8 gives it longer|ended its process by signal SIGKILL)"
    with pytest.raises(CnnError, match=words):
        describe(f"mine.py:{name}", timeout=0.4)


def test_what_it_started_ends_with_it() -> None:
    Path("mine.py").write_text("import os, time\npid = os.fork()\nif pid: open('pid', 'w').write(str(pid))\ntime.sleep(1000)")
    with pytest.raises(CnnError, match="did not finish"):
        describe("mine.py:Net", timeout=0.4)
    state = Path(f"/proc/{Path('pid').read_text()}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_times_that_are_none(timeout: float) -> None:
    with pytest.raises(UsageError, match=r"--timeout .* should be a number of seconds above 0"):
        describe("mine.py:Small", timeout=timeout)


def test_outside_of_the_main_thread() -> None:
    found: list[Description] = []
    thread = threading.Thread(target=lambda: found.append(describe("mine.py:Small")))
    thread.start()
    thread.join()
    assert found[0].classes == 7
