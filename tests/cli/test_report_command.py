"""`cnn report`: one page, where it goes, and the same numbers as `cnn eval`."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from harness import Trained, assert_failed, make_folder, run, unchanged

pytestmark = pytest.mark.slow


def headline(page: str) -> str:
    found = re.search(r'class="headline"><strong>([^<]+)</strong>', page)
    assert found
    return found[1]


@pytest.fixture
def own_run(here: Path, digits_run: Trained) -> Path:
    """A run folder that may be written into."""
    shutil.copytree(digits_run.folder, here / "runs" / "lenet5-1")
    return here / "runs" / "lenet5-1"


def test_a_run_folder_gets_its_page(here: Path, own_run: Path) -> None:
    done = run("report", "runs/lenet5-1", cwd=here, warm=True)
    assert (done.code, done.out) == (0, "runs/lenet5-1/report.html\n"), done.err
    page = (own_run / "report.html").read_text(encoding="utf-8")
    told = run("eval", "runs/lenet5-1", "--json", cwd=here, warm=True).json
    assert headline(page) == f"{told['top1']:.2%}"
    assert f"top-1 {told['top1']:.2%} of 359 images" in done.err
    for section in ("metrics", "classes", "confusion", "mistakes", "calibration", "training", "net", "settings"):
        assert f'<section id="{section}"' in page
    for entry in told["per_class"]:
        assert f">{entry['recall']:.1%}</td>" in page
    assert "filters of the first layer, c1: 6 of 5x5" in page
    config = (own_run / "config.toml").read_text(encoding="utf-8")
    assert all(line in unescape(page) for line in config.splitlines() if "=" in line)


def test_a_model_file_gets_a_page_here(here: Path, digits_run: Trained) -> None:
    shutil.copy(digits_run.best, here / "mine.safetensors")
    with unchanged(digits_run.folder):
        done = run("report", "mine.safetensors", "--mistakes", "3", cwd=here, warm=True)
    assert (done.code, done.out) == (0, "mine-report.html\n"), done.err
    page = (here / "mine-report.html").read_text(encoding="utf-8")
    assert '<section id="training"' not in page
    assert '<section id="settings"' not in page
    assert '<section id="net"' in page
    assert page.count("<dt>predicted</dt>") == 3


def test_out_json_and_overwrite(here: Path, digits_run: Trained) -> None:
    arguments = ("report", digits_run.folder, "-o", "pages/deep/x.html", "--split", "val", "--json")
    done = run(*arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    made = here / "pages" / "deep" / "x.html"
    told = done.json
    assert list(told) == ["model", "data", "split", "count", "top1", "top1_interval", "left_out", "report", "bytes"]
    assert (told["data"], told["split"], told["count"], told["report"]) == ("digits", "val", 179, "pages/deep/x.html")
    assert told["bytes"] == made.stat().st_size
    assert told["top1_interval"][0] < told["top1"] < told["top1_interval"][1]
    assert headline(made.read_text(encoding="utf-8")) == f"{told['top1']:.2%}"
    with unchanged(here):
        assert_failed(run(*arguments, cwd=here, warm=True), 2, r"x\.html exists; use --overwrite", json_out=True)
    made.write_text("old")
    assert run(*arguments, "--overwrite", cwd=here, warm=True).code == 0
    assert made.stat().st_size > 1000


def test_weights_of_torchvision(here: Path) -> None:
    """No run folder, a net of 1,000 classes of which two have images, coloured filters, and no folder in the page's name."""
    import torch
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1(weights=None).state_dict(), here / "weights.pth")
    make_folder(here / "photos", {"tench": 3, "goldfish": 3})
    arguments = ("torchvision/squeezenet1_1", "--weights", "weights.pth", "--data", "photos", "--split", "all", "--classes-subset")
    done = run("report", *arguments, cwd=here, warm=True)
    assert (done.code, done.out) == (0, "torchvision-squeezenet1_1-report.html\n"), done.err
    page = (here / "torchvision-squeezenet1_1-report.html").read_text(encoding="utf-8")
    assert "6 images, 1,000 classes" in page
    assert "The 250 classes with most mistakes of 1000 are shown." in page
    assert "features.0: 64 of 3x3 in colour" in page
    assert "1,235,496" in page, "parameters that torchvision publishes"


def test_the_page_of_photos_with_long_names(here: Path) -> None:
    make_folder(here / "photos", {"a cat & a <dog>": 8, "b" * 120: 8})
    arguments = ("--data", "photos", "--input", "3x16x16", "--epochs", "1", "-o", "run")
    assert run("train", "mlp", *arguments, cwd=here, warm=True).code == 0
    done = run("report", "run", "--split", "all", cwd=here, warm=True)
    assert done.code == 0, done.err
    page = (here / "run" / "report.html").read_text(encoding="utf-8")
    assert "a cat &amp; a &lt;dog&gt;" in page
    assert "filters of the first layer" not in page, "an MLP has none"


def test_wrong_usage(here: Path, digits_run: Trained) -> None:
    (here / "folder.html").mkdir()
    cases = {
        ("-o", "folder.html"): r"folder\.html is a folder; name the file: -o folder\.html/report\.html",
        ("-o", "page.pdf"): r"page\.pdf should end in \.html",
        ("--tta", "flip"): r"--tta 'flip' is not one of .*did you mean flips",
        ("--split", "tset"): r"no split 'tset'",
        ("--mistakes", "-1"): "mistakes",
        ("--background", "red"): "--background",
    }
    with unchanged(here, digits_run.folder):
        for arguments, pattern in cases.items():
            out = () if "-o" in arguments else ("-o", "x.html")
            assert_failed(run("report", digits_run.folder, *arguments, *out, cwd=here, warm=True), 2, pattern)
