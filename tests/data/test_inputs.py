"""Which images arguments stand for, in which order, and what is refused before any is looked at."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnncli.data.decode import BadImage, Decoding
from cnncli.data.inputs import LONGEST_LINE, Input, expand
from cnncli.data.walk import Walk
from cnncli.errors import InputError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def names(arguments: list[str], stdin: bytes = b"", **options: Path) -> list[str]:
    return [entry.name for entry in expand(arguments, io.BytesIO(stdin), **options) if entry is not None]


# Names that sort differently as parts and as whole paths: "/" lies between "." and "0".
PARTS = ["a", "a.b", "a-b", "a0", "A", "a b", "ab", "é"]


@settings(max_examples=40, deadline=None)
@given(st.sets(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12))
def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path_factory: pytest.TempPathFactory, paths: set[tuple[str, ...]]) -> None:
    root = tmp_path_factory.mktemp("walk")
    touch(root, *("/".join(path) + ".png" for path in paths))
    assert names([str(root)]) == [str(root / image) for image in Walk(root).images("")]


def test_arguments_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b.png", "a.png", "deep/er/c.png", "deep/d.jpg", "[1].png", "words.txt", "deep/.hidden.png")
    assert names(["b.png", "deep", "a.png", "b.png"]) == ["b.png", "deep/d.jpg", "deep/er/c.png", "a.png", "b.png"]
    assert names(["*.png"]) == ["[1].png", "a.png", "b.png"]
    assert names(["[1].png"]) == ["[1].png"], "a file that is there is no pattern"
    assert names(["**/*.png", "-"], b"x.png\r\n\r\ny z.png") == ["[1].png", "a.png", "b.png", "deep/er/c.png", "x.png", "y z.png"]
    assert names([str(tmp_path / "deep")]) == [str(tmp_path / "deep/d.jpg"), str(tmp_path / "deep/er/c.png")]
    assert names(["./deep/"]) == ["deep/d.jpg", "deep/er/c.png"]


def test_links_and_loops(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/one").symlink_to(tmp_path / "out")
    (tmp_path / "in/two").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "in")
    assert names([str(tmp_path / "in")]) == [str(tmp_path / "in/a.png"), str(tmp_path / "in/one/b.png")]


def test_the_folder_of_the_copies_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.png", "sorted/cat/a.png", "z.png", "sorted-2/b.png")
    away = tmp_path / "sorted"
    assert names(["."], left_out=away) == ["a.png", "sorted-2/b.png", "z.png"]
    assert names(["**/*.png"], left_out=Path("sorted")) == ["a.png", "sorted-2/b.png", "z.png"]
    assert names(["sorted/cat/a.png"], left_out=away) == ["sorted/cat/a.png"], "what is named is meant"
    for folder in ("sorted", "sorted/cat"):
        with pytest.raises(UsageError, match="where sorted images go"):
            expand([folder], None, left_out=away)
    (tmp_path / "link").symlink_to(away)
    assert names(["."], left_out=tmp_path / "link") == ["a.png", "sorted-2/b.png", "z.png"]


def test_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first image is looked at, whichever argument it is."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.png", "words/x.txt")
    (tmp_path / "words/x.txt").write_text("no image\n")
    cases = {
        "absent.png": "no such image: absent.png",
        "*.jpg": r"no file matches \*\.jpg",
        "words": "no image in folder words",
        "http://example.org/cat.jpg": "is an address",
        "s3://bucket/cat.jpg": "is an address",
        "": "no such image",
        "a" * 5000: "no such image",
        "a.png/b.png": "no such image",
    }
    for argument, pattern in cases.items():
        with pytest.raises(InputError, match=pattern):
            expand(["a.png", argument], io.BytesIO())
    with pytest.raises(UsageError, match="twice"):
        expand(["-", "a.png", "-"], io.BytesIO())


def test_an_address_in_a_list_is_one_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (entry for entry in expand(["-"], io.BytesIO(b"https://example.org/a.png\nb.png\n")) if entry)
    with pytest.raises(BadImage, match="download it first"):
        first.read(Decoding())
    assert second == Input("b.png")


LISTS = {
    "one": (b"a.png", ["a.png"]),
    "lines": (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
    "windows": (b"a.png\r\nb.png\r\n", ["a.png", "b.png"]),
    "blank lines": (b"\n \na.png\n\n", ["a.png"]),
    "zero bytes": (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
    "not UTF-8": (b"\xff.png\n", [os.fsdecode(b"\xff.png")]),
    "begins like a bitmap": (b"BMW.png\nb.png\n", ["BMW.png", "b.png"]),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists(name: str) -> None:
    given, expected = LISTS[name]
    assert names(["-"], given) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab /.", min_size=1, max_size=30), max_size=60), st.randoms(use_true_random=False))
def test_a_list_may_come_in_any_pieces(paths: list[str], chance: Random) -> None:
    """Whatever pieces a pipe gives, the names are those between the line breaks."""
    text = "".join(f"{path}\n" for path in paths).encode()

    class Pieces(io.BytesIO):
        def read1(self, size: int = -1) -> bytes:
            return self.read(chance.randint(1, 700))

    if text:
        found = [entry.name for entry in expand(["-"], Pieces(text)) if entry]
        assert found == [path for path in paths if path.strip()]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_an_image_through_a_pipe_is_read_whole(form: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form)
    (entry,) = expand(["-"], io.BytesIO(stream.getvalue()))
    assert entry == Input("-", stream.getvalue())
    assert entry.read(Decoding()).size == (30, 40)


def test_neither_an_image_nor_a_list() -> None:
    (page,) = expand(["-"], io.BytesIO(b"<!DOCTYPE html>\n<html><body>no</body></html>\n"))
    assert page is not None
    with pytest.raises(BadImage, match="HTML page"):
        page.read(Decoding())
    with pytest.raises(InputError, match="standard input is empty"):
        names(["-"])
    with pytest.raises(InputError, match="standard input is empty"):
        list(expand(["-"], None))
    with pytest.raises(InputError, match="neither an image nor a list"):
        names(["-"], b"x" * (LONGEST_LINE + 2**17))


def test_a_list_that_pauses_says_so() -> None:
    """What came before the pause can be worked on; nothing is lost by it."""
    reading, writing = os.pipe()

    def write() -> None:
        time.sleep(0.6)
        os.write(writing, b"a.png\nb.p")
        time.sleep(0.6)
        os.write(writing, b"ng\n")
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as stream:
        found = [entry and entry.name for entry in expand(["-"], stream)]
    thread.join()
    assert [name for name in found if name] == ["a.png", "b.png"]
    first = found.index("a.png")
    assert None in found[:first]
    assert None in found[first + 1 : -1]


def test_modes_of_what_is_read(tmp_path: Path) -> None:
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.jpg"
    Image.linear_gradient("L").save(grey)
    Image.effect_noise((64, 48), 50).convert("RGB").save(colour)
    for path in (grey, colour):
        assert Input(str(path)).read(Decoding(), 1).mode == "L"
        assert Input(str(path)).read(Decoding(), 3).mode == "RGB"


def test_a_folder_further_down_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says no by a double here, since root may read every folder; test_predict_faults has the real one."""
    touch(tmp_path, "a.png", "locked/b.png", "z.png")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = [entry for entry in expand([str(tmp_path)], None) if entry]
    assert [entry.name for entry in found] == [str(tmp_path / name) for name in ("a.png", "locked", "z.png")]
    with pytest.raises(BadImage, match="permission denied"):
        found[1].read(Decoding())
