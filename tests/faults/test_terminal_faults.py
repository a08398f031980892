"""Any command: pipes, full disks, locales, widths, typos, names. What needs no torch runs always."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from functools import cache
from pathlib import Path

import harness
import pytest
from harness import assert_failed, run, tree, unchanged

LISTINGS = [["models"], ["models", "--json"], ["shape", "alexnet"], ["shape", "alexnet", "--json"], ["--help"], ["train", "--help"]]


def to_pipe(arguments: list[str], here: Path, *, read: bool, **variables: str) -> tuple[int, str, bytes]:
    """Run with standard output in a pipe whose reader reads one line, or nothing at all, and leaves: (exit code, stderr, the line)."""
    reading, writing = os.pipe()
    if not read:
        os.close(reading)
    process = subprocess.Popen(
        [harness.COMMAND, *arguments], cwd=here, env=harness.environment(**variables), stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    line = b""
    if read:
        while not line.endswith(b"\n") and (got := os.read(reading, 1)):
            line += got
        os.close(reading)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode(), line


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_G1_reader_gone_before_the_first_line(arguments: list[str], unbuffered: str, here: Path) -> None:
    code, err, _ = to_pipe(arguments, here, read=False, PYTHONUNBUFFERED=unbuffered)
    assert (code, err) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_G1_reader_gone_after_one_line(unbuffered: str, here: Path) -> None:
    code, err, line = to_pipe(["shape", "resnet110", "--depth", "9"], here, read=True, PYTHONUNBUFFERED=unbuffered)
    assert code in (0, 141)  # 0 where the pipe took all of it before the reader left
    assert err == ""
    assert line.startswith(b"resnet110")


def test_G1_head_in_a_shell(here: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'cnn models | head -1; echo "${PIPESTATUS[0]}"'],
        cwd=here,
        env=harness.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, code = done.stdout.splitlines()
    assert first.startswith("net ")
    assert code in ("0", "141")
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_G3_standard_output_full(arguments: list[str], unbuffered: str, here: Path) -> None:
    done = run(*arguments, cwd=here, stdout="/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert_failed(done, 4, r"cannot write standard output: No space left on device")


FAILURES = {
    "unknown net": (["shape", "alexnt", "--json"], 2, "alexnt", "alexnt"),
    "bad flag value": (["shape", "alexnet", "--depth", "x", "--json"], 2, "--depth", "--depth"),
    "bad size": (["shape", "alexnet", "--json", "--input", "3x4"], 2, "--input", "--input"),
    "too small": (["shape", "alexnet", "--json", "--input", "3x9x9"], 2, "conv|pool", None),
    "bad choice": (["shape", "--json", "alexnet", "--layout", "whc"], 2, "--layout", "--layout"),
    "unknown flag": (["models", "--json", "--jsn"], 2, "--jsn", "--jsn"),
    "missing model": (["eval", "runs/absent", "--json"], 3, "runs/absent", "runs/absent"),
    "net without weights": (["eval", "alexnet", "--json"], 2, "alexnet", "alexnet"),
    "predict without weights": (["predict", "alexnet", "x.png", "--json"], 2, "alexnet", "alexnet"),
    "missing argument": (["predict", "--json"], 2, "model", None),
}


@pytest.mark.parametrize("name", FAILURES)
def test_G5_json_failure_is_one_object(name: str, here: Path) -> None:
    arguments, code, pattern, path = FAILURES[name]
    with unchanged(here):
        done = run(*arguments, cwd=here)
    assert_failed(done, code, pattern, json_out=True)
    if path is not None:
        assert done.json["error"]["path"] == path


def test_G6_not_a_number_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    from cnncli.reports.terminal import print_json

    print_json({"loss": float("nan"), "rows": [{"x": float("inf")}, (1.5, -float("inf"))], "top1": 0.5})
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {"loss": None, "rows": [{"x": None}, [1.5, None]], "top1": 0.5, "nonfinite": True}
    print_json({"loss": 1.0})
    assert json.loads(capsys.readouterr().out) == {"loss": 1.0}


PLAIN = {"NO_COLOR": {"NO_COLOR": "1"}, "dumb": {"TERM": "dumb"}, "xterm": {"TERM": "xterm-256color"}, "CI": {"CI": "true"}}


@pytest.mark.parametrize("variables", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("arguments", [["models"], ["shape", "lenet5"], ["train", "--help"], ["shape", "lenet"]], ids=" ".join)
def test_G7_no_escape_codes(arguments: list[str], variables: dict[str, str], here: Path) -> None:
    done = run(*arguments, cwd=here, **variables)
    assert not re.search(r"[\x1b\r\x07]", done.out + done.err)


@pytest.mark.slow
@pytest.mark.parametrize("variables", PLAIN.values(), ids=PLAIN)
def test_G7_training_without_a_terminal(variables: dict[str, str], here: Path) -> None:
    done = run("train", "mlp", "--epochs", "2", cwd=here, warm=True, **variables)
    assert done.code == 0, done.err
    assert not re.search(r"[\x1b\r\x07]", done.out + done.err)
    assert len(re.findall(r"^epoch \d+/2 ", done.err, re.MULTILINE)) == 2, "one line an epoch"


def numbers(text: str) -> set[str]:
    """Every word with a digit. A comma at its end is punctuation."""
    return {word.rstrip(",.;") for word in text.split() if any(c.isdigit() for c in word)}


@cache
def in_80_columns(*arguments: str) -> str:
    return run(*arguments, cwd=harness.scratch(), COLUMNS="80").out


@pytest.mark.parametrize("columns", ["20", "0", "abc", "1", "80", "140", "-5", "99999999999", "٣٠"])
@pytest.mark.parametrize("arguments", [["shape", "alexnet"], ["models"], ["shape", "resnet20"]], ids=" ".join)
def test_G8_odd_widths(arguments: list[str], columns: str, here: Path) -> None:
    wide = in_80_columns(*arguments)  # wider tables have more columns
    done = run(*arguments, cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    assert "…" not in done.out
    whole = "".join(done.out.split())  # a path longer than the terminal is wide goes on in the next line
    assert all(number in numbers(done.out) or (len(number) > 20 and number in whole) for number in numbers(wide))
    if columns in ("20", "80", "140"):
        assert max(map(len, done.out.splitlines())) <= int(columns)


@pytest.mark.slow
def test_G9_ascii_locale(here: Path) -> None:
    """Class names that the terminal cannot show are escaped there and exact in every file."""
    odd = "Ünï😀"
    harness.make_folder(here / "data", {odd: 8, "b": 8})
    plain = {"LANG": "C", "PYTHONIOENCODING": "ascii"}
    done = run("train", "mlp", "--data", "data", "--epochs", "1", "--input", "3x8x8", "-o", "rün", cwd=here, **plain)
    assert done.code == 0, done.err
    assert (here / "rün" / "best.safetensors").is_file()
    done = run("eval", "rün", "--split", "all", "-o", "out", cwd=here, warm=True, **plain)
    assert done.code == 0, done.err
    assert done.out.isascii()
    assert "\\xdcn\\xef" in done.out
    written = json.loads((here / "out" / "eval.json").read_text("utf-8"))
    assert [entry["class"] for entry in written["per_class"]] == ["b", odd]
    image = f"data/{odd}/000.png"
    done = run("predict", "rün", image, cwd=here, warm=True, **plain)
    assert done.code == 0, done.err
    assert done.out.isascii()
    done = run("predict", "rün", image, "--json", cwd=here, warm=True, **plain)
    assert done.json["path"] == image
    assert odd in {guess["class"] for guess in done.json["predictions"]}
    done = run("predict", "rün", "data/Ünï/absent.png", cwd=here, warm=True, **plain)
    assert_failed(done, 3, r"data/\\xdcn\\xef/absent.png")


UNWRITABLE = {"below a file": "file/run", "far below a file": "file/a/b", "proc": "/proc/cnn-run", "below proc": "/proc/self/run"}


@pytest.mark.slow
@pytest.mark.parametrize("out", UNWRITABLE.values(), ids=UNWRITABLE)
def test_G11_out_that_cannot_be_written(out: str, here: Path) -> None:
    """Even root cannot make a folder below a file or in /proc."""
    (here / "file").write_text("x")
    with unchanged(here):
        done = run("train", "mlp", "--epochs", "1", "-o", out, cwd=here, warm=True)
    assert_failed(done, 4, re.escape(out.split("/")[1] if out.startswith("/") else "file"))
    assert "epoch" not in done.err


@pytest.mark.slow
def test_G11_current_folder_cannot_be_written(here: Path) -> None:
    done = run("train", "mlp", "--epochs", "1", cwd=Path("/proc"), warm=True)
    assert_failed(done, 4, "proc|runs")


@pytest.mark.slow
def test_G11_evaluation_out_that_cannot_be_written(here: Path, digits_run: harness.Trained) -> None:
    (here / "file").write_text("x")
    with unchanged(here):
        done = run("eval", digits_run.folder, "-o", "file/out", cwd=here, warm=True)
    assert_failed(done, 4, "file/out")


def test_G11_current_folder_deleted(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", "mkdir gone && cd gone && rmdir ../gone && exec cnn shape lenet5"],
        cwd=tmp_path,
        env=harness.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("lenet5")
    assert "Traceback" not in done.stderr


def long_training(here: Path, *, warm: bool) -> harness.Started:
    """A training that runs until it is stopped, after its first epoch."""
    started = harness.start("train", "mlp", "--epochs", "100000", "-o", "run", cwd=here, warm=warm)
    deadline = time.monotonic() + 60
    while not (here / "run" / "best.safetensors").exists():
        assert time.monotonic() < deadline, started.error_so_far()
        time.sleep(0.02)
    return started


def assert_whole(folder: Path) -> None:
    """Every file of a run folder is complete, and nothing temporary is left."""
    import tomllib

    from PIL import Image

    from cnncli.engine.state import load_state
    from cnncli.models.modelfile import load

    names = {path.name for path in folder.iterdir()}
    models = {"best.safetensors", "last.safetensors"}
    assert names - {"state-before.safetensors"} == models | {"state.safetensors", "metrics.jsonl", "config.toml", "curves.png"}
    for name in models:
        load(folder / name)
    load_state(folder, strict=True)
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line)["epoch"] for line in text.splitlines()] == list(range(1, text.count("\n") + 1))
    tomllib.loads((folder / "config.toml").read_text())
    with Image.open(folder / "curves.png") as image:
        image.load()


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("number", "code", "word"), [(2, 130, "interrupted"), (15, 143, "terminated")], ids=["ctrl-c", "sigterm"])
def test_G12_training_is_stopped(number: int, code: int, word: str, warm: bool, here: Path) -> None:
    started = long_training(here, warm=warm)
    harness.stop(started, number)
    done = started.wait()
    assert done.code == code, done.err
    assert done.out == ""
    assert [line for line in done.err.splitlines() if word in line] == [f"cnn: {word}"]
    assert "Traceback" not in done.err
    assert done.errors == []
    assert_whole(here / "run")


def blocked(folder: Path, name: str, code: str) -> dict[str, str]:
    """PYTHONPATH with a stand-in for a package."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    (stubs / f"{name}.py").write_text(code)
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{stubs}{os.pathsep}{known}" if known else str(stubs)}


@pytest.mark.parametrize(("number", "code", "word"), [(2, 130, "interrupted"), (15, 143, "terminated")], ids=["ctrl-c", "sigterm"])
def test_G12_stopped_while_torch_is_imported(number: int, code: int, word: str, here: Path, tmp_path: Path) -> None:
    slow = "import pathlib, time; pathlib.Path('importing').touch(); time.sleep(60)"
    started = harness.start("train", "mlp", cwd=here, **blocked(tmp_path, "torch", slow))
    deadline = time.monotonic() + 30
    while not (here / "importing").exists():
        assert time.monotonic() < deadline, started.error_so_far()
        time.sleep(0.02)
    harness.stop(started, number)
    done = started.wait()
    assert (done.code, done.out, done.err) == (code, "", f"cnn: {word}\n")
    assert [path.name for path in here.iterdir()] == ["importing"]


@pytest.mark.slow
def test_G14_scikit_learn_is_missing(here: Path, tmp_path: Path, folder_run: tuple[harness.Trained, Path]) -> None:
    stub = blocked(tmp_path, "sklearn", "raise ImportError('No module named sklearn', name='sklearn')")
    with unchanged(here):
        assert_failed(run("train", "mlp", cwd=here, **stub), 4, r"scikit-learn.*pip install scikit-learn")
        trained, data = folder_run
        done = run("eval", trained.folder, "--data", data, "--json", cwd=here, **stub)
        assert_failed(done, 4, r"sklearn.*pip install scikit-learn", json_out=True)
    done = run("predict", trained.folder, data / "cat" / "000.png", cwd=here, **stub)
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["torch", "numpy", "sklearn", "PIL", "matplotlib"])
def test_G14_other_commands_go_on(name: str, here: Path, tmp_path: Path) -> None:
    stub = blocked(tmp_path, name, f"raise ImportError('broken {name}', name='{name}')")
    done = run("shape", "alexnet", cwd=here, **stub)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(("name", "package"), [("torch", "torch"), ("PIL", "pillow"), ("numpy", "numpy")])
def test_G14_missing_package_is_named(name: str, package: str, here: Path, tmp_path: Path) -> None:
    stub = blocked(tmp_path, name, f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    with unchanged(here):
        assert_failed(run("train", "mlp", cwd=here, **stub), 4, rf"{name}.*pip install {package}")


# (arguments, exit code, what the line must name)
TYPOS = {
    "command": (["trian", "lenet5"], 2, "trian.*train"),
    "option of cnn": (["--vresion"], 2, "--vresion"),
    "shape net": (["shape", "alexnt"], 2, "alexnt.*alexnet"),
    "shape flag": (["shape", "alexnet", "--inpt", "3x9x9"], 2, "--inpt.*--input"),
    "shape layout": (["shape", "alexnet", "--layout", "hcw"], 2, "--layout.*hcw.*chw or hwc"),
    "shape classes": (["shape", "alexnet", "--classes", "ten"], 2, "--classes.*ten"),
    "shape no classes": (["shape", "alexnet", "--classes", "0"], 2, "--classes.*0"),
    "shape depth": (["shape", "alexnet", "--depth", "0"], 2, "--depth.*0"),
    "shape hwc input": (["shape", "alexnet", "--input", "224x224x3"], 2, "channels come first.*3x224x224"),
    "shape comma input": (["shape", "alexnet", "--input", "3,224,224"], 2, "--input.*3x224x224"),
    "shape negative input": (["shape", "alexnet", "--input=-3x224x224"], 2, "--input.*3x224x224"),
    "shape float input": (["shape", "alexnet", "--input", "3x22.4x224"], 2, "--input.*3x224x224"),
    "shape two nets": (["shape", "alexnet", "vgg16"], 2, "vgg16"),
    "models flag": (["models", "--jsno"], 2, "--jsno.*--json"),
    "train net": (["train", "lenet"], 2, "lenet.*lenet5"),
    "train flag": (["train", "lenet5", "--epoch", "3"], 2, "--epoch.*--epochs"),
    "train optimizer": (["train", "lenet5", "--optimizer", "adma"], 2, "--optimizer.*adma.*adam"),
    "train bad images": (["train", "lenet5", "--bad-images", "skp"], 2, "--bad-images.*skp.*skip"),
    "train word as number": (["train", "lenet5", "--epochs", "many"], 2, "--epochs.*many"),
    "train input": (["train", "lenet5", "--input", "32"], 2, "--input"),
    "train nothing": (["train"], 2, "net"),
    "eval model": (["eval", "runs/lenet5-digits-1"], 3, "runs/lenet5-digits-1"),
    "eval net": (["eval", "lenet55"], 2, "lenet55.*lenet5"),
    "eval flag": (["eval", "x", "--splt", "val"], 2, "--splt.*--split"),
    "eval batch size": (["eval", "x", "--batch-size", "0"], 2, "--batch-size.*0"),
    "predict model": (["predict", "model.safetensors", "x.png"], 3, "model.safetensors"),
    "predict flag": (["predict", "x", "y", "--tpo", "3"], 2, "--tpo.*--top"),
    "predict top": (["predict", "x", "y", "--top", "0"], 2, "--top.*0"),
    "predict no image": (["predict", "x"], 2, "images"),
}


@pytest.mark.parametrize("name", TYPOS)
def test_G15_typos(name: str, here: Path) -> None:
    arguments, code, pattern = TYPOS[name]
    with unchanged(here):
        done = run(*arguments, cwd=here)
    assert_failed(done, code, pattern)


LATER_TYPOS = {
    "train data": (["train", "lenet5", "--data", "digts"], 3, "digts.*digits"),
    "train data path": (["train", "lenet5", "--data", "no/such/folder"], 3, "no/such/folder"),
    "train data is a file": (["train", "lenet5", "--data", "file"], 3, "file line 1: it should name the columns path and label"),
    "train device": (["train", "lenet5", "--device", "gpu"], 2, "--device.*gpu.*auto, cpu"),
    "eval data": (["eval", "RUN", "--data", "digts"], 3, "digts.*digits"),
    "eval split": (["eval", "RUN", "--split", "tset"], 2, "tset.*test"),
    "eval device": (["eval", "RUN", "--device", "cdua"], 2, "--device.*cdua"),
    "predict image": (["predict", "RUN", "absent.png"], 3, "absent.png"),
    "predict device": (["predict", "RUN", "file", "--device", "cpu:1"], 2, "--device.*cpu:1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER_TYPOS)
def test_G15_typos_that_torch_must_see(name: str, here: Path, digits_run: harness.Trained) -> None:
    arguments, code, pattern = LATER_TYPOS[name]
    (here / "file").write_text("x")
    with unchanged(here):
        done = run(*(str(digits_run.folder) if word == "RUN" else word for word in arguments), cwd=here, warm=True)
    assert_failed(done, code, pattern)


@pytest.mark.slow
def test_G16_run_folder_exists(here: Path) -> None:
    arguments = ("train", "mlp", "--epochs", "1", "-o", "run")
    assert run(*arguments, cwd=here, warm=True).code == 0
    (here / "run" / "notes.txt").write_text("mine")
    (here / "run" / "pictures").mkdir()
    (here / "run" / "pictures" / "best.safetensors").write_text("mine too")
    before = tree(here)
    assert_failed(run(*arguments, cwd=here, warm=True), 2, "run folder exists: run; .*--overwrite")
    assert tree(here) == before
    (here / "run" / "bad_images.txt").write_text("of an earlier run")
    done = run(*arguments, "--seed", "1", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert (here / "run" / "notes.txt").read_text() == "mine"
    assert (here / "run" / "pictures" / "best.safetensors").read_text() == "mine too"
    assert not (here / "run" / "bad_images.txt").exists(), "it spoke of the earlier run"
    after = tree(here)
    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in after) >= 4


@pytest.mark.slow
def test_G16_refused_before_the_data_are_read(here: Path) -> None:
    """A folder with something else in it is as safe as a run folder; and a file is no folder."""
    (here / "photos").mkdir()
    (here / "photos" / "x.jpg").write_bytes(b"a user's file")
    (here / "file").write_text("x")
    with unchanged(here):
        assert_failed(run("train", "mlp", "-o", "photos", cwd=here, warm=True), 2, "photos.*--overwrite")
        assert_failed(run("train", "mlp", "-o", "file", cwd=here, warm=True), 2, "file")
        assert_failed(run("train", "mlp", "-o", "file", "--overwrite", cwd=here, warm=True), 2, "file")


@pytest.mark.slow
def test_G16_evaluation_exists(here: Path, digits_run: harness.Trained) -> None:
    arguments = ("eval", digits_run.folder, "-o", "out")
    assert run(*arguments, cwd=here, warm=True).code == 0
    (here / "out" / "notes.txt").write_text("mine")
    with unchanged(here):
        assert_failed(run(*arguments, cwd=here, warm=True), 2, r"out/eval.json exists; .*--overwrite")
    assert run(*arguments, "--overwrite", cwd=here, warm=True).code == 0
    assert {"eval.json", "confusion.png", "notes.txt"} <= {path.name for path in (here / "out").iterdir()}


ODD_NAMES = ["a b.png", "x\ny.png", "%s.png", "{0}.png", "C:\\data\\cats.png", "[1].png", "~user.png", "$(touch y).png", "\x1b[31m.png"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_G19_odd_image_names(name: str, here: Path, digits_run: harness.Trained) -> None:
    (here / name).write_bytes(harness.png())
    with unchanged(here):
        done = run("predict", digits_run.folder, name, cwd=here, warm=True)
        assert done.code == 0, done.err
        assert done.out.count("\n") == 1
        assert "\x1b" not in done.out
        done = run("predict", digits_run.folder, name, "--json", cwd=here, warm=True)
        assert done.json["path"] == name
        (done_absent := run("predict", digits_run.folder, f"absent {name}".replace("[1]", "1"), cwd=here, warm=True))
        assert_failed(done_absent, 3, "absent ")


@pytest.mark.slow
def test_G19_dashes_slashes_and_folders(here: Path, digits_run: harness.Trained) -> None:
    (here / "-weird.png").write_bytes(harness.png())
    done = run("predict", digits_run.folder, "--", "-weird.png", cwd=here, warm=True)
    assert done.out.startswith("-weird.png: "), done.err
    assert_failed(run("predict", digits_run.folder, "-weird.png", cwd=here, warm=True), 2, "-w")
    harness.make_folder(here / "a b", {"x\ny": 6, "%d": 6})
    done = run("train", "mlp", "--data", "a b/", "--epochs", "1", "--input", "1x8x8", "-o", "out dir/", cwd=here, warm=True)
    assert done.code == 0, done.err
    done = run("eval", "out dir/", "--json", cwd=here, warm=True)
    assert [entry["class"] for entry in done.json["per_class"]] == ["%d", "x\ny"]
    done = run("eval", "out dir/", cwd=here, warm=True)
    assert "x\\ny" in done.out
    done = run("predict", "out dir/best.safetensors", "a b/", "--json", cwd=here, warm=True)
    assert next(json.loads(line)["path"] for line in done.out.splitlines()) == "a b/%d/000.png"
    assert_failed(run("shape", "no such\nnet", cwd=here), 2, r"no such\\")
    assert_failed(run("train", "mlp", "--data", "../..//%s\n", cwd=here, warm=True), 3, r"%s\\n")
