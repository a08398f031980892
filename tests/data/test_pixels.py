"""Pixels in memory: the same as read one by one, bad images counted and bounded, memory asked for first."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cnncli.data import pixels as pixels_file
from cnncli.data.decode import BadImage
from cnncli.data.pixels import available_memory, load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Source, open_source
from cnncli.errors import EnvironmentFault, InputError

SMALL = Preprocess(3, 8, 8)


def with_bad(tmp_path: Path, make_images, good: int, bad: int) -> Source:
    make_images(tmp_path, {"cat": good // 2, "dog": good // 2})
    for index in range(bad):
        (tmp_path / f"dog/bad{index}.png").write_bytes(b"<html>" if index == 0 else b"")
    return open_source(str(tmp_path), val_fraction=0)


def test_bit_equal_whichever_way(tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(make_images(tmp_path, {"cat": 50, "dog": 41})), val_fraction=0)
    seen: list[tuple[int, int]] = []
    loaded = load_pixels(source, "train", SMALL, on_progress=lambda *done: seen.append(done))
    assert seen == [(min(done, 91), 91) for done in range(8, 99, 8)]
    assert loaded.images.shape == (91, 3, 8, 8)
    assert loaded.labels.tolist() == [s.label for s in loaded.samples]
    assert loaded.samples == source.samples("train")
    for image, sample in zip(loaded.images, loaded.samples, strict=True):
        np.testing.assert_array_equal(image.numpy(), SMALL.pixels(source.read(sample)))
    assert torch.equal(load_pixels(source, "train", SMALL, threads=1).images, loaded.images)


def test_d1_few_bad_images_are_left_out_and_listed(tmp_path: Path, make_images) -> None:
    source = with_bad(tmp_path, make_images, 200, 2)
    loaded = load_pixels(source, "train", SMALL)
    assert len(loaded) == 200
    assert [(Path(b.name).name, b.reason.split(",")[0]) for b in loaded.bad] == [("bad0.png", "HTML page"), ("bad1.png", "empty file")]
    for image, label, sample in zip(loaded.images, loaded.labels, loaded.samples, strict=True):  # nobody took the gap
        np.testing.assert_array_equal(image.numpy(), SMALL.pixels(source.read(sample)))
        assert label == sample.label
    with pytest.raises(BadImage, match=r"bad0\.png: HTML page"):
        load_pixels(source, "train", SMALL, bad_images="error")


def test_d1_more_than_one_percent_is_refused(tmp_path: Path, make_images) -> None:
    with pytest.raises(
        InputError, match=r"3 of 203 images \(1\.5%\).*more than 1%; the first is .*bad0\.png: HTML page.*--bad-images"
    ) as caught:
        load_pixels(with_bad(tmp_path, make_images, 200, 3), "train", SMALL)
    assert "\n" not in str(caught.value)


def test_d1_a_class_that_runs_empty_is_refused(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, {"cat": 200, "dog": 0})
    (tmp_path / "dog/only.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"class dog .* has no readable image.*only\.png: empty file"):
        load_pixels(open_source(str(tmp_path), val_fraction=0), "train", SMALL)


def test_empty_split(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"cat": 2, "dog": 2})), val_fraction=0)
    with pytest.raises(InputError, match=r"split val of .* has no images"):
        load_pixels(dataclasses.replace(source, splits={"val": ()}), "val", SMALL)


def test_memory_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_file, "available_memory", lambda: 50_000_000)
    source = open_source("digits")
    with pytest.raises(
        EnvironmentFault, match=r"images of 224x224 of digits need 0\.2 GB of memory, 70% of the 0\.1 GB available"
    ) as caught:
        load_pixels(source, "train", Preprocess(3, 224, 224))
    assert caught.value.code == 4
    assert len(load_pixels(source, "val", Preprocess(1, 8, 8))) == len(source.samples("val"))
    monkeypatch.undo()
    memory = available_memory()
    assert memory is None or memory > 10**6


def test_an_error_or_an_interrupt_ends_the_threads(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"cat": 200, "dog": 200})), val_fraction=0)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_pixels(source, "train", SMALL, on_progress=stop)
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_real_photos(flowers: Path) -> None:
    source = open_source(str(flowers))
    loaded = load_pixels(source, "val", Preprocess(3, 64, 64, crop_fraction=0.875))
    assert loaded.images.shape == (80, 3, 64, 64)
    assert loaded.bad == ()
    assert torch.bincount(loaded.labels).tolist() == [16] * 5
    assert 60 < float(loaded.images.float().mean()) < 180
