"""Where images are kept follows their size and what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncli.data import store as store_file
from cnncli.data.config import DataConfig
from cnncli.data.disk import DiskPixels
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Source, open_source
from cnncli.data.store import open_pixels
from cnncli.data.stream import StreamPixels
from cnncli.errors import EnvironmentFault

SMALL = Preprocess(3, 7, 7)


@pytest.fixture
def source(tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))
    return open_source(str(make_images(tmp_path / "photos", {"cat": 20, "dog": 20})))


def kept(source: Source, **settings) -> tuple[type, list[str]]:
    told: list[str] = []
    return type(open_pixels(source, "train", SMALL, DataConfig(**settings), tell=told.append)), told


def test_small_sets_are_in_memory(source: Source, tmp_path: Path) -> None:
    assert kept(source) == (Pixels, [])
    assert not (tmp_path / "cache").exists()


def test_larger_ones_on_the_disk(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "SMALL", 32 * 147 - 1)
    assert kept(source) == (DiskPixels, [])
    assert kept(source, store="memory") == (Pixels, [])
    assert kept(source, store="stream") == (StreamPixels, [])


def test_without_room_on_the_disk_in_memory_and_else_nowhere(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "SMALL", 0)
    where, told = kept(source, cache_limit=1e-6)
    assert where is Pixels
    assert told[0].startswith("no cache of decoded images: its 0.0 GB are more than --cache-limit 1e-06 (GB) allows")
    monkeypatch.setattr(store_file, "available_memory", lambda: 2 * 32 * 147 - 1)
    where, told = kept(source, cache_limit=1e-6)
    assert where is StreamPixels
    assert told[-1] == "0.0 GB of decoded images fit neither into a cache nor into memory: they are decoded anew each epoch"


def test_disk_that_cannot_be(source: Source) -> None:
    with pytest.raises(EnvironmentFault, match="--store disk"):
        kept(source, store="disk", cache_limit=0)
    assert kept(source, store="disk")[0] is DiskPixels
    assert kept(source, store="disk", cache_limit=0)[0] is DiskPixels  # what is there needs no more room
