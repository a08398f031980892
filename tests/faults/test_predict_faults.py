"""Predicting where some images are bad, absent or strange, and what a program that reads the output can rely on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import harness
import pytest
from harness import HTML, Trained, assert_failed, png, run, unchanged

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


def test_P1_all_bad(here: Path, digits_run: Trained) -> None:
    (here / "a.png").write_bytes(b"")
    (here / "b.jpg").write_bytes(HTML)
    done = run("predict", digits_run.folder, "a.png", "b.jpg", cwd=here, warm=True)
    assert done.code == 3
    assert done.out == ""
    assert len(done.errors) == 1
    assert "a.png: empty file" in done.err
    assert "b.jpg: HTML page" in done.err


def test_P2_nothing_matches(here: Path, digits_run: Trained) -> None:
    (here / "void").mkdir()
    (here / "words.txt").write_text("no image\n")
    cases = {
        "*.jpg": r"no file matches \*\.jpg",
        "**/*.png": r"no file matches \*\*/\*\.png",
        "void": "no image in folder void",
        "absent.png": "no such image: absent.png",
        "": "no such image",
    }
    with unchanged(here):
        for argument, pattern in cases.items():
            assert_failed(run("predict", digits_run.folder, argument, cwd=here, warm=True), 3, pattern)
            assert_failed(run("predict", digits_run.folder, argument, "--json", cwd=here, warm=True), 3, pattern, json_out=True)


@pytest.mark.parametrize("url", ["https://example.org/cat.jpg", "http://example.org/cat.jpg", "file:///etc/passwd"])
def test_P2_url(url: str, here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        assert_failed(run("predict", digits_run.folder, url, cwd=here, warm=True), 3, url)


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
