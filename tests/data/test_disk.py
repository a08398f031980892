"""Decoded images in a cache on the disk: the same as in memory, decoded once, resumed, shared, bounded, never in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnncli.data import cache, disk
from cnncli.data.decode import BadImage
from cnncli.data.disk import Disk, DiskPixels
from cnncli.data.form import Form
from cnncli.data.pixels import load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Source, open_source
from cnncli.errors import EnvironmentFault, InputError

SMALL = Preprocess(3, 7, 7)
FORM = Form(SMALL)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def source(tmp_path: Path, make_images) -> Source:
    return open_source(str(make_images(tmp_path / "photos", {"cat": 21, "dog": 20})))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded from now on."""
    names: list[str] = []
    decode = Form.decode

    def counted(form: Form, source: Source, sample):  # type: ignore[no-untyped-def]
        names.append(sample.path)
        return decode(form, source, sample)

    monkeypatch.setattr(Form, "decode", counted)
    return names


def opened(
    source: Source, split: str = "train", form: Form = FORM, *, limit: float = 1e9, tell: Callable[[str], None] = print, **more
) -> DiskPixels | None:
    return Disk(limit, more.pop("skip_bad", True), 2, tell, **more).open(source, split, form)


def everything(pixels, boxes=None) -> torch.Tensor:  # type: ignore[no-untyped-def]
    out = torch.empty(len(pixels), 3, 7, 7, dtype=torch.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    assert pixels.fill(order, out, boxes) == []
    return out[torch.from_numpy(order.argsort())]


@pytest.mark.parametrize("whole", [False, True])
def test_the_same_as_in_memory(source: Source, whole: bool, decoded: list[str]) -> None:
    form = Form(SMALL, whole)
    boxes = (
        (lambda indices, sizes: np.stack([indices % 3 / 9, sizes[:, 0] / 50, 0.5 + 0 * indices, 0.5 + 0 * indices], 1)) if whole else None
    )
    wanted = load_pixels(source, "train", SMALL, whole=whole)
    for _ in range(2):
        found = opened(source, form=form)
        assert torch.equal(everything(found, boxes), everything(wanted, boxes))
        assert torch.equal(found.some(), wanted.some())
        assert torch.equal(found.labels, wanted.labels)
        assert (found.samples, list(found.bad)) == (wanted.samples, [])
    assert len(decoded) == 2 * len(wanted)  # once for memory, once for the cache


def test_splits_share_a_cache_and_other_forms_do_not(source: Source, tmp_path: Path, place: Path, decoded: list[str]) -> None:
    opened(source)
    opened(source, "val")
    assert len(list(place.iterdir())) == 1
    assert len(decoded) == 41
    again = open_source(str(tmp_path / "photos"), val_fraction=0.4)
    assert len(again.samples("val")) > len(source.samples("val"))
    assert torch.equal(everything(opened(again, "val")), everything(load_pixels(again, "val", SMALL)))
    assert len(decoded) == 41 + len(again.samples("val"))  # for the comparison
    opened(source, form=Form(replace(SMALL, height=8)))
    assert len(list(place.iterdir())) == 2


def test_what_changed_is_decoded_again(source: Source, tmp_path: Path, decoded: list[str]) -> None:
    opened(source)
    decoded.clear()
    changed = source.samples("train")[3]
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "photos" / changed.path)
    found = opened(source)
    assert decoded == [changed.path]
    assert everything(found)[3].flatten(1).unique(dim=1).tolist() == [[1], [2], [3]]
    before = (tmp_path / "photos" / changed.path).stat()
    Image.new("RGB", (9, 9), (3, 2, 1)).save(tmp_path / "photos" / changed.path)
    os.utime(tmp_path / "photos" / changed.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert everything(opened(source))[3].flatten(1).unique(dim=1).tolist() == [[3], [2], [1]]


def test_new_files_are_added(source: Source, tmp_path: Path, make_images, decoded: list[str]) -> None:
    opened(source)
    decoded.clear()
    make_images(tmp_path / "photos", {"cat": 25})
    larger = open_source(str(tmp_path / "photos"))
    found = opened(larger)
    assert torch.equal(everything(found), everything(load_pixels(larger, "train", SMALL)))


@pytest.mark.parametrize("name", ["index.npz", "form.json", "pixels.bin"])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_cache_is_made_again(source: Source, place: Path, name: str, damage: str) -> None:
    wanted = everything(opened(source))
    (file,) = place.glob(f"*/{name}")
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif name != "pixels.bin":
        file.write_bytes(b"\x93NUMPY and more" * 9)
    assert torch.equal(everything(opened(source)), wanted)


def test_bad_images_count_as_in_memory(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "photos", {"cat": 100, "dog": 100})
    (tmp_path / "photos/dog/bad.png").write_bytes(b"")
    source = open_source(str(tmp_path / "photos"), val_fraction=0)
    for _ in range(2):  # what is bad is not kept, and looked at again
        found = opened(source)
        assert [Path(error.name).name for error in found.bad] == ["bad.png"]
        assert len(found) == len(found.labels) == 200
        assert torch.equal(everything(found), everything(load_pixels(source, "train", SMALL)))
    with pytest.raises(BadImage, match="empty file"):
        opened(source, skip_bad=False)
    for number in range(3):
        (tmp_path / f"photos/dog/bad{number}.png").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"4 of 204 images"):
        opened(open_source(str(tmp_path / "photos"), val_fraction=0))


def test_an_interrupt_keeps_what_was_reached(source: Source, decoded: list[str]) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(source, on_progress=stop)
    reached = len(decoded)
    found = opened(source)
    assert len(decoded) - reached <= len(found) - 16
    assert torch.equal(everything(found), everything(load_pixels(source, "train", SMALL)))


CHILD = """
import os, sys, time
from cnncli.data import disk
from cnncli.data.form import Form
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import open_source
disk.FLUSH_EVERY = 8 * 147
decode = Form.decode
def slow(*args):
    time.sleep(0.002)
    return decode(*args)
Form.decode = slow
source = open_source(sys.argv[1])
tell, show = lambda line: print(line, file=sys.stderr), lambda done, total: print(done, flush=True)
disk.Disk(1e9, True, 2, tell, show).open(source, "train", Form(Preprocess(3, 7, 7)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", [9, 41, 90, 150])
def test_kill_9_while_it_is_written(tmp_path: Path, make_images, moment: int, decoded: list[str]) -> None:
    make_images(tmp_path / "photos", {"cat": 120, "dog": 120})
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "photos")], stdout=subprocess.PIPE, text=True)
    while int(child.stdout.readline()) < moment:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    source = open_source(str(tmp_path / "photos"))
    found = opened(source)
    assert len(decoded) <= len(found) - moment + 24  # all but what was not flushed yet
    assert torch.equal(everything(found), everything(load_pixels(source, "train", SMALL)))


@pytest.mark.slow
def test_two_runs_at_once_decode_once(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "photos", {"cat": 60, "dog": 60})
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "photos")], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = sorted((child.communicate()[0].split() for child in children), key=len)
    assert [child.returncode for child in children] == [0, 0]
    assert told[0] == []
    assert told[1][-1] == "96"


def test_the_least_recently_used_makes_room(tmp_path: Path, make_images, place: Path) -> None:
    sources = [open_source(str(make_images(tmp_path / name, {"cat": 20, "dog": 20})), val_fraction=0) for name in "abc"]
    one = 40 * FORM.bytes
    kept = opened(sources[0])  # in use: stays
    opened(sources[1])
    time.sleep(0.01)
    told: list[str] = []
    sizes = {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in place.iterdir()}
    limit = sum(sizes.values()) + one / 2
    assert opened(sources[2], limit=limit, tell=told.append) is not None
    assert told == []
    assert len(list(place.iterdir())) == 2
    assert torch.equal(everything(kept), everything(load_pixels(sources[0], "train", SMALL)))
    del kept
    assert opened(sources[1], limit=one / 2, tell=told.append) is None
    assert told == ["no cache of decoded images: its 0.0 GB and the 0.0 GB in use are more than --cache-limit 2.94e-06 (GB) allows"]


def test_a_disk_that_would_be_full(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = cache.shutil.disk_usage("/")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=usage.total // 100))
    told: list[str] = []
    assert opened(source, tell=told.append) is None
    assert told == ["no cache of decoded images: its 0.0 GB would leave less than 5% of the disk free"]


def test_a_disk_that_gives_out(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "_write_all", full)
    with pytest.raises(EnvironmentFault, match=r"cannot write .*pixels\.bin: No space left on device; free space"):
        opened(source)


def test_no_place_for_a_cache(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "file"))
    assert opened(source, tell=told.append) is None
    monkeypatch.delenv("CNN_CACHE")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert opened(source, tell=told.append) is None
    assert "Not a directory" in told[0] or "File exists" in told[0]
    assert told[1] == "no cache of decoded images: there is no home folder; set CNN_CACHE to a folder that can be written"
    assert opened(open_source("digits"), form=Form(Preprocess(1, 8, 8))) is None  # they are no files


def test_clear_removes_what_nobody_uses(tmp_path: Path, make_images, place: Path) -> None:
    sources = [open_source(str(make_images(tmp_path / name, {"cat": 20, "dog": 20}))) for name in "ab"]
    kept = opened(sources[0])
    opened(sources[1])
    (place / "mine").mkdir()
    (place / "mine" / "x.bin").write_bytes(b"x")
    removed, freed = cache.clear()
    assert removed == 1
    assert freed >= 32 * FORM.bytes
    assert torch.equal(everything(kept), everything(load_pixels(sources[0], "train", SMALL)))
    del kept
    assert cache.clear()[0] == 1
    assert [path.name for path in place.iterdir()] == ["mine"]
    assert (tmp_path / "a/cat/000.png").exists()
