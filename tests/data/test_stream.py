"""Images decoded for each batch anew: the same pixels, a bounded check first, and what is lost on the way is told and bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnncli.data import stream
from cnncli.data.augment import Augment
from cnncli.data.form import Form
from cnncli.data.loader import Loader
from cnncli.data.pixels import load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Source, open_source
from cnncli.data.stream import open_stream
from cnncli.errors import CnnError, InputError

SMALL = Preprocess(3, 7, 7)


def folder(tmp_path: Path, make_images, count: int) -> Source:
    return open_source(str(make_images(tmp_path, {"cat": count, "dog": count})), val_fraction=0)


def test_the_same_batches_as_in_memory(tmp_path: Path, make_images) -> None:
    source = folder(tmp_path, make_images, 30)
    augment = Augment(flip=True, shift=1)
    loaders = [
        Loader(pixels, SMALL, batch_size=8, seed=3, augment=augment, shuffle=True, threads=threads)
        for pixels, threads in (
            (load_pixels(source, "train", SMALL), 1),
            (open_stream(source, "train", Form(SMALL), skip_bad=True), 1),
            (open_stream(source, "train", Form(SMALL), skip_bad=True), 5),
        )
    ]
    for start in (0, 3):
        wanted, *others = ([(b.images, b.labels, b.indices) for b in loader.epoch(2, start)] for loader in loaders)
        assert len(wanted) == 8 - start
        for other in others:
            assert all(torch.equal(a, b) for one, two in zip(wanted, other, strict=True) for a, b in zip(one, two, strict=True))


def test_crops_are_cut_from_the_original(tmp_path: Path, make_images) -> None:
    source = folder(tmp_path, make_images, 3)
    pixels = open_stream(source, "train", Form(SMALL, whole=True), skip_bad=True)
    sizes = []

    def boxes(indices, sizes_):  # type: ignore[no-untyped-def]
        sizes.extend(sizes_.tolist())
        return np.array([[0, 0, 0.5, 0.5]] * len(indices), dtype=np.float32)

    out = torch.empty(6, 3, 7, 7, dtype=torch.uint8)
    assert pixels.fill(np.arange(6), out, boxes) == []
    assert sizes == [[5, 6]] * 6  # not those of a smaller copy
    assert pixels.some().shape == (6, 3, 8, 8)


def test_the_check_is_bounded_and_counts(tmp_path: Path, make_images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_CHECKED", 40)
    source = folder(tmp_path, make_images, 200)
    opened: list[str] = []
    original = Form.open
    monkeypatch.setattr(
        Form, "open", lambda form, source, sample, *more: (opened.append(sample.path), original(form, source, sample, *more))[1]
    )
    seen: list[tuple[int, int]] = []
    open_stream(source, "train", Form(SMALL), skip_bad=True, on_progress=lambda *done: seen.append(done))
    assert len(opened) == 40
    assert seen[-1] == (40, 40)
    for sample in source.samples("train")[::100]:
        (tmp_path / sample.path).write_bytes(b"")
    with pytest.raises(InputError, match=r"4 of 40 images \(10\.0%\)"):
        open_stream(source, "train", Form(SMALL), skip_bad=True)
    with pytest.raises(InputError, match="empty file"):
        open_stream(source, "train", Form(SMALL), skip_bad=False)


def test_d4_what_is_lost_on_the_way_is_left_out_and_told(tmp_path: Path, make_images) -> None:
    source = folder(tmp_path, make_images, 150)
    pixels = open_stream(source, "train", Form(SMALL), skip_bad=True)
    whole = list(Loader(pixels, SMALL, batch_size=16, seed=1, shuffle=True).epoch(1))
    lost = 7
    (tmp_path / source.samples("train")[lost].path).unlink()
    loader = Loader(pixels, SMALL, batch_size=16, seed=1, shuffle=True)
    for _ in range(2):
        for before, now in zip(whole, loader.epoch(1), strict=True):
            kept = before.indices != lost
            assert torch.equal(now.indices, before.indices[kept])  # nobody takes the gap
            assert torch.equal(now.images, before.images[kept])
            assert torch.equal(now.labels, before.labels[kept])
    assert [Path(error.name).name for error in pixels.bad] == [Path(source.samples("train")[lost].path).name]
    for sample in source.samples("train")[20:24]:
        (tmp_path / sample.path).unlink()
    with pytest.raises(CnnError, match=r"4 of 300 images \(1\.3%\) could not be read while they were needed.*no such file") as caught:
        list(loader.epoch(1))
    assert caught.value.code == 1


def test_a_batch_of_which_nothing_is_left(tmp_path: Path, make_images) -> None:
    source = folder(tmp_path, make_images, 150)
    pixels = open_stream(source, "train", Form(SMALL), skip_bad=True)
    for sample in source.samples("train")[:2]:
        (tmp_path / sample.path).unlink()
    batches = list(Loader(pixels, SMALL, batch_size=2).epoch(0))
    assert [len(batch.labels) for batch in batches] == [2] * 149


def test_an_epoch_that_is_left_early_ends_its_threads(tmp_path: Path, make_images) -> None:
    import threading

    source = folder(tmp_path, make_images, 60)
    batches = Loader(open_stream(source, "train", Form(SMALL), skip_bad=True), SMALL, batch_size=4).epoch(0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
