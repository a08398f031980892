"""`cnn shape NET --diagram FILE`: the file that is made, and what is said where it cannot be."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from harness import assert_failed, run, unchanged, without_rights
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"


def words(path: Path) -> list[str]:
    return ["".join(element.itertext()) for element in ET.parse(path).iter(f"{SVG}text")]


@pytest.mark.parametrize("file", ["net.png", "drawings/my net.SVG", pytest.param("net.pdf", marks=pytest.mark.slow)])
def test_the_file_is_made_and_its_path_printed(file: str, here: Path) -> None:
    (here / "drawings").mkdir()
    done = run("shape", "lenet5", "--diagram", file, cwd=here)
    assert (done.code, done.out, done.err) == (0, f"{file}\n", "")
    made = here / file
    head = made.read_bytes()[:8]
    assert head.startswith({".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF-"}[made.suffix.lower()])
    assert [path for path in here.rglob("*") if path.is_file()] == [made], "nothing else is left"
    assert made.stat().st_mode & 0o777 == 0o666 & ~_umask()
    if made.suffix == ".png":
        with Image.open(made) as picture:
            picture.load()
            assert min(picture.size) > 300


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.slow
def test_input_and_classes_are_those_asked_for(here: Path) -> None:
    done = run("shape", "lenet5", "--input", "3x64x64", "--classes", "7", "--diagram", "net.svg", cwd=here)
    assert done.code == 0
    assert {"input 3x64x64", "fc 7"} <= set(words(here / "net.svg"))


@pytest.mark.parametrize(
    ("options", "closed", "opened"),
    [
        ((), set(), {"conv2_x.block2-3", "x 2", "x 5", "conv1"}),
        (("--depth", "1"), {"conv2_x", "32 layers, 256"}, {"conv1"}),
        pytest.param(("--depth", "2"), {"block2", "conv2_x.block2-3"}, {"conv1", "x 5"}, marks=pytest.mark.slow),
        (("--all",), set(), {"conv4_x.block6"}),
    ],
)
def test_depth_and_all(options: tuple[str, ...], closed: set[str], opened: set[str], here: Path) -> None:
    assert run("shape", "resnet50", *options, "--diagram", "net.svg", cwd=here).code == 0
    shown = set(words(here / "net.svg"))
    assert closed | opened <= shown
    if options == ("--depth", "1"):
        assert not [word for word in shown if "block" in word and word != "block of layers"]
    if options == ("--all",):
        assert not [word for word in shown if re.fullmatch(r"x \d+", word)]


def test_a_net_in_notation(here: Path) -> None:
    text = "[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX"
    assert run("shape", text, "--diagram", "net.svg", cwd=here).code == 0
    shown = words(here / "net.svg")
    assert shown.count("2x2 max pool, /2") == 3
    assert sum(word.startswith("3x3 conv, ") for word in shown) == 6
    assert text in shown


@pytest.mark.slow
def test_a_trained_model(here: Path, digits_run) -> None:
    for trained in (digits_run.folder, digits_run.best):
        done = run("shape", trained, "--diagram", "net.svg", "--overwrite", cwd=here)
        assert (done.code, done.out) == (0, "net.svg\n")
        assert {"lenet5", "5x5 conv, 6", "fc 10"} <= set(words(here / "net.svg"))


@pytest.mark.slow
def test_json_and_silence(here: Path) -> None:
    """--diagram prints a path and no table, also for a net with a window that does not tile its input."""
    done = run("shape", "alexnet", "--input", "3x224x224", "--diagram", "net.svg", cwd=here)
    assert (done.code, done.out, done.err) == (0, "net.svg\n", "")


@pytest.mark.slow
def test_names_in_other_letters_are_no_warning(here: Path) -> None:
    done = run("shape", "lenet5", "--diagram", "그림 é $x$.svg", cwd=here)
    assert (done.code, done.out, done.err) == (0, "그림 é $x$.svg\n", "")


# ---- what is refused ----


@pytest.mark.parametrize("file", ["net.jpg", "net", "net.svg.gz", "..", ".png"])
def test_another_suffix(file: str, here: Path) -> None:
    with unchanged(here):
        assert_failed(run("shape", "lenet5", "--diagram", file, cwd=here), 2, r"--diagram .* should end in \.svg, \.png or \.pdf")


def test_a_file_that_exists(here: Path) -> None:
    (here / "net.svg").write_text("mine")
    with unchanged(here):
        assert_failed(run("shape", "lenet5", "--diagram", "net.svg", cwd=here), 2, r"net\.svg exists; --overwrite replaces it")
    done = run("shape", "lenet5", "--diagram", "net.svg", "--overwrite", cwd=here)
    assert (done.code, done.out) == (0, "net.svg\n")
    assert "5x5 conv, 6" in words(here / "net.svg")


@pytest.mark.parametrize("file", ["nowhere/net.svg", "file/net.png", "/proc/net.pdf", "folder.svg"])
def test_where_nothing_can_be_written(file: str, here: Path) -> None:
    (here / "file").write_text("no folder")
    (here / "folder.svg").mkdir()
    with unchanged(here):
        done = run("shape", "lenet5", "--diagram", file, "--overwrite", cwd=here)
        assert_failed(done, 4, rf"cannot write .*{re.escape(Path(file).name)}")


@pytest.mark.slow
def test_a_failure_as_json(here: Path) -> None:
    assert_failed(run("shape", "lenet5", "--json", "--diagram", "nowhere/net.svg", cwd=here), 4, "cannot write", json_out=True)
    assert_failed(run("shape", "lenet5", "--json", "--diagram", "net.gif", cwd=here), 2, "should end in", json_out=True)


def test_a_folder_that_may_not_be_written(here: Path) -> None:
    front = without_rights()
    locked = here / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        assert_failed(run("shape", "lenet5", "--diagram", "locked/net.svg", cwd=here, front=front), 4, "cannot write")
    finally:
        locked.chmod(0o755)


@pytest.mark.slow
def test_a_traced_model_is_not_drawn(here: Path, tmp_path: Path) -> None:
    with unchanged(here):
        done = run("shape", "torchvision/resnet18", "--diagram", "net.svg", cwd=here, CNN_CACHE=str(tmp_path / "cache"))
        assert_failed(done, 2, r"--diagram needs a net that is described as data, and torchvision/resnet18 is traced; .*`cnn models`")


def test_depth_0(here: Path) -> None:
    with unchanged(here):
        assert_failed(run("shape", "lenet5", "--depth", "0", "--diagram", "net.svg", cwd=here), 2, "--depth")
        assert_failed(run("shape", "lenet5", "--depth", "1", "--all", "--diagram", "net.svg", cwd=here), 2, "--depth and --all")


def test_an_input_that_does_not_fit(here: Path) -> None:
    with unchanged(here):
        assert_failed(run("shape", "alexnet", "--input", "3x9x9", "--diagram", "net.svg", cwd=here), 2, "alexnet")


@pytest.mark.slow
def test_two_nets(here: Path) -> None:
    with unchanged(here):
        assert_failed(run("shape", "lenet5", "mlp", "--diagram", "net.svg", cwd=here), 2, "2 nets")
