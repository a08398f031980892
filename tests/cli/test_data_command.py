"""`cnn data`: what a user sees and gets, from real processes."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import harness
import pytest
from harness import assert_failed, picture, run, unchanged
from PIL import Image

from cnncli.data.source import SOURCES

pytestmark = pytest.mark.slow


def good(root: Path, count: int = 10) -> Path:
    for kind, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for n in range(count):
            picture(n + 1000 * kind, size=(40, 30)).save(root / name / f"{n:03d}.png")
    return root


def bad(root: Path) -> Path:
    """A leak between train and val, and a class that only val has."""
    for kind, folder in enumerate(("train/cat", "train/dog", "val/cat", "val/cow")):
        (root / folder).mkdir(parents=True)
        for n in range(6):
            picture(n + 100 * kind, size=(40, 30)).save(root / folder / f"{n}.png")
    shutil.copy(root / "train/cat/0.png", root / "val/cat/leak.png")
    return root


@pytest.mark.parametrize("columns", ["80", "140"])
def test_a_good_folder(columns: str, here: Path) -> None:
    data = good(here / "photos")
    with unchanged(here):
        done = run("data", data.name, cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == ["photos: 20 images, 2 classes: train 16, val 4", "the split is made here, by a hash of the names"]
    assert max(map(len, lines)) <= int(columns)
    assert re.search(r"^cat +8 +2 +10 +█{40}$", done.out, re.MULTILINE)
    assert "size       40 x 30 pixels, all of them" in lines
    assert "memory     24.0 kB decoded at 1x30x40" in lines
    assert lines[-1] == "nothing is wrong with it"


def test_a_bad_folder_prints_everything_and_then_one_line(here: Path) -> None:
    bad(here / "photos")
    with unchanged(here):
        done = run("data", "photos", cwd=here)
    assert done.code == 3
    assert done.err == (
        "cnn: error: photos would spoil a training (unknown-class, leaks); `cnn data photos --fix cleaned.csv` writes a cleaned list\n"
    )
    assert "classes outside train that train lacks: cow" in done.out
    assert "train/cat/0.png (train, cat) = val/cat/leak.png (val, cat)" in done.out


def test_json_is_one_document_whatever_the_exit_code(here: Path) -> None:
    good(here / "good")
    bad(here / "bad")
    for name, code in (("good", 0), ("bad", 3)):
        done = run("data", name, "--json", cwd=here)
        assert done.code == code
        found = json.loads(done.out)
        assert found["spoiled"] == (code == 3)
        assert len(done.errors) == (code == 3)
        assert list(found) == [
            *("data", "images", "readable", "derived", "refused", "notices", "splits", "classes", "sizes", "formats", "modes", "converted"),
            *("mean", "std", "memory", "unreadable", "misnamed", "tiny", "constant", "twins", "duplicates", "near", "near_complete"),
            *("findings", "spoiled"),
        ]
    assert "classes that train lacks" in found["refused"]
    assert [f["kind"] for f in found["findings"] if f["grade"] == "spoils"] == ["unknown-class", "leaks"]
    assert [d["images"] for d in found["duplicates"]] == [
        [{"path": "train/cat/0.png", "split": "train", "class": "cat"}, {"path": "val/cat/leak.png", "split": "val", "class": "cat"}]
    ]


def test_real_photos_hold_leaks(here: Path, flowers: Path) -> None:
    """Two photos lie twice among TensorFlow's flowers, and fall apart when they are split."""
    done = run("data", flowers, "--json", cwd=here)
    found = done.json
    assert done.code == 3
    assert (found["images"], found["readable"], found["splits"]) == (400, 400, {"train": 320, "val": 80})
    assert [len(d["images"]) for d in found["duplicates"]] == [2, 2]
    assert found["memory"] == {"input": [3, 224, 224], "bytes": 400 * 3 * 224 * 224}
    clean = run("data", flowers, "--fix", "clean.csv", cwd=here)
    assert clean.code == 3
    assert "train on clean.csv" in clean.err
    assert run("data", "clean.csv", cwd=here).code == 0


def test_fix(here: Path) -> None:
    data = bad(here / "photos")
    before = harness.tree(data)
    done = run("data", "photos", "--fix", "out/clean.csv", cwd=here)
    assert done.code == 3
    assert harness.tree(data) == before
    assert "left out 1 image of train that another split holds too\n" in done.err
    assert "train still lacks classes that other splits have: cow\n" in done.err
    assert "wrote out/clean.csv: 24 of 25 images\n" in done.err
    with (here / "out/clean.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "label", "split"]
    assert len(rows) == 24
    assert not [row for row in rows if row["path"].endswith("train/cat/0.png")]
    assert all(Path(row["path"]).is_absolute() for row in rows), "they lie outside the list's folder"


def test_sheets(here: Path) -> None:
    bad(here / "photos")
    done = run("data", "photos", "-o", "sheet.png", "--json", cwd=here)
    assert "wrote sheet.png\nwrote sheet-duplicates.png\n" in done.err
    assert json.loads(done.out)["images"] == 25
    for name in ("sheet.png", "sheet-duplicates.png"):
        with Image.open(here / name) as page:
            page.load()
            assert page.width > 600
    assert sorted(path.name for path in here.iterdir()) == ["photos", "sheet-duplicates.png", "sheet.png"]


@pytest.mark.parametrize(("flag", "name"), [("--sheet", "x.png"), ("--fix", "x.csv")])
def test_nothing_is_replaced_unless_asked(flag: str, name: str, here: Path) -> None:
    good(here / "photos")
    (here / name).write_text("mine")
    with unchanged(here):
        assert_failed(run("data", "photos", flag, name, cwd=here), 2, rf"{name} exists; use --overwrite")
    assert run("data", "photos", flag, name, "--overwrite", cwd=here).code == 0
    assert (here / name).read_bytes() != b"mine"


def test_a_sheet_of_duplicates_is_not_replaced_either(here: Path) -> None:
    good(here / "photos")
    (here / "x-duplicates.png").write_text("mine")
    with unchanged(here):
        assert_failed(run("data", "photos", "-o", "x.png", cwd=here), 2, "x-duplicates.png exists")


USAGE = {
    "nothing": ((), "needs a data set"),
    "list and a source": (("--list", "photos"), "take no data set"),
    "suffix": (("photos", "--sheet", "x.jpg"), r"should end in \.png"),
    "csv suffix": (("photos", "--fix", "x"), r"should end in \.csv; --fix x\.csv"),
    "input": (("photos", "--input", "224x224x3"), "channels come first: --input 3x224x224"),
    "colour": (("photos", "--background", "nocolour"), "is no colour"),
    "workers": (("photos", "--workers", "0"), "workers"),
    "fraction": (("photos", "--val-fraction", "2"), "val-fraction"),
    "typo": (("photos", "--sheets", "x.png"), "did you mean --sheet"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage(name: str, here: Path) -> None:
    good(here / "photos", 2)
    arguments, pattern = USAGE[name]
    with unchanged(here):
        assert_failed(run("data", *arguments, cwd=here), 2, pattern)


def test_a_list_is_not_replaced_by_its_own_cleaning(here: Path) -> None:
    good(here / "photos", 4)
    assert run("data", "photos", "--fix", "a.csv", cwd=here).code == 0
    with unchanged(here):
        assert_failed(run("data", "a.csv", "--fix", "a.csv", "--overwrite", cwd=here), 2, "is the data set itself")


def test_what_is_absent(here: Path) -> None:
    assert_failed(run("data", "phtos", cwd=here), 3, "no such data: 'phtos'")
    assert_failed(run("data", "digitz", "--json", cwd=here), 3, "digits", json_out=True)


def test_fix_of_what_has_no_files(here: Path) -> None:
    with unchanged(here):
        assert_failed(run("data", "digits", "--fix", "x.csv", cwd=here), 2, "digits are no files")


def test_list(here: Path) -> None:
    done = run("data", "--list", cwd=here, COLUMNS="100")
    assert (done.code, done.err) == (0, "")
    names = [entry["name"] for entry in run("data", "--list", "--json", cwd=here).json]
    assert names == list(SOURCES)
    assert all(re.search(rf"^{re.escape(name)} ", done.out, re.MULTILINE) for name in names)


def test_clear_cache(here: Path) -> None:
    done = run("data", "--clear-cache", cwd=here, CNN_CACHE=str(here / "cache"))
    assert (done.code, done.out) == (0, "removed 0 caches of decoded images, 0.0 MB\n")
    assert run("data", "--clear-cache", "--json", cwd=here).json == {"removed": 0, "bytes": 0}


def test_torch_is_not_needed(here: Path, tmp_path: Path) -> None:
    good(here / "photos")
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')")
    assert run("data", "photos", "-o", "x.png", "--fix", "x.csv", cwd=here, PYTHONPATH=str(tmp_path)).code == 0


def test_help_documents_the_json_and_the_exit_code(here: Path) -> None:
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run("data", "--help", cwd=here).out).split())
    assert 'JSON: {"data", "images", "readable"' in text
    assert "Exit code 3 when something would spoil a training" in text
