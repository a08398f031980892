"""`cnn shape` where the net, its size or the code behind it is wrong."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import harness
import pytest
from harness import assert_failed, run, tree, unchanged

NET = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (3, 32, 32)

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))
"""


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    """A cache of the test's own."""
    return {"CNN_CACHE": str(tmp_path / "cache")}


# ---- notation ----


def test_S1_a_stack_is_as_in_torch(here: Path) -> None:
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    done = run(
        "shape", "conv5-16/s2 relu maxpool3/s2/p1 conv3-24/g4 BN relu avgpool FC-30 tanh FC-7", "--input", "3x61x47", "--json", cwd=here
    )
    assert (done.code, done.err) == (0, "")
    with torch.device("meta"):
        layers = [nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 24, 3, 1, 1, groups=4), nn.BatchNorm2d(24)]
        layers += [nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(30), nn.Tanh(), nn.Linear(30, 7)]
        x, rows = torch.empty(1, 3, 61, 47), []
        for layer in layers:
            with FlopCounterMode(display=False) as counter:
                x = layer(x)
            rows.append((list(x.shape[1:]), sum(p.numel() for p in layer.parameters()), counter.get_total_flops() // 2))
    assert [(row["output"], row["params"], row["macs"]) for row in done.json["layers"]] == rows


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("conv3-8 conv9-8/p0", 'layer 2, "conv9-8/p0" at character 9.*--input 3x9x9'),
        ("conv3-8 conv3-8/s0", 'layer 2, "conv3-8/s0" at character 9.*stride=0'),
        ("conv3-8 conv3-8/d0", 'layer 2, "conv3-8/d0" at character 9.*dilation=0'),
        ("conv3-8 conv3-9/g2", 'layer 2, "conv3-9/g2" at character 9.*groups'),
        ("conv3-0", 'layer 1, "conv3-0" at character 1.*filters=0'),
        ("conv3-8 maxpool maxpool maxpool maxpool", 'layer 5, "maxpool" at character 33.*--input 3x16x16'),
    ],
)
def test_S2_numbers_that_do_not_fit(net: str, words: str, here: Path) -> None:
    done = run("shape", net, "--input", "3x8x8", cwd=here)
    assert_failed(done, 2, words)


def test_S2_the_smallest_input_that_is_named_works(here: Path) -> None:
    net = "conv3-8 conv9-8/p0"
    assert run("shape", net, "--input", "3x9x9", cwd=here).code == 0
    assert_failed(run("shape", net, "--input", "3x8x9", cwd=here), 2, "3x9x9")


def test_S3_a_classifier_of_another_width(here: Path) -> None:
    """A fully connected layer takes whatever comes before it, so only its output can be wrong."""
    assert_failed(run("shape", "conv3-8 FC-10 softmax", "--classes", "7", cwd=here), 2, r'"FC-10" at character 9.*write FC-7')


HOSTILE = {
    "a million layers": ("(CONV)*1000000", "repetitions"),
    "repeats of repeats": ("((((CONV)*999)*999)*999)*999", "layers"),
    "a long text": ("conv3-8 " * 16_000, "layers"),  # as much as one argument may hold
    "many channels": ("conv3-1000000000000", "filters=1000000000000"),
    "digits of another script": ("conv\u0663-64", "unexpected"),
    "open brackets": ("(" * 50_000 + "CONV", "brackets|never closed"),
    "closed brackets": ("CONV" + ")" * 50_000, "character 5"),
    "braces": ("{CONV|" * 20_000, "brackets|never closed"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_S4_hostile_texts(what: str, here: Path) -> None:
    """Refused within a second and 200 MB of memory; nothing is allocated for them."""
    text, words = HOSTILE[what]
    began = time.monotonic()
    done = subprocess.run(
        [harness.COMMAND, "shape", text],
        cwd=here,
        env=harness.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (200 * 2**20, 200 * 2**20)),
    )
    assert time.monotonic() - began < 5, "a second, on a machine that does nothing else"
    assert_failed(harness.Done(done.returncode, done.stdout, done.stderr), 2, words)
    assert len(done.stderr) < 1000


@pytest.mark.parametrize("number", [2**31, 2**63 - 1, 2**63, 2**64, 10**400])
def test_S5_numbers_beyond_64_bits(number: int, here: Path) -> None:
    assert_failed(run("shape", f"conv3-8 FC-{number}", cwd=here), 2, r'layer 3, "FC-')
    assert_failed(run("shape", "mlp", "--set", f"hidden={number}", cwd=here), 2, "hidden|units|features")
    assert_failed(run("shape", "resnet20", "--classes", str(number), cwd=here), 2, "--classes")
    assert_failed(run("shape", "mlp", "--input", f"3x{number}x3", cwd=here), 2, "--input")


def test_S5_totals_are_exact(here: Path) -> None:
    """Products beyond 64 bits are no special case."""
    done = run("shape", "FC-9999999 FC-9999999 FC-9999999", "--input", "9999x9999x9999", "--json", cwd=here)
    n, m = 9999**3, 9999999
    assert done.json["totals"]["macs"] == n * m + 2 * m * m
    assert done.json["totals"]["macs"] > 2**62


@pytest.mark.parametrize(
    "size", ["224", "3,224,224", "224x224", "-3x224x224", "3x22.4x224", "3x0x224", "3xaxb", "", "3x224x224x1", "٣x2x2"]
)
def test_S6_sizes_that_are_none(size: str, here: Path) -> None:
    assert_failed(
        run("shape", "alexnet", f"--input={size}", cwd=here), 2, "--input .*channels x height x width, for example --input 3x224x224"
    )


def test_S6_channels_last(here: Path) -> None:
    assert_failed(run("shape", "alexnet", "--input", "224x224x3", cwd=here), 2, "channels come first: --input 3x224x224")
    assert run("shape", "conv3-64", "--input", "512x4x4", cwd=here).code == 0, "a small map of many channels is one"


# ---- a user's file ----


def test_S7_a_file_that_works(here: Path) -> None:
    """Prints go to standard error, and nothing is written beside the file, not even bytecode."""
    (here / "nets").mkdir()
    (here / "nets/beside.py").write_text("import os\nos.system('echo from a child')")
    (here / "nets/mine.py").write_text("import beside\nprint('printed')\n" + NET)
    with unchanged(here):
        done = run("shape", "nets/mine.py:Net", "--json", cwd=here, PYTHONDONTWRITEBYTECODE=None)
    assert done.code == 0, done.err
    assert sorted(done.err.splitlines()) == ["from a child", "printed"]
    assert done.json["net"] == "nets/mine.py:Net"
    assert (done.json["input"], done.json["classes"], done.json["totals"]["params"]) == ([3, 32, 32], 10, 8 * 28 + 90)
    told = run("shape", "nets/mine.py:Net", "--classes", "3", "--input", "3x9x9", cwd=here)
    assert told.out.startswith("nets/mine.py:Net: input 3x9x9, 3 classes")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\nsys.exit(0)", r"mine\.py:2: the file called exit\(0\)"),
        ("quit()", r"mine\.py:1: the file called exit\(None\)"),
        ("\n\nclass Net(\n", r"mine\.py:3: SyntaxError"),
        ("import os\nos.abort()", r"mine\.py:Net ended its process by signal SIGABRT"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)", r"mine\.py:2: ConnectionRefusedError"),
        ("raise ValueError('two\\nlines \\x1b[31m')", r"mine\.py:1: ValueError: two lines"),
        (NET.replace("self.conv(x)", "self.con(x)"), r"mine\.py:14: AttributeError: 'Net' object has no attribute 'con'"),
        (NET.replace("Linear(8", "Linear(9"), r"mine\.py:14: RuntimeError"),
    ],
)
def test_S7_a_file_that_fails(code: str, words: str, here: Path) -> None:
    (here / "mine.py").write_text(code)
    with unchanged(here):
        done = run("shape", "mine.py:Net", "--json", cwd=here, warm=True)
    assert_failed(done, 1, words, json_out=True)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["while True: pass", "import itertools\nsum(itertools.repeat(0))"])
def test_S7_a_file_that_never_ends(code: str, here: Path) -> None:
    """The time does not count the import of torch, which is not the file's."""
    (here / "mine.py").write_text(f"open('ran', 'w').close()\n{code}")
    done = run("shape", "mine.py:Net", "--timeout", "0.5", "--json", cwd=here)
    assert_failed(done, 1, r"mine\.py:Net did not finish within 0\.5 s; --timeout 1 gives it longer", json_out=True)
    assert (here / "ran").exists()


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")])
def test_S7_stopped_while_it_runs(number: int, code: int, word: str, here: Path) -> None:
    """The process of the file ends with ours."""
    (here / "mine.py").write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\nos.rename('pid', 'ran')\ntime.sleep(100)")
    started = harness.start("shape", "mine.py:Net", cwd=here)
    deadline = time.monotonic() + 30
    while not (here / "ran").exists():
        assert time.monotonic() < deadline, started.error_so_far()
        time.sleep(0.02)
    harness.stop(started, number)
    done = started.wait()
    assert (done.code, done.out, done.err) == (code, "", f"cnn: {word}\n")
    assert not Path(f"/proc/{(here / 'ran').read_text()}").exists()


def test_S7_a_name_that_is_no_model(here: Path) -> None:
    (here / "mine.py").write_text(NET + "\nnumber = 7\n")
    assert_failed(
        run("shape", "mine.py:number", cwd=here, warm=True),
        2,
        r"mine\.py:number is no torch\.nn\.Module but of type int; models in mine\.py: Net",
    )
    assert_failed(run("shape", "mine.py:net", cwd=here, warm=True), 2, r"mine\.py has no net; did you mean Net|models in mine\.py: Net")
    assert_failed(run("shape", "yours.py:Net", cwd=here, warm=True), 3, r"no such file: yours\.py")


@pytest.mark.slow
def test_S7_only_because_it_was_named(here: Path) -> None:
    """A file runs for `mine.py:Net` alone, once, and is not found through the search path."""
    (here / "mine.py").write_text("open('ran', 'a').write('x')\n" + NET)
    (here / "elsewhere").mkdir()
    for arguments in (("mine.py",), ("mine",), ("mine:Net",), ("./mine.py",), ("mine.py:",)):
        assert run("shape", *arguments, cwd=here).code in (2, 3)
    assert run("shape", "mine.py:Net", cwd=here / "elsewhere", PYTHONPATH=str(here)).code == 3
    assert not (here / "ran").exists()
    assert run("shape", "mine.py:Net", cwd=here).code == 0
    assert (here / "ran").read_text() == "x"


@pytest.mark.slow
def test_S7_the_traceback_is_for_debug(here: Path) -> None:
    (here / "mine.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    assert_failed(run("shape", "mine.py:Net", cwd=here), 1, r"mine\.py:2: ZeroDivisionError")
    shown = run("shape", "mine.py:Net", "--debug", cwd=here).err
    assert 'mine.py", line 4' in shown
    assert "1 / 0" in shown


# ---- libraries and the cache ----


def blocked(folder: Path, name: str, code: str) -> dict[str, str]:
    """Variables with which importing `name` runs `code` instead."""
    (folder / "blocked").mkdir(exist_ok=True)
    (folder / "blocked" / f"{name}.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder / "blocked"), os.environ.get("PYTHONPATH"))))}


@pytest.mark.slow
def test_G14_torchvision_that_does_not_fit_torch(here: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    stub = blocked(tmp_path, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')") | cache
    done = run("shape", "torchvision/resnet18", "--json", cwd=here, **stub)
    assert_failed(done, 4, r"torchvision \d\S+ does not fit torch \d\S+: operator torchvision::nms.*pip install", json_out=True)
    assert run("shape", "resnet18", cwd=here, **stub).code == 0
    assert tree(tmp_path / "cache") == {} if (tmp_path / "cache").exists() else True


@pytest.mark.parametrize("net", ["[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX", "densenet121"])
def test_G14_nets_that_are_data_need_no_torch(net: str, here: Path, tmp_path: Path) -> None:
    done = run("shape", net, cwd=here, **blocked(tmp_path, "torch", "raise RuntimeError('torch was imported')"))
    assert (done.code, done.err) == (0, "")


@pytest.mark.slow
def test_G14_timm_is_missing(here: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    stub = blocked(tmp_path, "timm", "raise ModuleNotFoundError(\"No module named 'timm'\", name='timm')") | cache
    assert_failed(run("shape", "timm/resnet18", cwd=here, **stub), 4, r"timm is missing; pip install 'cnncli\[timm\]'")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("torchvision/resnt50", "did you mean torchvision/resnet50"),
        ("torchvison/resnet50", "did you mean torchvision/resnet50"),
        ("resnt50", "did you mean resnet50"),
        ("[(CONV-RLU)*2-POOL]*3-SOFTMAX", r"RLU.*did you mean relu"),
    ],
)
def test_G15_nets_with_a_typo(spec: str, words: str, here: Path, cache: dict[str, str]) -> None:
    assert_failed(run("shape", spec, cwd=here, **cache), 2, f"(?i){words}")


def test_G15_settings_with_a_typo(here: Path) -> None:
    assert_failed(run("shape", "mlp", "--set", "hiden=3", cwd=here), 2, "did you mean hidden")
    assert_failed(run("train", "mlp", "--set", "hiden=3", cwd=here), 2, "did you mean hidden")
    assert_failed(run("shape", "mlp", "--set", "hidden", cwd=here), 2, "--set 'hidden' should be NAME=VALUE")


NO_HOMES = {
    "none": {"HOME": None},
    "empty": {"HOME": ""},
    "not there": {"HOME": "/nonexistent"},
    "a file": {"HOME": "/dev/null"},
    "cache in a file": {"CNN_CACHE": "/dev/null/cache"},
    "cache read-only": {"XDG_CACHE_HOME": "/proc"},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", NO_HOMES)
def test_G10_no_place_for_a_cache(what: str, here: Path) -> None:
    """A cache saves time and nothing else: without one the answer is the same."""
    with unchanged(here):
        done = run("shape", "torchvision/alexnet", "--json", cwd=here, **NO_HOMES[what])
    assert (done.code, done.err) == (0, "")
    assert done.json["totals"]["params"] == 61_100_840
    assert not Path("/nonexistent").exists()


@pytest.mark.slow
def test_G10_a_cache_that_is_damaged(here: Path, tmp_path: Path, cache: dict[str, str]) -> None:
    first = run("shape", "torchvision/alexnet", "--json", cwd=here, **cache)
    (kept,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    kept.write_bytes(re.sub(rb"conv 11x11", rb"conv 12x12", kept.read_bytes()))
    again = run("shape", "torchvision/alexnet", "--json", cwd=here, **cache)
    assert (again.code, again.out, again.err) == (0, first.out, "")
