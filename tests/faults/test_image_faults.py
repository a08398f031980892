"""Images and their files: links, what is no file, odd names and modes, orientation, bombs, permissions, odd sizes, disks that fail."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import harness
import numpy as np
import pytest
from handmade import GREY, PALETTE, RGB, RGBA, gif, png, png_bomb, scan_bomb, tiff
from harness import Trained, assert_failed, make_folder, picture, run, unchanged, without_rights
from PIL import Image

from cnncli.data.preprocess import Preprocess
from cnncli.models.modelfile import load, read_info, save

pytestmark = pytest.mark.slow

SHORT = ("--epochs", "1", "--input", "1x8x8")
COLOUR = ("--epochs", "1", "--input", "3x8x8")


def train(here: Path, *arguments: str, data: str = "data", out: str = "run", size: tuple[str, ...] = SHORT) -> harness.Done:
    return run("train", "mlp", "--data", data, *size, "-o", out, *arguments, cwd=here, warm=True)


def predictions(here: Path, model: str | Path, *images: str | Path) -> dict[str, dict[str, float] | str]:
    """What each image is taken for, or the reason why it cannot be read."""
    done = run("predict", model, *images, "--json", "--top", "10", cwd=here, warm=True)
    assert "Traceback" not in done.err, done.err
    found = {}
    for line in done.out.splitlines():
        record = json.loads(line)
        if "path" in record:
            found[record["path"]] = record.get("error") or {each["class"]: each["probability"] for each in record["predictions"]}
    return found


def alike(one: dict[str, float] | str, other: dict[str, float] | str) -> bool:
    """Whether two images were taken for the same; one pixel's difference shows in the fifth digit, the place in the batch in the eighth."""
    assert isinstance(one, dict), one
    assert isinstance(other, dict), other
    return one == pytest.approx(other, rel=1e-6, abs=1e-7)


# A child's peak begins at the memory of the process that starts it, so a small one does, and tells its exit code and its peak (KiB).
MEASURE = """
import os, sys
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def measured(here: Path, *arguments: str | Path, front: tuple[str, ...] = (), **variables: str) -> tuple[int, str, float, float]:
    """A real process of its own: (exit code, standard error, seconds, peak memory in MB)."""
    line = [*front, harness.COMMAND, *map(str, arguments)]
    began = time.monotonic()
    with (here / "err").open("wb") as err:
        done = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, *line],
            cwd=here,
            env=harness.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            check=True,
        )
    code, peak = map(int, done.stdout.split())
    return code, (here / "err").read_text("utf-8", "replace"), time.monotonic() - began, peak / 1000


def saved(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_D4_a_disk_that_fails_for_a_moment(here: Path, tmp_path: Path, digits_run: Trained) -> None:
    """Two more tries; then the image counts as bad, by what the system says. What the file itself holds is tried once."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import errno, io, os\n"
        "real, left = io.open, {'twice.png': 2, 'always.png': 9}\n"
        "def open_(file, *rest, **more):\n"
        "    name = os.path.basename(os.fspath(file)) if not isinstance(file, int) else ''\n"
        "    if left.get(name, 0) > 0:\n"
        "        left[name] -= 1\n"
        "        raise OSError(errno.EIO, os.strerror(errno.EIO), file)\n"
        "    return real(file, *rest, **more)\n"
        "io.open = open_\n"
    )
    for name in ("good", "twice", "always"):
        picture(1).save(here / f"{name}.png")
    with unchanged(here):
        done = run(
            "predict", digits_run.folder, "good.png", "twice.png", "always.png", "--json", cwd=here, PYTHONPATH=str(tmp_path / "site")
        )
    assert done.code == 5, done.err
    good, twice, always = map(json.loads, done.out.splitlines())
    assert [each["probability"] for each in twice["predictions"]] == pytest.approx([each["probability"] for each in good["predictions"]])
    assert always["error"].endswith("always.png: Input/output error")


def test_D13_links_and_loops(here: Path, tmp_path: Path) -> None:
    """Each real folder is visited once; what a link outside points at is read like what lies here."""
    data = make_folder(here / "data", {"a": 5, "b": 5})
    outside = make_folder(tmp_path / "outside", {"more": 3})
    (data / "a" / "loop").symlink_to("..")
    (data / "a" / "self").symlink_to("self")
    (data / "a" / "again").symlink_to(data / "b")
    (data / "a" / "gone.png").symlink_to("nowhere.png")
    (data / "b" / "out").symlink_to(outside / "more")
    (data / "b" / "file.png").symlink_to(outside / "more" / "000.png")
    (outside / "more" / "back").symlink_to(data)
    with unchanged(data, outside):
        done = train(here)
    assert done.code == 0, done.err
    assert "11 training images, 3 validation images" in done.err  # 5 of a; 5 + 3 + 1 of b
    notes = [line for line in done.err.splitlines() if line.startswith("note:")]
    nowhere = next(line for line in notes if "point nowhere" in line)
    assert "a/gone.png" in nowhere
    assert "a/self" in nowhere
    elsewhere = next(line for line in notes if "read elsewhere" in line)
    assert "a/loop" in elsewhere
    assert "a/again" in elsewhere
    found = predictions(here, "run", "data")
    assert len(found) == 14
    assert all(isinstance(each, dict) for each in found.values())


def test_D14_what_is_no_file(here: Path) -> None:
    """A folder named x.jpg is a folder: what it holds is read."""
    data = make_folder(here / "data", {"a": 5, "b": 5, "b/x.jpg": 2})
    os.mkfifo(data / "a" / "fifo.jpg")
    (data / "a" / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(data / "a")  # the name of a socket may have 107 bytes
        listening.bind("socket.jpg")
        os.chdir(here)
        done = train(here)
        assert done.code == 0, done.err
        assert "10 training images, 2 validation images" in done.err
        note = next(line for line in done.err.splitlines() if "not a regular file" in line)
        for told in ("a/fifo.jpg (a FIFO", "a/zero.jpg (a device", "a/socket.jpg (a socket"):
            assert told in note
        found = predictions(here, "run", "data/a/fifo.jpg", "data/a/zero.jpg", "data/a/socket.jpg", "data/a/000.png")
    assert [each if isinstance(each, str) else "" for each in found.values()] == [
        "cannot read image data/a/fifo.jpg: a FIFO, not a file",
        "cannot read image data/a/zero.jpg: a device, not a file",
        "cannot read image data/a/socket.jpg: a socket, not a file",
        "",
    ]


def test_D15_the_content_decides(here: Path) -> None:
    data = make_folder(here / "data", {"a": 5, "b": 5})
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    for name, form in (("1.JPG", "JPEG"), ("2.JPEG", "JPEG"), ("3.jfif", "JPEG"), ("4", "JPEG"), ("5.jpg", "PNG"), ("6.png", "GIF")):
        (data / "a" / name).write_bytes(saved(colour, form))
    (data / "a" / "7.txt").write_bytes(saved(colour, "WEBP"))
    (data / "a" / "readme.txt").write_text("words\n")
    done = train(here)
    assert done.code == 0, done.err
    assert "14 training images, 3 validation images" in done.err
    assert "ignored 1 files that are not images: a/readme.txt" in done.err
    found = predictions(here, "run", "data/a")
    assert len(found) == 12
    assert all(alike(found["data/a/1.JPG"], found[f"data/a/{name}"]) for name in ("2.JPEG", "3.jfif", "4"))


def test_D16_sixteen_bits_train_as_eight(here: Path) -> None:
    """Scaled by what 16 bits can hold, not by the brightest pixel, and not clipped. There is no notice: nobody expects it otherwise,
    and `cnn data` shows the modes of a set."""
    make_folder(here / "eight", {"a": 6, "b": 6})
    for path in (here / "eight").rglob("*.png"):
        deep = here / "sixteen" / path.relative_to(here / "eight")
        deep.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 256 + 99).save(deep)
    for data in ("eight", "sixteen"):
        assert train(here, data=data, out=f"run-{data}").code == 0
    eight, sixteen = (read_info(here / f"run-{data}" / "best.safetensors").preprocess for data in ("eight", "sixteen"))
    assert eight == sixteen
    a, b = (predictions(here, "run-eight", f"{data}/b/003.png") for data in ("eight", "sixteen"))
    assert alike(*a.values(), *b.values())


EVERY_MODE = {
    "bits.png": png(8, 1, GREY, [b"\xaa"] * 8),
    "grey.png": png(8, 8, GREY, [bytes(range(0, 256, 32))] * 8),
    "deep.png": png(8, 16, GREY, [bytes(range(16))] * 8),
    "palette.png": png(8, 1, PALETTE, [b"\xf0"] * 8, (b"PLTE", bytes((1, 2, 3, 200, 100, 0))), (b"tRNS", b"\x80")),
    "rgb.png": png(2, 8, RGB, [bytes(range(6))] * 2),
    "rgb16.png": png(1, 16, RGB, [bytes(range(6))]),
    "rgba.png": png(2, 8, RGBA, [bytes((255, 0, 0, 128, 0, 0, 255, 0))] * 2),
    "float.tif": tiff(2, [32], 1, np.array([0, 1], "<f4").tobytes(), form=3),
    "cmyk.tif": tiff(1, [8] * 4, 5, bytes((9, 8, 7, 6))),
    "lab.tif": tiff(1, [8] * 3, 8, bytes((128, 5, 5))),
    "two.gif": gif(2),
    "cmyk.jpg": saved(Image.new("CMYK", (8, 8), (10, 200, 30, 40))),
    "mpo.jpg": saved(Image.new("RGB", (8, 8), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")]),
    "moving.webp": saved(
        Image.new("RGB", (8, 8), "red"), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")], lossless=True
    ),
}


@pytest.mark.parametrize("size", ["1x8x8", "3x8x8"])
def test_D17_every_mode_trains(size: str, here: Path) -> None:
    """Pixels are in tests/data/test_modes.py: golden, over 50 of them."""
    data = make_folder(here / "data", {"a": 5, "b": 5})
    for name, content in EVERY_MODE.items():
        (data / "a" / name).write_bytes(content)
    done = train(here, size=("--epochs", "1", "--input", size))
    assert done.code == 0, done.err
    assert not (here / "run" / "bad_images.txt").exists()
    found = predictions(here, "run", "data/a")
    assert len(found) == 5 + len(EVERY_MODE)
    assert all(isinstance(each, dict) for each in found.values())


def clear(red: int, alpha: int) -> Image.Image:
    """Red that lets half of what is behind it through, on its left side alone."""
    values = np.zeros((8, 8, 4), np.uint8)
    values[..., 0], values[..., 3] = red, 255
    values[:, :4, 3] = alpha
    return Image.fromarray(values)


def over(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    flat = Image.new("RGBA", image.size, (*colour, 255))
    flat.alpha_composite(image)
    return flat.convert("RGB")


def test_D17_the_background_travels_in_the_model_file(here: Path) -> None:
    make_folder(here / "data", {"a": 6, "b": 6})
    image = clear(200, 0)
    image.save(here / "clear.png")
    for name, colour in (("black", (0, 0, 0)), ("white", (255, 255, 255)), ("teal", (0, 128, 128))):
        over(image, colour).save(here / f"{name}.png")
    for model, flag in (("black", ("--background", "black")), ("white", ()), ("teal", ("--background", "#008080"))):
        assert train(here, *flag, out=f"run-{model}", size=COLOUR).code == 0
        found = predictions(here, f"run-{model}", "clear.png", "black.png", "white.png", "teal.png")
        same = [name for name in ("black", "white", "teal") if alike(found[f"{name}.png"], found["clear.png"])]
        assert same == [model]
    assert read_info(here / "run-teal" / "best.safetensors").preprocess.background == (0, 128, 128)


@pytest.mark.parametrize("colour", ["blakc", "#12345", "rgb(0,0,0)", "transparent", ""])
def test_D17_a_background_that_is_no_colour(colour: str, here: Path) -> None:
    make_folder(here / "data", {"a": 3, "b": 3})
    with unchanged(here):
        assert_failed(train(here, "--background", colour), 2, r"--background .* is no colour.*for example --background black")


def test_D17_a_model_file_that_does_not_say(here: Path, tmp_path: Path, digits_run: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first model files have neither background nor exif: white it was, and turned."""
    whole = Preprocess.to_json
    monkeypatch.setattr(Preprocess, "to_json", lambda self: {k: v for k, v in whole(self).items() if k not in {"background", "exif"}})
    module, info = load(digits_run.best)
    save(here / "old.safetensors", module, info)
    assert b"background" not in (here / "old.safetensors").read_bytes()
    clear(200, 0).save(here / "clear.png")
    (here / "turned.png").write_bytes(turned(picture(1), 6))
    old, new = (
        run("predict", model, "clear.png", "turned.png", "--json", cwd=here, warm=True) for model in ("old.safetensors", digits_run.best)
    )
    assert (old.code, old.out) == (0, new.out), old.err


def test_E1_eval_and_predict_agree(here: Path, folder_run: tuple[Trained, Path]) -> None:
    """On every label and probability, over files of many modes; and a second evaluation gives the same text."""
    trained, data = folder_run
    shutil.copytree(data, here / "data")
    classes = ("bus", "cat", "dog")
    for number, (name, content) in enumerate(EVERY_MODE.items()):
        (here / "data" / classes[number % 3] / name).write_bytes(content)
    for orientation in STORED:
        (here / "data" / "cat" / f"turned{orientation}.png").write_bytes(turned(picture(orientation), orientation))
    first, second = (run("eval", trained.folder, "--data", "data", "--split", "all", "--json", cwd=here, warm=True) for _ in range(2))
    assert first.code == 0, first.err
    assert first.out == second.out
    found = predictions(here, trained.folder, "data")
    assert len(found) == first.json["count"] == 36 + len(EVERY_MODE) + len(STORED)
    confusion, losses = np.zeros((3, 3), int), []
    for path, guesses in found.items():
        true = Path(path).parent.name
        confusion[classes.index(true), classes.index(max(guesses, key=guesses.__getitem__))] += 1
        losses.append(-np.log(guesses[true]))
    assert confusion.tolist() == first.json["confusion"]
    assert np.mean(losses) == pytest.approx(first.json["loss"], rel=1e-5)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        return data[: rng.integers(len(data))]
    changed = bytearray(data)
    for place in rng.integers(len(changed), size=rng.integers(1, 9)):
        changed[place] = rng.integers(256)
    return bytes(changed)


def test_D2_damaged_files_are_all_counted(here: Path, digits_run: Trained) -> None:
    """300 damaged files of 14 kinds: each is classified or named with a reason, in order, on one line."""
    rng, kinds = np.random.default_rng(5), list(EVERY_MODE.items())
    names = []
    for number in range(300):
        name, content = kinds[number % len(kinds)]
        names.append(f"{number:03d}-{name}")
        (here / names[-1]).write_bytes(mutated(content, rng))
    done = run("predict", digits_run.folder, *names, "--json", cwd=here, warm=True)
    assert done.code == 5, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["path"] for record in records] == names
    bad = [record for record in records if "error" in record]
    assert 100 < len(bad) < 290
    assert all(record["error"].startswith(f"cannot read image {record['path']}: ") for record in bad)
    assert len(done.err.splitlines()) == len(bad), "and nothing else, from C libraries either"


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "PNG", exif=exif)


STORED = {  # how an upright image lies in the file, EXIF 2.32, tag 0x0112
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


def test_D18_exif_orientation(here: Path) -> None:
    make_folder(here / "data", {"a": 6, "b": 6})
    upright = picture(3, size=(8, 8))
    upright.save(here / "1.png")
    for orientation, lay in STORED.items():
        stored = Image.fromarray(np.ascontiguousarray(lay(np.asarray(upright))))
        (here / f"{orientation}.png").write_bytes(turned(stored, orientation))
        stored.save(here / f"{orientation}-as-it-lies.png")
    assert train(here, out="turning").code == 0
    assert train(here, "--no-exif", out="leaving").code == 0
    names = [f"{orientation}{suffix}.png" for orientation in STORED for suffix in ("", "-as-it-lies")]
    turning, leaving = (predictions(here, model, "1.png", *names) for model in ("turning", "leaving"))
    for orientation in STORED:
        for found, upright_name in ((turning, "1.png"), (leaving, f"{orientation}-as-it-lies.png")):
            other = "1.png" if found is leaving else f"{orientation}-as-it-lies.png"
            assert alike(found[f"{orientation}.png"], found[upright_name])
            assert not alike(found[f"{orientation}.png"], found[other])


def test_D19_bombs(here: Path, digits_run: Trained) -> None:
    """Below and above the sizes at which Pillow warns and fails; a JPEG of too many scans; and that the limit can be raised."""
    (here / "warned.png").write_bytes(png_bomb(10_000))
    (here / "refused.png").write_bytes(png_bomb(20_000))
    (here / "scans.jpg").write_bytes(scan_bomb(saved(Image.new("L", (4000, 4000)), progressive=True), 5000))
    bombs = ("warned.png", "refused.png", "scans.jpg")
    assert all((here / name).stat().st_size < 600_000 for name in bombs)
    code, err, seconds, megabytes = measured(here, "predict", digits_run.folder, *bombs)
    assert code == 3, err
    for told in ("warned.png: 10000 x 10000 pixels, more than 67,108,864: --max-pixels", "refused.png: too many pixels", "scans.jpg: prog"):
        assert told in err
    assert "Traceback" not in err
    assert megabytes < 1000
    assert seconds < 60
    code, err, _, megabytes = measured(here, "predict", digits_run.folder, "warned.png", "--max-pixels", "100000000")
    assert code == 0, err
    assert megabytes < 1000
    data = make_folder(here / "data", {"a": 100, "b": 100})
    shutil.copy(here / "warned.png", data / "a")
    done = train(here)
    assert done.code == 5, done.err
    assert "a/warned.png" in (here / "run" / "bad_images.txt").read_text()


def test_D20_metadata_and_frames_without_end(here: Path, digits_run: Trained) -> None:
    """A PNG whose text unpacks to 500 MB is refused. The others are fine images: only their first page is looked at."""
    import zlib

    packed = b"k\0\0" + zlib.compress(bytes(500_000_000), 9)
    (here / "text.png").write_bytes(png(2, 8, GREY, [b"\x01\x02"], (b"zTXt", packed)))
    (here / "loop.tif").write_bytes(tiff(2, [8], 1, b"\x01\x02", next_page=8))
    (here / "child.tif").write_bytes(tiff(2, [8], 1, b"\x01\x02", more=[(330, 4, [8]), (34665, 4, [8])]))
    (here / "long.gif").write_bytes(gif(100_000))
    code, err, seconds, megabytes = measured(here, "predict", digits_run.folder, "loop.tif", "child.tif", "long.gif", "text.png")
    assert code == 5, err
    assert [line for line in err.splitlines() if "cannot read" in line] == [next(line for line in err.splitlines() if "text.png" in line)]
    assert megabytes < 1000
    assert seconds < 60


def test_D21_drawings_and_icons_named_jpg(here: Path, digits_run: Trained) -> None:
    tools = here / "tools"
    tools.mkdir()
    for name in ("gs", "gswin64c", "inkscape", "convert", "magick"):
        (tools / name).write_text(f"#!/bin/sh\ntouch {here}/started\n")
        (tools / name).chmod(0o755)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n"
    files = {
        "eps.jpg": (eps, "PostScript (EPS) drawing, which is not read: save it as PNG"),
        "preview.jpg": (b"\xc5\xd0\xd3\xc6" + bytes(26) + eps, "PostScript"),
        "svg.jpg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
        "pdf.jpg": (b"%PDF-1.4\n" + bytes(99), "PDF document"),
        "ico.jpg": (saved(picture(1), "ICO"), "icon file"),
        "tga.jpg": (saved(picture(1), "TGA"), "not an image"),
        "raw.jpg": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "camera raw file"),
    }
    for name, (content, _) in files.items():
        (here / name).write_bytes(content)
    path = f"{tools}:{harness.environment()['PATH']}"
    done = run("predict", digits_run.folder, *files, cwd=here, PATH=path)
    assert done.code == 3
    lines = [line for line in done.err.splitlines() if "cannot read" in line]
    assert len(lines) == len(files)
    for line, (name, (_, reason)) in zip(lines, files.items(), strict=True):
        assert f"{name}: {reason}" in line
    assert not (here / "started").exists()


NAMES = [
    b"n" * 251 + b".png",
    "고양이 사진.png".encode(),
    "😀🐈.png".encode(),
    b"\xff\xfe bytes.png",
    "e\u0301 two forms.png".encode(),
    "\u00e9 two forms.png".encode(),
    b"new\nline.png",
    b"%s {x} $HOME `id`.png",
]


def test_D22_names(here: Path) -> None:
    """Read and told as they are, those that are not text too. A path of 4,096 bytes cannot be opened by its name on Linux, with
    any program; longer ones than 4,000 bytes are not made here."""
    data = make_folder(here / "data", {"a": 100, "b": 100})
    for number, name in enumerate(NAMES):
        picture(number).save(io_path := data / "b" / "made.png")
        os.rename(io_path, os.path.join(os.fsencode(data / "b"), name))
    (data / "a" / "\udcff broken.png").write_bytes(b"")
    done = train(here)
    assert done.code == 5, done.err
    listed = (here / "run" / "bad_images.txt").read_text()
    assert listed.count("\n") == 1
    assert r"a/\udcff broken.png: empty file" in listed
    given = [os.fsdecode(os.path.join(b"data/b", name)) for name in NAMES]
    found = predictions(here, "run", *given)
    assert list(found) == given, "as they were given, in JSON too"
    assert all(isinstance(each, dict) for each in found.values())
    deep = here
    for _ in range(15):
        deep = deep / ("d" * 250)
    os.chdir(here)
    for _ in range(15):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    picture(1).save("x.png")
    os.chdir(here)
    relative = str((deep / "x.png").relative_to(here))
    assert isinstance(predictions(here, "run", relative)[relative], dict)
    done = run("predict", "run", f"{'d' * 256}.png", cwd=here, warm=True)
    assert_failed(done, 3, "no such image")


def test_D23_permissions(here: Path) -> None:
    front = without_rights()
    data = make_folder(here / "data", {"a": 100, "b": 100})
    line = ("train", "mlp", "--data", "data", *SHORT, "-o", "run")
    (data / "a" / "050.png").chmod(0)
    code, err, _, _ = measured(here, *line, front=front)
    assert code == 5, err
    assert "a/050.png: permission denied" in (here / "run" / "bad_images.txt").read_text()
    code, err, _, _ = measured(here, "predict", "run", "data/a/050.png", front=front)
    assert code == 3
    assert "050.png: permission denied" in err
    (data / "b").chmod(0)
    try:
        code, err, _, _ = measured(here, *line, "--overwrite", front=front)
    finally:
        (data / "b").chmod(0o755)
    assert code == 3
    assert len([text for text in err.splitlines() if text.startswith("cnn: error:")]) == 1
    assert "cannot read folder data/b: permission denied; check its permissions" in err


@pytest.mark.parametrize("size", ["1x8x8", "3x32x32"])
def test_D24_a_pixel_and_a_thread(size: str, here: Path) -> None:
    """They are resized like all others; --min-size is not a flag here, since `cnn data` tells about them."""
    data = make_folder(here / "data", {"a": 5, "b": 5})
    for number, shape in enumerate(((1, 1), (1, 20_000), (20_000, 1), (2, 1))):
        picture(number, size=shape).save(data / "a" / f"odd{number}.png")
        picture(number, size=shape).save(data / "b" / f"odd{number}.jpg")
    code, err, seconds, megabytes = measured(
        here, "train", "mlp", "--data", "data", "--epochs", "1", "--input", size, "-o", "run", "--shift", "2"
    )
    assert code == 0, err
    assert megabytes < 1000
    assert seconds < 90
    found = predictions(here, "run", "data")
    assert len(found) == 18
    assert all(isinstance(each, dict) for each in found.values())
