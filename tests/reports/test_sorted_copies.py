"""Copies by class: nothing is overwritten, nothing is copied twice, nothing leaves the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli import atomic
from cnncli.errors import EnvironmentFault, InputError
from cnncli.reports import sorted_copies
from cnncli.reports.sorted_copies import UNCERTAIN, SortedCopies, cleaned, folder_names, numbered, piped_name


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def image(root: Path, name: str, data: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_by_class(tmp_path: Path) -> None:
    originals = tmp_path / "in"
    cat, dog, odd = image(originals, "1.jpg", b"cat"), image(originals, "2.jpg", b"dog"), image(originals, "3", b"odd")
    os.utime(cat, ns=(1, 10**18))
    before = {path: path.stat().st_mtime_ns for path in (cat, dog, odd)}
    copies = SortedCopies(tmp_path / "out", ["cat", "dog"])
    assert copies.add(cat, "cat") == tmp_path / "out/cat/1.jpg"
    copies.add(dog, "dog")
    copies.add(odd, None)
    assert files(tmp_path / "out") == {"cat/1.jpg": b"cat", "dog/2.jpg": b"dog", "uncertain/3": b"odd"}
    assert (tmp_path / "out/cat/1.jpg").stat().st_mtime_ns == 10**18, "the time of the photo is kept"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert copies.summary() == f"copied 3 images into {tmp_path / 'out'}: 2 into 2 classes, 1 uncertain"


def test_names_that_are_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second, third = (image(tmp_path, f"{number}/x.tar.gz.png", str(number).encode()) for number in (1, 2, 3))
    image(out, "cat/x.tar.gz.png", b"mine")
    (out / "cat/x.tar.gz-2.png").symlink_to("nowhere")
    (out / "cat/x.tar.gz-3.png").mkdir()
    copies = SortedCopies(out, ["cat"])
    assert copies.add(first, "cat").name == "x.tar.gz-4.png"
    assert copies.add(second, "cat").name == "x.tar.gz-5.png"
    assert copies.add(first, "cat").name == "x.tar.gz-4.png", "the same bytes are there"
    assert copies.add(out / "cat/x.tar.gz-4.png", "cat").name == "x.tar.gz-4.png", "itself"
    assert files(out) == {"cat/x.tar.gz.png": b"mine", "cat/x.tar.gz-4.png": b"1", "cat/x.tar.gz-5.png": b"2"}
    assert (copies.copied["cat"], copies.there) == (2, 2)
    assert copies.summary() == f"copied 2 images into {out}: 2 into 1 class; 2 more were there"
    again = SortedCopies(out, ["cat"])
    assert [again.add(path, "cat").name for path in (first, second, third)] == [f"x.tar.gz-{n}.png" for n in (4, 5, 6)]


def test_two_that_sort_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that another process takes between the look and the last step is not replaced."""
    ours = image(tmp_path, "in/x.png", b"ours")
    write = sorted_copies._named

    def late(temporary: Path, target: Path) -> bool:
        if target.name == "x.png":
            image(target.parent, "x.png", b"theirs")
        return write(temporary, target)

    monkeypatch.setattr(sorted_copies, "_named", late)
    assert SortedCopies(tmp_path / "out", ["cat"]).add(ours, "cat").name == "x-2.png"
    assert files(tmp_path / "out") == {"cat/x.png": b"theirs", "cat/x-2.png": b"ours"}


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    copies = SortedCopies(tmp_path / "out", ["cat"])
    for number in (1, 2):
        copies.add(image(tmp_path, f"{number}/x.png", str(number).encode()), "cat")
    assert files(tmp_path / "out") == {"cat/x.png": b"1", "cat/x-2.png": b"2"}


def test_through_a_pipe(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n123"
    copies = SortedCopies(tmp_path, ["cat"])
    assert [copies.add(data, "cat").name for data in (png, png + b"4", png, b"GIF89a")] == [
        "stdin.png",
        "stdin-2.png",
        "stdin.png",
        "stdin.gif",
    ]
    assert piped_name(b"\xff\xd8\xff") == "stdin.jpg"


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = image(tmp_path, "in/x.png", b"x" * 100)
    copies = SortedCopies(tmp_path / "out", ["cat"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for failure, error in ((full, EnvironmentFault), (interrupted, KeyboardInterrupt)):
        monkeypatch.setattr("os.fsync", failure)
        with pytest.raises(error):
            copies.add(source, "cat")
        assert files(tmp_path / "out") == {}
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"cannot copy .*gone\.png"):
        copies.add(tmp_path / "gone.png", "cat")
    assert files(tmp_path / "out") == {}
    assert not list((tmp_path / "out").rglob(f"{atomic.TEMPORARY_MARK}*"))


def test_a_folder_that_leads_out(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="leads out of"):
        SortedCopies(tmp_path / "out", ["cat"]).add(image(tmp_path, "x.png", b"1"), "cat")
    assert files(tmp_path / "elsewhere") == {}
    (tmp_path / "out/dog").write_text("a file")
    with pytest.raises(EnvironmentFault, match="cannot make the folder"):
        SortedCopies(tmp_path / "out", ["dog"]).add(tmp_path / "x.png", "dog")


CLEANED = {
    "golden retriever": "golden retriever",
    "a/b": "a_b",
    "..": "_",
    ".": "_",
    "": "_",
    "../../etc": "_._.._etc",
    ".hidden": "_hidden",
    "C:\\x": "C__x",
    "a\nb\x1b\x00": "a_b__",
    "\ud800": "_",
    " x. ": "x",
    "猫": "猫",
    "é" * 150: "é" * 100,
}


def test_cleaned() -> None:
    assert {label: cleaned(label) for label in CLEANED} == CLEANED


def test_folder_names_differ() -> None:
    names = folder_names(["a/b", "a_b", "A_B", "uncertain", "..", ".", "cat"])
    assert names == {"a/b": "a_b", "a_b": "a_b-2", "A_B": "A_B-3", "uncertain": "uncertain-2", "..": "_", ".": "_-2", "cat": "cat"}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from('ab./\\: \x00\n\ud800é"-2'), max_size=6), unique=True, max_size=12))
def test_every_class_has_a_folder_of_its_own_within_the_root(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    root = tmp_path_factory.getbasetemp() / "root"
    names = folder_names(labels)
    assert list(names) == labels
    assert len({name.casefold() for name in names.values()} | {UNCERTAIN}) == len(labels) + 1
    for name in names.values():
        assert Path(os.path.normpath(root / name)).parent == root
        assert not name.startswith(".")
        assert len(os.fsencode(name)) <= 255


@given(st.text(min_size=1, max_size=140).filter(lambda name: "/" not in name and "\0" not in name), st.integers(2, 10**6))
@settings(max_examples=100, deadline=None)
def test_numbered_names_fit(name: str, number: int) -> None:
    name = os.fsdecode(os.fsencode(name.encode("utf-8", "ignore").decode())[:255]) or "x"
    found = numbered(name, number)
    assert len(os.fsencode(found)) <= 255
    assert f"-{number}" in found
    if Path(name).suffix:
        assert Path(found).suffix == Path(name).suffix
    assert numbered(name, 1) == name
