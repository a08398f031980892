"""Reports where images cannot be read, names are odd, nothing can be written, or a package is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from harness import HTML, Trained, assert_failed, make_folder, run, unchanged, without_rights

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(here: Path) -> Path:
    """210 images of the classes that the shared folder's model tells apart, of which two cannot be read: just below 1 %."""
    data = make_folder(here / "photos", {"bus": 70, "cat": 70, "dog": 70})
    (data / "cat" / "000.png").write_bytes(b"")
    (data / "dog" / "001.png").write_bytes(HTML)
    return data


def test_E2_images_that_cannot_be_read(here: Path, folder_run: tuple[Trained, Path], photos: Path) -> None:
    """The page tells of those that can, and says which could not."""
    arguments = (folder_run[0].folder, "--data", "photos", "--split", "all", "-o", "x.html")
    done = run("report", *arguments, cwd=here, warm=True)
    assert done.code == 5, done.err
    page = (here / "x.html").read_text(encoding="utf-8")
    assert "208 images, 3 classes" in page
    assert "2 images could not be read and are not counted" in page
    for name, reason in (("000.png", "empty file"), ("001.png", "HTML page")):
        assert name in page
        assert reason in page
        assert any(name in line and reason in line for line in done.err.splitlines())
    done = run("report", *arguments, "--overwrite", "--json", cwd=here, warm=True)
    assert (done.code, done.json["count"], len(done.json["left_out"])) == (5, 208, 2)


def test_E3_nothing_to_judge(here: Path, folder_run: tuple[Trained, Path]) -> None:
    data = make_folder(here / "photos", {"bus": 2, "cat": 2, "dog": 2})
    for path in data.rglob("*.png"):
        path.write_bytes(b"")
    with unchanged(here):
        done = run("report", folder_run[0].folder, "--data", "photos", "--split", "all", "-o", "x.html", cwd=here, warm=True)
    assert done.code == 3
    assert len(done.errors) == 1
    assert "Traceback" not in done.err


def test_G5_json_that_fails(here: Path, folder_run: tuple[Trained, Path]) -> None:
    with unchanged(here):
        done = run("report", folder_run[0].folder, "--data", "absent", "-o", "x.html", "--json", cwd=here, warm=True)
    assert_failed(done, 3, "absent", json_out=True)


def test_G11_a_place_that_cannot_be_written(here: Path, digits_run: Trained) -> None:
    """Found out before any work: no image is judged."""
    (here / "file").write_text("x")
    (here / "closed").mkdir(mode=0o555)
    with unchanged(here):
        for out in ("file/x.html", "file/deep/x.html"):
            assert_failed(run("report", digits_run.folder, "-o", out, cwd=here, warm=True), 4, "cannot write in file: it is a file")
        done = run("report", digits_run.folder, "-o", "closed/x.html", cwd=here, front=without_rights())
        assert_failed(done, 4, "cannot write in closed; choose another --out")
    assert "judging" not in done.err


def test_G14_a_package_that_is_missing(here: Path, digits_run: Trained) -> None:
    """Said before the judging, with what to type; nothing is installed."""
    (here / "shadow").mkdir()
    (here / "shadow" / "jinja2.py").write_text("raise ModuleNotFoundError(\"No module named 'jinja2'\", name='jinja2')")
    with unchanged(here):
        done = run("report", digits_run.folder, "-o", "x.html", cwd=here, PYTHONPATH=str(here / "shadow"))
    assert_failed(done, 4, r"the package jinja2 cannot be imported .*pip install jinja2")


def test_G16_a_page_that_exists(here: Path, digits_run: Trained) -> None:
    """A file, and a link that points nowhere."""
    (here / "x.html").write_text("kept")
    (here / "y.html").symlink_to("nowhere")
    with unchanged(here):
        for name in ("x.html", "y.html"):
            assert_failed(run("report", digits_run.folder, "-o", name, cwd=here, warm=True), 2, rf"{name} exists; use --overwrite")


def test_G19_odd_names_of_pages(here: Path, digits_run: Trained) -> None:
    for name in ("a b.html", "x\ny.html", "%s.HTML", "--x.htm"):
        done = run("report", digits_run.folder, f"--out={name}", "--mistakes", "0", cwd=here, warm=True)
        assert done.code == 0, done.err
        assert (here / name).stat().st_size > 1000


def test_D22_class_names_of_any_bytes(here: Path) -> None:
    """Names that are HTML, or no text at all, stand on the page as text; the page is UTF-8."""
    odd = [b"caf\xe9", "日本語 🐈".encode(), b"<script>alert(1)<", b"'\"--><b>"]
    for kind, name in enumerate(odd):
        folder = make_folder(here / "photos", {f"tmp{kind}": 4}) / f"tmp{kind}"
        os.rename(os.fsencode(folder), os.fsencode(here / "photos") + b"/" + name)
    arguments = ("--data", "photos", "--input", "1x8x8", "--epochs", "1", "-o", "run")
    done = run("train", "mlp", *arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    done = run("report", "run", "--split", "all", cwd=here, warm=True)
    assert done.code == 0, done.err
    page = (here / "run" / "report.html").read_bytes().decode("utf-8")
    assert "<script>alert" not in page
    for text in ("caf\\udce9", "日本語 🐈", "&lt;script&gt;alert(1)&lt;", "&#39;&#34;--&gt;&lt;b&gt;"):
        assert text in page


def test_settings_that_cannot_be_read(here: Path, digits_run: Trained) -> None:
    """A damaged config.toml, or lines of the log: the page does without, and says so."""
    shutil.copytree(digits_run.folder, here / "run")
    with (here / "run" / "metrics.jsonl").open("a") as log:
        log.write("{broken\n\n")
    done = run("report", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "metrics.jsonl: line 3 is no epoch" in done.err
    (here / "run" / "config.toml").write_text("= 3")
    done = run("report", "run", "--data", "digits", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "the page does not tell of the training" in done.err
    assert '<section id="training"' not in (here / "run" / "report.html").read_text(encoding="utf-8")
