"""Predicting where some images are bad, absent or strange, and what a program that reads the output can rely on."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import harness
import pytest
from harness import HTML, Trained, assert_failed, make_folder, png, run, tree, unchanged, without_rights

pytestmark = pytest.mark.slow


def test_P1_one_bad_image_among_many(here: Path, digits_run: Trained) -> None:
    for number in range(200):
        (here / f"{number:03d}.png").write_bytes(png(number))
    (here / "077.png").write_bytes(png(77)[:40])
    names = sorted((path.name for path in here.iterdir()), reverse=True)
    with unchanged(here):
        done = run("predict", digits_run.folder, *names, "--json", cwd=here, warm=True)
    assert done.code == 5, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["path"] for record in records] == names, "in the order given"
    bad = [record for record in records if "error" in record]
    assert [record["path"] for record in bad] == ["077.png"]
    assert "077.png" in bad[0]["error"]
    assert all(set(record) == {"path", "predictions"} for record in records if "error" not in record)
    assert sum("077.png" in line for line in done.err.splitlines()) == 1
    done = run("predict", digits_run.folder, *names, cwd=here, warm=True)
    assert done.code == 5
    assert len(done.out.splitlines()) == 199
    done = run("predict", digits_run.folder, *names, "-o", "out.csv", "--copy-to", "sorted", cwd=here, warm=True)
    assert (done.code, done.out) == (5, "")
    rows = list(csv.DictReader(io.StringIO((here / "out.csv").read_text())))
    assert [row["path"] for row in rows] == names
    assert [row["path"] for row in rows if row["error"]] == ["077.png"]
    assert sorted(path.name for path in (here / "sorted").rglob("*.png")) == sorted(set(names) - {"077.png"})


def test_P1_a_folder_that_cannot_be_read(here: Path, digits_run: Trained) -> None:
    for name in ("a.png", "locked/b.png", "z.png"):
        (here / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "in" / name).write_bytes(png())
    (here / "in" / "locked").chmod(0)
    try:
        done = run("predict", digits_run.folder, "in", "--json", cwd=here, front=without_rights())
    finally:
        (here / "in" / "locked").chmod(0o700)
    assert done.code == 5, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["path"] for record in records] == ["in/a.png", "in/locked", "in/z.png"]
    assert "cannot be read (permission denied)" in records[1]["error"]


def test_P1_all_bad(here: Path, digits_run: Trained) -> None:
    (here / "a.png").write_bytes(b"")
    (here / "b.jpg").write_bytes(HTML)
    done = run("predict", digits_run.folder, "a.png", "b.jpg", cwd=here, warm=True)
    assert done.code == 3
    assert done.out == ""
    assert len(done.errors) == 1
    assert "a.png: empty file" in done.err
    assert "b.jpg: HTML page" in done.err
    with unchanged(here):
        assert run("predict", digits_run.folder, "a.png", "b.jpg", "-o", "out.csv", "--copy-to", "out", cwd=here, warm=True).code == 3


def test_P2_nothing_matches(here: Path, digits_run: Trained) -> None:
    (here / "void").mkdir()
    (here / "words.txt").write_text("no image\n")
    (here / "good.png").write_bytes(png())
    cases = {
        "*.jpg": r"no file matches \*\.jpg",
        "**/*.bmp": r"no file matches \*\*/\*\.bmp",
        "void": "no image in folder void",
        "absent.png": "no such image: absent.png",
        "": "no such image",
    }
    with unchanged(here):
        for argument, pattern in cases.items():
            assert_failed(run("predict", digits_run.folder, argument, cwd=here, warm=True), 3, pattern)
            assert_failed(run("predict", digits_run.folder, argument, "--json", cwd=here, warm=True), 3, pattern, json_out=True)
        for good in ("good.png", "-"):
            done = run("predict", digits_run.folder, good, "absent.png", cwd=here, stdin=png(), warm=True)
            assert_failed(done, 3, "no such image: absent.png")  # before any other is predicted


@pytest.mark.parametrize("url", ["https://example.org/cat.jpg", "http://example.org/cat.jpg", "file:///etc/passwd"])
def test_P2_url(url: str, here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        assert_failed(run("predict", digits_run.folder, url, cwd=here, warm=True), 3, f"{url} is an address.*download it first")
    done = run("predict", digits_run.folder, "-", "--json", cwd=here, stdin=url.encode() + b"\n", warm=True)
    assert done.code == 3
    assert "download it first" in json.loads(done.out.splitlines()[0])["error"]


def test_P2_standard_input(here: Path, digits_run: Trained) -> None:
    done = run("predict", digits_run.folder, "-", cwd=here, warm=True)
    assert_failed(done, 3, "standard input is empty")
    done = run("predict", digits_run.folder, "-", "--json", cwd=here, stdin=png(), warm=True)
    assert done.json["path"] == "-"
    done = run("predict", digits_run.folder, "-", cwd=here, stdin=b"one.png\ntwo.png\n", warm=True)
    assert done.code == 3
    assert len(done.errors) == 1
    assert "one.png" in done.err
    assert "two.png" in done.err
    done = run("predict", digits_run.folder, "-", cwd=here, stdin=png()[:50], warm=True)
    assert done.code == 3
    assert "truncated" in done.err or "damaged" in done.err


def test_P3_names_that_spreadsheets_and_terminals_act_on(here: Path) -> None:
    labels = ["=1+1", "@x, y", '+a"b', "e\x1b[31msc"]
    make_folder(here / "data", dict.fromkeys(labels, 6))
    done = run("train", "mlp", "--data", "data", "--epochs", "1", "--input", "1x8x8", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    names = ["=HYPERLINK(1).png", "-x.png", "a,b.png", 'a"b.png', "a\nb.png", "\x1b[2J.png", "\t.png", "\r.png", "plain.png"]
    for number, name in enumerate(names):
        (here / name).write_bytes(png(number))
    done = run("predict", "run", "--csv", "--top", "4", "--", *names, cwd=here, warm=True)
    assert (done.code, done.err) == (0, "")
    assert run("predict", "run", "-o", "out.csv", "--top", "4", "--", *names, cwd=here, warm=True).code == 0
    written = (here / "out.csv").read_bytes().decode()
    assert done.out == written
    rows = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert [row[0] for row in rows] == [f"'{name}" if name[0] in "=+-@\t\r" else name for name in names]
    for row in rows:
        assert sorted(row[1:9:2]) == sorted(f"'{label}" if label[0] in "=+-@" else label for label in labels)
    done = run("predict", "run", "--", *names, cwd=here, warm=True)
    assert len(done.out.splitlines()) == len(names)
    assert "\x1b" not in done.out


def test_P3_nothing_leaves_the_folder_of_the_copies(here: Path) -> None:
    """Classes that are named like paths: their images land in folders of the one that was asked for."""
    from cnncli.models.modelfile import load, save

    make_folder(here / "data", {"a": 6, "b": 6, "c": 6})
    done = run("train", "mlp", "--data", "data", "--epochs", "1", "--input", "1x8x8", "-o", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    model, info = load(here / "run" / "best.safetensors")
    save(here / "bad.safetensors", model, replace(info, classes=("../../a", "..", "/tmp/c")))
    with unchanged(here / "data"):
        done = run("predict", "bad.safetensors", "data", "--copy-to", "out/deep", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert {path.name for path in here.iterdir()} == {"data", "run", "bad.safetensors", "out"}
    assert {path.name for path in (here / "out").iterdir()} == {"deep"}
    assert {path.name for path in (here / "out" / "deep").iterdir()} <= {"_._.._a", "_", "_tmp_c"}
    copies = [path for path in (here / "out").rglob("*") if path.is_file()]
    assert len(copies) == len({path.read_bytes() for path in (here / "data").rglob("*.png")}) == 18


@pytest.mark.parametrize("mode", [["--json"], []])
def test_P4_whole_lines_when_stopped(mode: list[str], here: Path, digits_run: Trained) -> None:
    """Stopped in the middle, after some lines and while it waits for more: what is there are whole lines."""
    (here / "x.png").write_bytes(png())
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [harness.COMMAND, "predict", str(digits_run.folder), "-", "--batch-size", "1", *mode],
        cwd=here,
        env=harness.environment(),
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(reading)
    os.write(writing, b"x.png\n" * 200)
    lines = [process.stdout.readline() for _ in range(50)]
    process.send_signal(2)
    rest, err = process.communicate(timeout=60)
    os.close(writing)
    assert process.returncode == 130
    text = b"".join(lines) + rest
    assert text.endswith(b"\n")
    assert all(json.loads(line)["path"] == "x.png" if mode else line.startswith(b"x.png: ") for line in text.splitlines())
    assert err == b"cnn: interrupted\n"


def test_P4_files_are_whole_when_stopped(here: Path, digits_run: Trained) -> None:
    """Stopped while it writes a file and copies: no file, whole copies, originals as they were."""
    for number in range(300):
        (here / "in").mkdir(exist_ok=True)
        (here / "in" / f"{number:03d}.png").write_bytes(png(number))
    before = tree(here / "in")
    process = subprocess.Popen(
        [harness.COMMAND, "predict", str(digits_run.folder), "in", "-", "-o", "out.csv", "--copy-to", "out", "--batch-size", "4"],
        cwd=here,
        env=harness.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    began = time.monotonic()
    while len(list(here.glob("out/*/*.png"))) < 10:
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"cnn: interrupted\n")
    assert tree(here / "in") == before
    assert {path.name for path in here.iterdir()} == {"in", "out"}
    for path in here.glob("out/*/*"):
        assert path.read_bytes() == (here / "in" / path.name).read_bytes()


def test_P4_reader_gone(here: Path, digits_run: Trained) -> None:
    for number in range(5):
        (here / f"{number}.png").write_bytes(png(number))
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [harness.COMMAND, "predict", str(digits_run.folder), "."],
        cwd=here,
        env=harness.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")
