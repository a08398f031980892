"""An audit as text and as JSON, and the sheets: with 2, 10 and 1,000 classes, narrow and wide, and with hostile names."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.data.facts import Audit, Duplicates, Finding, Near, Sized, Sizes, Spot, Unreadable
from cnncli.data.thumbnails import Row, Twice
from cnncli.reports.audit import JSON_HELP, audit_json, bar, print_audit
from cnncli.reports.contact_sheet import CELL, HEAD, LABEL, MARGIN, draw_classes, draw_duplicates, per_split


def made(classes: int = 2, **changes: object) -> Audit:
    size = Sized("a/x.jpg", 40, 30)
    spot, other = Spot("a/x.jpg", "train", "a"), Spot("b/y.jpg", "val", "b")
    base = Audit(
        data="photos",
        classes=tuple(f"class-{n}" for n in range(classes)),
        counts={"train": tuple(10 * (n + 1) for n in range(classes)), "val": (2,) * classes},
        derived=True,
        notices=("ignored 1 file",),
        refused="",
        images=1000,
        unreadable=(Unreadable(spot, "empty file"),),
        misnamed=(),
        sizes=Sizes(size, Sized("b/big.jpg", 400, 300), size, size, dict.fromkeys((5, 25, 50, 75, 95), (40, 30))),
        formats={"JPEG": 999},
        modes={"RGB": 999},
        converted={},
        tiny=(),
        constant=(),
        mean=(0.5, 0.25, 0.125),
        std=(0.1, 0.2, 0.3),
        input=(3, 224, 224),
        bytes=150_377_472,
        duplicates=(Duplicates((spot, other), same_bytes=True, conflict=True, leak=True, shared=False),),
        near=(Near((spot, other), 4, 0.98765, conflict=True, leak=True),),
        near_complete=True,
        twins=(("Cat", "cat"),),
        findings=(Finding("spoils", "leaks", 1, "1 image leaks", ("a = b",)), Finding("note", "grey", 2, "2 images in grey")),
    )
    return replace(base, **changes)


def text(audit: Audit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_audit(audit)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [20, 80, 140])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_text(classes: int, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = text(made(classes), capsys, monkeypatch, columns)
    lines = out.splitlines()
    assert len(lines) < 60 + 120 * (columns == 20)
    if columns > 20:
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith(f"photos: 1,000 images, {classes:,} classes: train ")
        assert re.search(r"^class-0 +10 +2 +12", out, re.MULTILINE)
        assert re.search(rf"^class-{classes - 1} +{10 * classes:,} +2 +{10 * classes + 2:,} +█+$", out, re.MULTILINE)
        assert "0.5000  0.2500  0.1250" in out
        assert "150.4 MB decoded at 3x224x224" in out
    assert out.index("would spoil a training") < out.index("1 image leaks") < out.index("worth knowing") < out.index("in grey")


def test_the_long_tail_is_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = text(made(1000), capsys, monkeypatch)
    listed = re.findall(r"^(class-\d+) ", out, re.MULTILINE)
    assert listed == [f"class-{n}" for n in (*range(999, 989, -1), *range(9, -1, -1))]
    assert re.search(r"^\.\.\. 980 more +112 to 9,902", out, re.MULTILINE)


def test_thirty_classes_are_all_listed_in_their_order(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.findall(r"^(class-\d+) ", text(made(30), capsys, monkeypatch), re.MULTILINE) == [f"class-{n}" for n in range(30)]


def test_nothing_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert text(made(findings=()), capsys, monkeypatch).endswith("\nnothing is wrong with it\n")


def test_no_readable_image(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = text(made(sizes=None, formats={}, modes={}, mean=(), std=(), bytes=0), capsys, monkeypatch)
    assert "mean" not in out
    assert "0 bytes decoded" in out
    assert audit_json(made(sizes=None))["sizes"] is None


def test_hostile_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("[red]x[/red]\x1b[31m", "two\nlines", "\u202etxet", "\udcff")
    out = text(replace(made(4), classes=names, findings=(Finding("note", "x", 1, "m", ("[bold]e",)),)), capsys, monkeypatch)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"[red]x[/red]\x1b[31m" in out
    assert r"two\nlines" in out
    assert "[bold]e" in out


@pytest.mark.parametrize(("share", "expected"), [(0, ""), (1e-9, "▏"), (0.5, "████"), (0.5625, "████▌"), (1, "████████")])
def test_bars(share: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert bar(share, 8) == expected


def test_bars_where_there_are_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert (bar(0, 8), bar(1e-9, 8), bar(0.5, 8), bar(1, 8)) == ("", "#", "####", "########")


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | set().union(*map(keys_of, value.values()), set())
    return set().union(*map(keys_of, value), set()) if isinstance(value, list | tuple) else set()


def test_every_key_is_documented() -> None:
    full = made(misnamed=(), converted={"deep": 1})
    found = audit_json(full)
    data = {"JPEG", "RGB", "deep", "train", "val", "5", "25", "50", "75", "95"}  # words of the data
    for key in keys_of(found) - data:
        assert f'"{key}"' in JSON_HELP, key
    assert found["classes"][1] == {"class": "class-1", "total": 22, "counts": {"train": 20, "val": 2}}
    assert found["near"][0]["correlation"] == 0.9877
    assert found["spoiled"] is True
    assert found["splits"] == {"train": 30, "val": 4}


def photo(number: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size[::-1], 3)).astype(np.uint8))


HOSTILE = ("$\\frac$", "x" * 300, "two\nlines", "\u202eabc", "\udcff", "猫", "", "<b>&amp;")


def test_sheet_of_classes(tmp_path: Path) -> None:
    splits = {"train": 100, "val": 20}
    rows = [Row(name, {"train": 5, "val": 0}, {"train": [photo(n, (CELL, 60)) for n in range(6)]}) for name in HOSTILE]
    draw_classes(tmp_path / "s.png", rows, splits, title="photos\n" + "y" * 500, left_out=3)
    page = Image.open(tmp_path / "s.png")
    page.load()
    assert page.format == "PNG"
    assert page.height > HEAD + len(HOSTILE) * CELL
    first = rows[0].pictures["train"][0]
    left, top = MARGIN + LABEL, HEAD + (CELL - 60) // 2
    assert page.crop((left, top, left + CELL, top + 60)).tobytes() == first.tobytes(), "pictures are pasted as they are"
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_sheet_with_one_split() -> None:
    assert per_split(["train"]) == {"train": 10}
    assert per_split(["train", "val", "test"]) == {"train": 6, "val": 3, "test": 3}


@pytest.mark.parametrize("count", [1, 3, 9])
def test_sheet_of_duplicates(count: int, tmp_path: Path) -> None:
    spots = (Spot("a" * 300, "train", "猫\n"), Spot("\udcff.jpg", "val", "b"))
    groups = [Twice("same pixels, several classes", spots, (photo(n, (168, 100)), photo(n, (50, 168))), 5) for n in range(count)]
    draw_duplicates(tmp_path / "d.png", groups, title="photos", left_out=7)
    page = Image.open(tmp_path / "d.png")
    page.load()
    assert page.width < 1400
    assert np.asarray(page)[:, -20:].min() == 255, "nothing reaches the margin"
