"""`cnn runs` as its users meet it: the list, its order, what it leaves out, damaged folders, and the comparison."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness import run, start, without_rights
from PIL import Image

KEYS = [
    "name", "folder", "net", "data", "state", "reason", "epochs", "planned", "monitor", "accuracy", "split", "epoch", "best", "final",
    "seconds", "images_per_second", "date",
]  # fmt: skip


def make(
    folder: Path, net: str = "lenet5", accuracy: float | None = 0.9, when: int = 1_700_000_000, lr: float = 0.1, epochs: int = 3
) -> None:
    """A run folder by hand."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'net = "{net}"\n[train]\nepochs = 3\n[optim]\nlr = {lr}\n[data]\nsource = "digits"\n')
    val: dict[str, Any] = {} if accuracy is None else {"val_loss": 0.4, "val_accuracy": accuracy}
    row = {"step": 20, "train_loss": 0.5, "train_accuracy": 0.85, "lr": 0.1, "seconds": 2.0, "images_per_second": 99.0, "best": True} | val
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row | {"epoch": n}) + "\n" for n in range(1, epochs + 1)))
    os.utime(metrics, (when, when))
    (folder / "result.json").write_text(json.dumps({"finished": True, "reason": "", "seconds": 7.5, "best": row | {"epoch": epochs}}))


@pytest.fixture
def three(here: Path) -> Path:
    """A folder with three runs, something damaged and something foreign."""
    make(here / "runs" / "lenet5-digits-2", when=1_700_000_300, accuracy=0.95)
    make(here / "runs" / "lenet5-digits-10", when=1_700_000_100, lr=0.2, accuracy=0.97)
    make(here / "runs" / "alexnet-photos-1", net="alexnet", when=1_700_000_200, accuracy=None, epochs=1)
    (here / "runs" / "foreign").mkdir()
    make(here / "runs" / "torn")
    (here / "runs" / "torn" / "config.toml").write_text("net = ")
    return here


def names(*arguments: str, cwd: Path) -> list[str]:
    done = run("runs", *arguments, "--json", cwd=cwd)
    assert done.code == 0
    return [entry["name"] for entry in done.json]


def test_the_list(three: Path) -> None:
    done = run("runs", cwd=three, COLUMNS="100")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["lenet5-digits-2", "alexnet-photos-1", "lenet5-digits-10"]
    assert "95.00%" in lines[2]
    assert "85.00% t" in lines[3]
    notes = done.err.splitlines()
    assert notes[0] == "note: runs/foreign is no run folder: it has no config.toml"
    assert notes[1].startswith("note: runs/torn/config.toml is damaged: ")
    assert len(notes) == 2


def test_json(three: Path) -> None:
    done = run("runs", "--json", cwd=three)
    assert done.code == 0
    assert [list(entry) for entry in done.json] == [KEYS] * 3
    newest = done.json[0]
    assert (newest["name"], newest["folder"], newest["accuracy"]) == ("lenet5-digits-2", "runs/lenet5-digits-2", 0.95)
    assert (newest["epochs"], newest["planned"], newest["seconds"], newest["state"]) == (3, 3, 7.5, "finished")


def test_order_and_filter(three: Path) -> None:
    assert names("--sort", "accuracy", cwd=three) == ["lenet5-digits-10", "lenet5-digits-2", "alexnet-photos-1"]
    assert names("--sort", "name", cwd=three) == ["alexnet-photos-1", "lenet5-digits-2", "lenet5-digits-10"]
    assert names("--sort", "net", cwd=three) == ["alexnet-photos-1", "lenet5-digits-2", "lenet5-digits-10"]
    assert names("--filter", "LENET", cwd=three) == ["lenet5-digits-2", "lenet5-digits-10"]
    assert names("--filter", "*-1", "--filter", "*-2", cwd=three) == ["lenet5-digits-2", "alexnet-photos-1"]
    done = run("runs", "--filter", "zzz", cwd=three)
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == "none of 3 runs has 'zzz' in its name, net or data"
    done = run("runs", "--sort", "accurcy", cwd=three)
    assert done.code == 2
    assert "did you mean accuracy?" in done.err


def test_places(three: Path) -> None:
    assert names("runs/lenet5-digits-2", "runs", cwd=three)[0] == "lenet5-digits-2"
    assert len(names("runs/lenet5-digits-2", "runs", cwd=three)) == 3
    assert names(".", cwd=three / "runs" / "lenet5-digits-2") == ["lenet5-digits-2"]


@pytest.mark.parametrize("make_it", [True, False])
def test_no_runs(make_it: bool, here: Path) -> None:
    if make_it:
        (here / "runs").mkdir()
    said = ("no run in runs" if make_it else "there is no folder runs") + "; `cnn train` makes runs\n"
    for arguments, out in (([], ""), (["--json"], "[]\n")):
        done = run("runs", *arguments, cwd=here)
        assert (done.code, done.out, done.err) == (0, out, said)
    (here / "f").write_text("")
    assert run("runs", "f", cwd=here).err == "f is a file; `cnn train` makes runs\n"


def test_a_folder_that_may_not_be_read(three: Path) -> None:
    locked = three / "runs"
    locked.chmod(0)
    done = start("runs", cwd=three, front=without_rights()).wait()
    locked.chmod(0o755)
    assert done.code == 0
    assert "cannot be read" in done.err


def test_compare(three: Path) -> None:
    done = run("runs", "compare", "lenet5-digits-2", "runs/lenet5-digits-10", "-o", "c.png", cwd=three, COLUMNS="80")
    assert (done.code, done.err) == (0, "wrote c.png\n")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["setting", "lenet5-digits-2", "lenet5-digits-10"]
    assert lines[2] == ["lr", "0.1", "0.2"]
    assert lines[3] == [], "settings that do not differ are left out"
    assert ["best", "accuracy", "95.00%", "97.00%"] in lines
    assert ["time", "7.5", "s", "7.5", "s"] in lines
    with Image.open(three / "c.png") as picture:
        assert picture.width > 1000
    done = run("runs", "compare", "lenet5-digits-2", "lenet5-digits-10", "-o", "c.png", cwd=three)
    assert done.code == 2
    assert "c.png exists; use --overwrite" in done.err
    done = run("runs", "compare", "lenet5-digits-2", "lenet5-digits-10", "-o", "c.png", "--overwrite", "--json", cwd=three)
    assert done.code == 0
    assert [list(entry) for entry in done.json["runs"]] == [KEYS] * 2
    assert done.json["settings"] == {"lr": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["compare"], 2, "needs two runs or more, none is given"),
        (["compare", "lenet5-digits-2"], 2, "needs two runs or more, only lenet5-digits-2 is given"),
        (["compare", "lenet5-digits-2", "lenet5-digit-10"], 3, "there is no run lenet5-digit-10; did you mean lenet5-digits-10"),
        (["compare", "lenet5-digits-2", "runs/lenet5-digits-2"], 2, "is given twice"),
        (["compare", "lenet5-digits-2", "runs/torn"], 3, "runs/torn/config.toml is damaged"),
        (["compare", "lenet5-digits-2", "runs/foreign"], 3, "runs/foreign is no run folder"),
        (["compare", "lenet5-digits-2", "lenet5-digits-10", "--sort", "name"], 2, "--sort is for the list"),
        (["compare", "lenet5-digits-2", "lenet5-digits-10", "-o", "c.gif"], 2, "should end in .png, .svg or .pdf"),
        (["-o", "c.png"], 2, "--out draws the curves of compare"),
    ],
)
def test_refusals(arguments: list[str], code: int, words: str, three: Path) -> None:
    done = run("runs", *arguments, cwd=three)
    assert (done.code, done.out) == (code, "")
    assert words in done.errors[0]
    assert not list(three.glob("c.*"))


def test_a_folder_called_compare(three: Path) -> None:
    shutil.copytree(three / "runs" / "lenet5-digits-2", three / "compare")
    assert names("./compare", cwd=three) == ["compare"]


def test_nothing_to_draw(three: Path) -> None:
    for number in (2, 10):
        (three / "runs" / f"lenet5-digits-{number}" / "metrics.jsonl").unlink()
    done = run("runs", "compare", "lenet5-digits-2", "lenet5-digits-10", "-o", "c.png", cwd=three)
    assert done.code == 3
    assert "there are no curves" in done.err


def test_without_torch(three: Path) -> None:
    for name in ("torch", "numpy"):
        (three / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    done = run("runs", cwd=three, PYTHONPATH=str(three))
    assert (done.code, len(done.err.splitlines())) == (0, 2)
    assert run("runs", "compare", "lenet5-digits-2", "lenet5-digits-10", cwd=three, PYTHONPATH=str(three)).code == 0
