"""What `cnn data` makes of data sets with something wrong: it tells all of it, and ends."""

from __future__ import annotations

import io
import os
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from harness import HTML, LFS_POINTER, Done, assert_failed, make_folder, picture, png, run, start, stop, unchanged, without_rights
from PIL import Image

pytestmark = pytest.mark.slow


def audited(here: Path, *arguments: str, code: int = 0) -> dict[str, object]:
    """The JSON of `cnn data data`; nothing below `here` may change."""
    with unchanged(here):
        done = run("data", "data", "--json", *arguments, cwd=here)
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err
    return done.json


def kinds(found: dict[str, object], grade: str) -> list[str]:
    return [finding["kind"] for finding in found["findings"] if finding["grade"] == grade]


def photos(root: Path, count: int = 100) -> Path:
    """Two classes without a bad, small or repeated image."""
    for kind, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(number + 1000 * kind, size=(40, 30)).save(root / name / f"{number:03d}.png")
    return root


def reasons(found: dict[str, object]) -> dict[str, str]:
    return {item["path"]: item["reason"] for item in found["unreadable"]}


def test_D1_bad_images_are_listed_and_judged_by_their_share(here: Path) -> None:
    data = photos(here / "data")
    (data / "a" / "x.png").write_bytes(png(1)[:-30])
    assert kinds(audited(here), "note") == ["unreadable"]
    for number in range(4):
        (data / "a" / f"y{number}.png").write_bytes(b"")
    assert kinds(audited(here, code=3), "spoils") == ["unreadable"]


def test_D2_the_pixels_are_decoded(here: Path) -> None:
    data = photos(here / "data")
    stream = io.BytesIO()
    picture(1, size=(64, 64)).save(stream, "JPEG", quality=95)
    (data / "a" / "x.jpg").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    assert reasons(audited(here)) == {"a/x.jpg": "truncated JPEG"}


def test_D3_the_reason_is_told(here: Path) -> None:
    data = photos(here / "data")
    (data / "a" / "x.jpg").write_bytes(HTML)
    (data / "a" / "y.jpg").write_bytes(LFS_POINTER)
    assert reasons(audited(here)) == {
        "a/x.jpg": "HTML page, not the file itself: download it again",
        "a/y.jpg": "git-lfs pointer: run git lfs pull",
    }


def test_D7_D9_D10_all_is_told_at_once(here: Path) -> None:
    """What ends `cnn train` one after the other."""
    data = make_folder(here / "data", {"train/cat": 5, "train/Cat": 0, "val/cat": 1, "val/dog": 1})
    found = audited(here, code=3)
    assert {"few-classes", "empty-class", "unknown-class", "twin-names"} <= set(kinds(found, "spoils"))
    assert found["twins"] == [["Cat", "cat"]]
    shutil.rmtree(data / "train")
    shutil.rmtree(data / "val")
    with unchanged(here):
        assert_failed(run("data", "data", cwd=here), 3, "0 images")


def test_D12_the_same_file_in_train_and_val(here: Path) -> None:
    data = make_folder(here / "data", {"train/a": 5, "train/b": 5, "val/a": 0, "val/b": 0})
    picture(50).save(data / "val/b/own.png")
    for number in range(3):
        shutil.copy(data / f"train/a/00{number}.png", data / f"val/a/copy{number}.png")
    found = audited(here, code=3)
    assert kinds(found, "spoils") == ["leaks"]
    assert [d["same_bytes"] for d in found["duplicates"]] == [True] * 3
    told = run("data", "data", cwd=here).out
    assert "3 images outside train that train holds too" in told
    assert "train/a/000.png (train, a) = val/a/copy0.png (val, a)" in told


def test_D13_links(here: Path) -> None:
    data = photos(here / "data", 5)
    (data / "a" / "loop").symlink_to(data)
    (data / "a" / "dangling.jpg").symlink_to("nowhere.jpg")
    (data / "b" / "linked.png").symlink_to(data / "b" / "000.png")
    found = audited(here)
    assert found["images"] == 11
    assert [[spot["path"] for spot in d["images"]] for d in found["duplicates"]] == [["b/000.png", "b/linked.png"]]
    assert any("point nowhere: a/dangling.jpg" in notice for notice in found["notices"])


def test_D14_what_is_no_file_is_never_opened(here: Path) -> None:
    data = photos(here / "data", 5)
    os.mkfifo(data / "a" / "fifo.jpg")
    os.mkfifo(here / "list.jpg")
    began = time.monotonic()
    done = run("data", "data", cwd=here)
    assert (done.code, time.monotonic() - began < 60) == (0, True)
    assert "a/fifo.jpg (a FIFO, not a file)" in done.err
    (here / "list.csv").write_text("path,label\nlist.jpg,a\ndata/a/000.png,a\ndata/b/000.png,b\n")
    done = run("data", "list.csv", cwd=here)
    assert done.code == 3
    assert "list.jpg: a FIFO, not a file" in done.out


def test_D15_by_content(here: Path) -> None:
    data = photos(here / "data", 5)
    for number, name in enumerate(("x.JPG", "x.jfif", "none", "lie.png")):
        picture(100 + number, size=(40, 30)).save(data / "a" / name, format="JPEG")
    found = audited(here)
    assert found["formats"] == {"PNG": 10, "JPEG": 4}
    assert [(item["path"], item["kind"]) for item in found["misnamed"]] == [("a/lie.png", "jpeg")]


def test_D16_D17_D18_what_is_converted_is_told(here: Path) -> None:
    data = photos(here / "data", 5)
    grey = picture(99, size=(40, 30))
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(np.asarray(grey).astype(np.uint16) << 8).save(data / "a" / "deep.png")
    grey.convert("CMYK").rotate(10).save(data / "a" / "cmyk.jpg")
    grey.rotate(20).convert("LA").save(data / "a" / "la.png")
    grey.rotate(30).convert("P").save(data / "a" / "frames.gif", save_all=True, append_images=[grey.convert("P")])
    grey.rotate(40).save(data / "a" / "turned.jpg", exif=exif)
    assert audited(here)["converted"] == {"deep": 1, "cmyk": 1, "palette": 1, "alpha": 1, "animated": 1, "turned": 1}
    assert "turned" not in audited(here, "--no-exif")["converted"]


def test_D16_deep_images_are_told(here: Path) -> None:
    data = photos(here / "data", 5)
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(data / "a" / "deep.tif")
    assert kinds(audited(here), "note") == ["deep"]


def test_D17_modes_are_counted(here: Path) -> None:
    data = photos(here / "data", 5)
    picture(99, size=(40, 30)).convert("RGBA").save(data / "a" / "x.png")
    assert audited(here)["modes"] == {"L": 10, "RGBA": 1}


def test_D18_turned_images_are_told(here: Path) -> None:
    data = photos(here / "data", 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(99, size=(40, 30)).save(data / "a" / "x.jpg", exif=exif)
    found = audited(here)
    assert kinds(found, "note") == ["turned"]
    assert (found["sizes"]["tallest"]["width"], found["sizes"]["tallest"]["height"]) == (30, 40)


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * (20001 * 20000 // 8 + 1), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_D19_a_bomb_is_named_and_not_decoded(here: Path) -> None:
    data = photos(here / "data")
    (data / "a" / "bomb.png").write_bytes(bomb())
    assert "pixels" in reasons(audited(here))["a/bomb.png"]
    (data / "a" / "bomb.png").unlink()
    assert len(reasons(audited(here, "--max-pixels", "1000", code=3))) == 200


def test_D20_many_frames_end_in_bounded_time(here: Path) -> None:
    data = photos(here / "data", 5)
    stream = io.BytesIO()
    picture(0).convert("P").save(stream, "GIF", save_all=True, append_images=[picture(n).convert("P") for n in range(1, 20)])
    frames = stream.getvalue()
    start_of_frames = frames.index(b"\x21\xf9")
    (data / "a" / "long.gif").write_bytes(frames[:start_of_frames] + frames[start_of_frames:-1] * 5000 + b";")
    began = time.monotonic()
    assert audited(here)["converted"] == {"palette": 1, "animated": 1} | {}
    assert time.monotonic() - began < 60


def test_D21_formats_that_start_programs_are_refused(here: Path) -> None:
    data = photos(here / "data")
    (data / "a" / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "PostScript" in reasons(audited(here))["a/x.jpg"]


def test_D22_names_of_any_kind(here: Path) -> None:
    data = here / "data"
    names = ("고양이😀", os.fsdecode(b"\xff\xfe"))
    for kind, name in enumerate(names):
        (data / name).mkdir(parents=True)
        for number in range(4):
            picture(number + 10 * kind, size=(40, 30)).save(data / name / f'{number}\n,"{"x" * 200}.png')
    found = audited(here)
    assert [entry["class"] for entry in found["classes"]] == sorted(names)
    done: Done = run("data", "data", "-o", "s.png", "--fix", "f.csv", cwd=here, LANG="C", PYTHONIOENCODING="ascii", COLUMNS="80")
    assert done.code == 0, done.err
    assert done.out.isascii()
    assert b"\xff\xfe" in (here / "f.csv").read_bytes()
    again = run("data", "f.csv", "--json", cwd=here)
    assert (again.code, again.json["images"]) == (0, 8), again.err
    assert [entry["class"] for entry in again.json["classes"]] == sorted(names)


def test_D23_what_may_not_be_read_is_named(here: Path) -> None:
    front = without_rights()
    data = photos(here / "data")
    (data / "a" / "000.png").chmod(0)
    assert reasons(run("data", "data", "--json", cwd=here, front=front).json) == {"a/000.png": "permission denied"}
    (data / "b").chmod(0)
    try:
        assert_failed(run("data", "data", cwd=here, front=front), 3, "cannot read folder .*b: permission denied")
    finally:
        (data / "b").chmod(0o755)


def test_D24_tiny_and_thin_images(here: Path) -> None:
    data = photos(here / "data", 5)
    picture(50, size=(1, 1)).save(data / "a" / "dot.png")
    picture(51, size=(1, 5000)).save(data / "a" / "thin.png")
    found = audited(here, "--input", "3x32x32")
    assert sorted(spot["path"] for spot in found["tiny"]) == ["a/dot.png", "a/thin.png"]
    assert found["sizes"]["tallest"]["path"] == "a/thin.png"


def test_G12_ctrl_c_ends_quickly_and_leaves_nothing(here: Path) -> None:
    import signal

    data = photos(here / "data", 3)
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)).save(encoded, "PNG", compress_level=1)
    for number in range(60):  # what comes behind a PNG's end is not read, so each is another file
        (data / "a" / f"big{number}.png").write_bytes(encoded.getvalue() + bytes([number]))
    with unchanged(here):
        running = start("data", "data", "-o", "s.png", "--fix", "f.csv", cwd=here)
        time.sleep(2.5)
        stop(running, signal.SIGINT)
        began = time.monotonic()
        done = running.wait()
    assert time.monotonic() - began < 15
    assert (done.code, done.out) == (130, "")
    assert done.err.count("cnn: interrupted") == 1


def test_G1_G3_the_reader_goes_away_or_the_disk_is_full(here: Path) -> None:
    photos(here / "data", 3)
    done = run("data", "data", cwd=here, stdout="/dev/full")
    assert (done.code, done.errors) == (4, ["cnn: error: cannot write standard output: No space left on device"])


def test_G11_a_folder_that_cannot_be_written(here: Path) -> None:
    photos(here / "data", 3)
    (here / "file").write_text("x")
    for flag, name in (("-o", "file/s.png"), ("--fix", "file/f.csv")):
        done = run("data", "data", flag, name, cwd=here)
        assert done.code == 4
        assert "cannot make the folder file" in done.err
