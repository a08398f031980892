"""`cnn convolve`: the lecture's example as a whole, the documented JSON, pictures, and every way of asking wrongly."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import run
from PIL import Image
from scipy.signal import convolve2d

from cnncli.arch.kernels import KERNELS
from cnncli.arch.matrix import plain_matrix

LECTURE = ("--image", "0 80 40; 20 40 0; 0 0 40", "--kernel", "0 .25; .5 1")
SMALL = ("--image", "1 2; 3 4")
SEVEN = ("--image", "; ".join(["1 2 3 4 5 6 7"] * 7))


@pytest.fixture
def photo(here: Path) -> Path:
    """A coloured picture with edges of both signs."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    pixels[5:15, 8:20] = 255
    Image.fromarray(pixels).save(here / "photo.png")
    return here / "photo.png"


# ---- what the lecture shows ----


def test_the_lecture_s_example(here: Path) -> None:
    done = run("convolve", *LECTURE, cwd=here, COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    table = lines.index("image         kernel       flipped      output")
    assert lines[table + 1 : table + 4] == [
        " 0  80  40      0  0.25       1  0.5    45  110",
        "20  40   0    0.5     1    0.25    0    40   40",
        " 0   0  40",
    ]
    for line in (
        "(0, 0)  0*1 + 80*0.5 + 20*0.25 + 40*0 = 45",
        "(0, 1)  80*1 + 40*0.5 + 40*0.25 + 0*0 = 110",
        "(1, 0)  20*1 + 40*0.5 + 0*0.25 + 0*0 = 40",
        "(1, 1)  40*1 + 0*0.5 + 0*0.25 + 40*0 = 40",
        "output size: (N - F + 2P)/S + 1 = (3 - 2 + 2*0)/1 + 1 = 2 for height and width",
    ):
        assert line in lines
    assert done.out.startswith("convolution: the kernel is flipped")
    assert "output here would be 70 30; 10 40." in done.out


def test_correlation_says_so_and_is_not_flipped(here: Path) -> None:
    out = run("convolve", *LECTURE, "--correlate", cwd=here, COLUMNS="80").out
    assert out.startswith("cross-correlation: the kernel slides over the image as it is, not flipped")
    assert "flipped    " not in out
    assert "(0, 0)  0*0 + 80*0.25 + 20*0.5 + 40*1 = 70" in out
    assert "the output here would be 45 110; 40 40." in " ".join(out.split())


def test_a_kernel_that_equals_its_flip(here: Path) -> None:
    out = " ".join(run("convolve", *SEVEN, "--kernel", "box3", cwd=here).out.split())
    assert "equals its flip, so convolution and cross-correlation are the same" in out


def test_pooling(here: Path) -> None:
    image = ("--image", "[[1,1,2,4],[5,6,7,8],[3,2,1,0],[1,2,3,4]]")
    out = run("convolve", *image, "--pool", "max", "--size", "2", "--stride", "2", cwd=here).out
    assert "(0, 0)  max(1, 1, 5, 6) = 6" in out
    assert run("convolve", *image, "--pool", "max", "--json", cwd=here).json["output"] == [[6, 8], [3, 4]], "2x2/2 is the default"
    out = run("convolve", *image, "--pool", "average", cwd=here).out
    assert "(0, 0)  (1 + 1 + 5 + 6)/4 = 3.25" in out
    found = run("convolve", *SEVEN, "--pool", "max", "--stride", "3", "--ceil", "--json", cwd=here).json
    assert found["output"] == [[2, 5, 7]] * 3


def test_json(here: Path) -> None:
    done = run("convolve", *LECTURE, "--json", cwd=here)
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert list(found) == ["operation", "image", "kernel", "flipped", "stride", "pad", "dilation", "output", "steps"]
    assert found["operation"] == "convolution"
    assert found["kernel"] == [[0, 0.25], [0.5, 1]]
    assert found["flipped"] == [[1, 0.5], [0.25, 0]]
    assert found["output"] == [[45, 110], [40, 40]]
    assert found["steps"][0] == {"row": 0, "column": 0, "terms": [[0, 1], [80, 0.5], [20, 0.25], [40, 0]], "sum": 45}
    for step in found["steps"]:
        assert sum(a * b for a, b in step["terms"]) == step["sum"] == found["output"][step["row"]][step["column"]]
    other = run("convolve", *LECTURE, "--correlate", "--json", cwd=here).json
    assert (other["operation"], other["flipped"], other["output"]) == ("cross-correlation", None, [[70, 30], [10, 40]])


def test_json_of_pooling(here: Path) -> None:
    found = run("convolve", *SMALL, "--pool", "average", "--pad", "1", "--stride", "2", "--json", cwd=here).json
    assert list(found) == ["operation", "image", "size", "stride", "pad", "ceil", "output", "steps"]
    assert (found["operation"], found["size"], found["stride"], found["pad"], found["ceil"]) == ("average pooling", 2, 2, 1, False)
    assert found["output"] == [[0.25, 0.5], [0.75, 1]]
    assert found["steps"][0] == {"row": 0, "column": 0, "values": [0, 0, 0, 1], "result": 0.25}


def test_a_window_that_does_not_tile(here: Path) -> None:
    out = " ".join(run("convolve", *SEVEN, "--kernel", "box3", "--stride", "3", cwd=here).out.split())
    assert "(7 - 3 + 2*0)/3 + 1 = 2.33, rounded down to 2" in out
    assert "doesn't fit" in out
    assert "with stride 2, with pad 1, with height and width of 6 or 9" in out
    for change in (("--stride", "2"), ("--stride", "3", "--pad", "1")):
        assert "doesn't fit" not in run("convolve", *SEVEN, "--kernel", "box3", *change, cwd=here).out
    pooled = " ".join(run("convolve", *SEVEN, "--pool", "max", "--size", "3", "--stride", "3", "--pad", "0", cwd=here).out.split())
    assert "with pad 1" in pooled, "half of 3 is 1"


def test_padding_is_seen(here: Path) -> None:
    out = run("convolve", *SMALL, "--kernel", "1 1; 1 1", "--pad", "1", cwd=here).out
    lines = [line.split() for line in out.splitlines()]
    title = next(number for number, line in enumerate(lines) if line[:1] == ["image"])
    assert " ".join(lines[title]) == "image (. is padding) kernel flipped output"
    assert [line[:4] for line in lines[title + 1 : title + 5]] == [[*"...."], [*".12."], [*".34."], [*"...."]]


# ---- large and narrow ----


def test_large_outputs_are_cut_and_all_shows_them(here: Path) -> None:
    first = run("convolve", *SEVEN, "--kernel", "sobel-x", "--pad", "1", cwd=here).out
    assert sum(line.startswith("(") for line in first.splitlines()) == 10
    assert "... 39 more entries; --all shows them" in first
    everything = run("convolve", *SEVEN, "--kernel", "sobel-x", "--pad", "1", "--all", cwd=here).out
    assert "(6, 6)  " in everything
    assert "more entries" not in everything


@pytest.mark.parametrize("columns", ["20", "40", "80", "140", "0", "abc"])
def test_widths(columns: str, here: Path) -> None:
    (here / "m.txt").write_text("\n".join(" ".join(str((7 * y + 13 * x) % 256) for x in range(28)) for y in range(28)))
    done = run("convolve", "--image", "m.txt", "--kernel", "gaussian5", cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    room = int(columns) if columns.isdigit() and int(columns) else 100
    assert max(map(len, done.out.splitlines())) <= room
    shown = run("convolve", *LECTURE, cwd=here, COLUMNS=columns).out
    assert all(number in shown for number in ("0.25", "110"))


def test_a_digit_is_shown_whole(here: Path) -> None:
    (here / "m.txt").write_text("\n".join(" ".join(["255"] * 28) for _ in range(28)))
    out = run("convolve", "--image", "m.txt", "--kernel", "identity", cwd=here, COLUMNS="140").out
    assert out.count("  ".join(["255"] * 28) + "\n") == 28


def test_no_colour_without_a_terminal(here: Path) -> None:
    assert "\x1b" not in run("convolve", *LECTURE, cwd=here).out


# ---- where matrices come from ----


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "\ufeff0,80,40\r\n20,40,0\r\n0,0,40\r\n"),
        ("m.txt", "0 80 40\n20 40 0\n0 0 40"),
        ("m.json", "[[0, 80,\n 40], [20,40,0], [0,0,40]]"),
    ],
)
def test_files(name: str, text: str, here: Path) -> None:
    (here / name).write_bytes(text.encode())
    (here / "k").write_text("0 .25\n.5 1\n")
    assert run("convolve", "--image", name, "--kernel", "k", "--json", cwd=here).json["output"] == [[45, 110], [40, 40]]


def test_a_kernel_s_name_comes_before_a_file(here: Path) -> None:
    (here / "identity").write_text("5")
    assert run("convolve", *SEVEN, "--kernel", "identity", "--json", cwd=here).json["kernel"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert run("convolve", *SEVEN, "--kernel", "./identity", "--json", cwd=here).json["kernel"] == [[5]]


def test_negative_numbers_are_no_flags(here: Path) -> None:
    assert run("convolve", "--image", "-1 2 3", "--kernel", "-1 0 1", "--json", cwd=here).json["output"] == [[-4]]


def test_list_kernels(here: Path) -> None:
    out = run("convolve", "--list-kernels", cwd=here).out
    found = run("convolve", "--list-kernels", "--json", cwd=here).json["kernels"]
    assert [entry["name"] for entry in found] == list(KERNELS)
    for entry in found:
        assert list(entry) == ["name", "kernel", "meaning", "source"]
        assert f"{entry['name']}: {entry['meaning']}" in " ".join(out.split())
        assert entry["kernel"] == plain_matrix(KERNELS[entry["name"]].matrix)


def test_matrices_need_the_standard_library_alone(tmp_path: Path) -> None:
    for name in ("torch", "torchvision", "numpy", "scipy", "PIL", "sklearn"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    done = subprocess.run(
        [sys.executable, "-m", "cnncli", "convolve", *LECTURE],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- pictures ----


def test_a_picture_becomes_a_picture(photo: Path, here: Path) -> None:
    done = run("convolve", "--image", "photo.png", "--kernel", "sobel-x", "-o", "deep/edges.png", "--json", cwd=here)
    assert (done.code, done.err) == (0, "wrote deep/edges.png\n")
    found = done.json
    keys = "operation image kernel flipped stride pad dilation output input_size output_size least greatest shown black white cut"
    assert list(found) == keys.split()
    assert (found["image"], found["output"]) == ("photo.png", "deep/edges.png")
    assert (found["input_size"], found["output_size"], found["shown"]) == ([20, 31, 3], [18, 29, 3], "signed")
    made = Image.open(here / "deep" / "edges.png")
    assert (made.size, made.mode) == ((29, 18), "RGB")
    pixels = np.asarray(Image.open(photo)).astype(float)
    want = np.stack([convolve2d(pixels[..., c], [[1, 0, -1], [2, 0, -2], [1, 0, -1]], mode="valid") for c in range(3)], axis=-1)
    assert (found["least"], found["greatest"]) == (want.min(), want.max())
    levels = np.clip(128 + want * 127 / found["white"], 1, 255)
    assert np.abs(np.asarray(made) - levels).max() <= 0.5 + 1e-3


def test_grey_clip_and_pooling(photo: Path, here: Path) -> None:
    grey = np.asarray(Image.open(photo).convert("L")).astype(float)
    found = run("convolve", "--image", photo, "--grey", "--kernel", "sharpen", "-o", "s.png", "--json", cwd=here).json
    want = convolve2d(grey, KERNELS["sharpen"].weights, mode="valid")
    assert (found["shown"], found["output_size"]) == ("clip", [18, 29, 1])
    assert np.array_equal(np.asarray(Image.open(here / "s.png")), np.clip(want, 0, 255))
    assert found["cut"] == pytest.approx(((want < -0.5) | (want >= 255.5)).mean())
    found = run("convolve", "--image", photo, "--grey", "--pool", "max", "-o", "p.png", "--json", cwd=here).json
    assert (found["operation"], found["size"], found["stride"], found["shown"]) == ("max pooling", 2, 2, "as they are")
    assert np.array_equal(np.asarray(Image.open(here / "p.png")), grey[:, :30].reshape(10, 2, 15, 2).max(axis=(1, 3)))


def test_the_text_about_a_picture(photo: Path, here: Path) -> None:
    def text(*options: str) -> str:
        done = run("convolve", "--image", "photo.png", "-o", "out.png", "--overwrite", *options, cwd=here)
        assert done.code == 0, done.err
        return " ".join(done.out.split())

    edges = text("--kernel", "laplacian4")
    assert "photo.png: 20x31 pixels (height x width), 3 channels, each on its own" in edges
    assert "(20 - 3 + 2*0)/1 + 1 = 18 for the height, (31 - 3 + 2*0)/1 + 1 = 29 for the width" in edges
    assert "shown around mid-grey" in edges
    assert "0 is grey (128)" in edges
    assert "changes the sign of every result" in text("--kernel", "sobel-y", "--correlate")
    assert "cut off at 0 and 255" in text("--kernel", "sharpen")
    assert "as they are" in text("--kernel", "box3")
    assert "stretched" in text("--kernel", "1 2; 3 4")
    assert "stretched" in text("--kernel", "box3", "--show", "stretch")
    assert "The padding is black" in text("--kernel", "box3", "--pad", "1")
    assert "grey" in text("--kernel", "box3", "--grey").split("convolution")[0]
    assert "windows of 2x2, stride 2" in text("--pool", "average")


def test_what_exists_stays_unless_asked(photo: Path, here: Path) -> None:
    before = hashlib.sha256(photo.read_bytes()).hexdigest()
    (here / "out.png").write_bytes(b"mine")
    call = ("convolve", "--image", "photo.png", "--kernel", "box3", "-o")
    refused = run(*call, "out.png", cwd=here)
    assert (refused.code, (here / "out.png").read_bytes()) == (2, b"mine")
    assert "--overwrite" in refused.err
    assert run(*call, "out.png", "--overwrite", cwd=here).code == 0
    assert Image.open(here / "out.png").size == (29, 18)
    (here / "link.png").symlink_to(photo)
    for target in ("photo.png", "./photo.png", "link.png"):
        done = run(*call, target, "--overwrite", cwd=here)
        assert done.code == 2
        assert "the image itself" in done.err
    assert hashlib.sha256(photo.read_bytes()).hexdigest() == before


# ---- asked wrongly ----

WRONG = [
    ((), 2, "--image is missing; try: cnn convolve"),
    (SMALL, 2, "--kernel or --pool is missing; try"),
    (("--image", "1 2; 3", "--kernel", "1"), 2, "--image: row 1 has 2 numbers but row 2 has 1 number"),
    (("--image", "", "--kernel", "1"), 2, "--image '' is neither a matrix nor a file"),
    (("--image", "1 nan; 2 3", "--kernel", "1"), 2, "row 1, column 2: 'nan' is not a number"),
    (("--image", "1 2", "--kernel", "1 inf"), 2, "--kernel: row 1, column 2: 'inf'"),
    (("--image", "nothere.png", "--kernel", "1"), 3, "--image nothere.png: no such file"),
    (("--image", ".", "--kernel", "1"), 3, "a folder, not a file"),
    ((*SMALL, "--kernel", "nothere.csv"), 3, "--kernel nothere.csv: no such file"),
    ((*SMALL, "--kernel", "sobelx"), 2, "unknown kernel 'sobelx'; did you mean sobel-x"),
    ((*SMALL, "--kernel", "qqqqqq"), 2, "--list-kernels lists all"),
    ((*SMALL, "--kernel", "box3"), 2, "(2 - 3 + 2*0)/1 + 1 = 0, below 1; --pad 1"),
    ((*SMALL, "--pool", "max", "--size", "3"), 2, "--size 2 fits"),
    ((*SMALL, "--pool", "max", "--pad", "2"), 2, "pooling pads by at most 1"),
    ((*SMALL, "--pool", "maximum"), 2, "did you mean max?"),
    ((*SMALL, "--pool", "max", "--kernel", "1"), 2, "--pool and --kernel exclude each other"),
    ((*SMALL, "--pool", "max", "--correlate"), 2, "--pool and --correlate exclude each other"),
    ((*SMALL, "--pool", "max", "--dilation", "2"), 2, "--pool and --dilation exclude each other"),
    ((*SMALL, "--kernel", "1", "--size", "2"), 2, "--size is for pooling"),
    ((*SMALL, "--kernel", "1", "--ceil"), 2, "--ceil is for pooling"),
    ((*SMALL, "--kernel", "1", "-o", "x.png"), 2, "--out is for an image file"),
    ((*SMALL, "--kernel", "1", "--grey"), 2, "--grey is for an image file"),
    ((*SMALL, "--kernel", "1", "--show", "clip"), 2, "--show is for an image file"),
    ((*SMALL, "--kernel", "1", "--show", "clips"), 2, "did you mean clip?"),
    ((*SMALL, "--kernel", "1", "--stride", "-1"), 2, "'--stride': -1 is not in the range"),
    ((*SMALL, "--kernel", "1", "--stride", "0"), 2, "'--stride': 0 is not in the range"),
    ((*SMALL, "--kernel", "1", "--pad", "-1"), 2, "'--pad': -1 is not in the range"),
    ((*SMALL, "--kernel", "1", "--pad", "9999"), 2, "products are too many to work by hand"),
    (("--image", "photo.png", "--kernel", "box3"), 2, "-o is missing; add -o result.png"),
    (("--image", "photo.png", "--pool", "max"), 2, "-o is missing; add -o result.png"),
    (("--image", "photo.png", "--kernel", "box3", "-o", "x.jpg"), 2, "--out x.jpg should end in .png; for example -o x.png"),
    (("--image", "photo.png", "--kernel", "photo.png", "-o", "x.png"), 2, "--kernel photo.png is an image"),
    (("--image", "photo.png", "--kernel", "box3", "-o", "x.png", "--dilation", "99"), 2, "below 1"),
    (("--image", "photo.png", "--kernel", "box3", "-o", "x.png", "--max-pixels", "9"), 3, "--max-pixels raises the limit"),
    (("--image", "million.txt", "--kernel", "1"), 3, "give an image file"),
    (("--image", "many.txt", "--kernel", "1"), 3, "more than 10,000 numbers"),
    (("--image", "empty.txt", "--kernel", "1"), 3, "empty file"),
    (("--image", "blank.txt", "--kernel", "1"), 3, "no number in it"),
    (("--image", "page.csv", "--kernel", "1"), 3, "HTML page"),
    (("--image", "ragged.csv", "--kernel", "1"), 3, "row 1 has 2 numbers but row 2 has 3 numbers"),
    (("--image", "damaged.png", "--kernel", "box3", "-o", "x.png"), 3, "cannot read image damaged.png"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), WRONG, ids=[told[:40] for _, _, told in WRONG])
def test_one_line_says_what_is_wrong(arguments: tuple[str, ...], code: int, told: str, photo: Path, here: Path) -> None:
    (here / "million.txt").write_text("1 " * 10**6)
    (here / "many.txt").write_text("1 " * 20_000)
    (here / "empty.txt").touch()
    (here / "blank.txt").write_text(" \n\n")
    (here / "page.csv").write_text("<!DOCTYPE html><html>")
    (here / "ragged.csv").write_text("1,2\n3,4,5\n")
    (here / "damaged.png").write_bytes(photo.read_bytes()[:200])
    before = sorted(path.name for path in here.iterdir())
    done = run("convolve", *arguments, cwd=here)
    assert done.code == code
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert told in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in here.iterdir()) == before, "nothing is written"


def test_errors_as_json(here: Path) -> None:
    done = run("convolve", *SMALL, "--kernel", "sobelx", "--json", cwd=here)
    assert done.code == 2
    assert done.json["error"]["path"] == "--kernel"
    assert "sobel-x" in done.json["error"]["fix"]
