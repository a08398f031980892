"""Batches depend on (seed, epoch) alone; an epoch resumed anywhere goes on as it would have."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cnncli.data.augment import Augment
from cnncli.data.form import Form
from cnncli.data.loader import Batch, Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, open_source
from cnncli.data.stream import StreamPixels, open_stream
from cnncli.data.threads import Stalled, finish_by
from cnncli.errors import UsageError

PREPROCESS = Preprocess(3, 6, 6)


def pixels(count: int) -> Pixels:
    images = torch.randint(0, 256, (count, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Pixels(images, torch.arange(count) % 5, tuple(Sample(f"{i}.png", i % 5) for i in range(count)))


def loader(count: int = 50, batch_size: int = 8, *, seed: int = 1, shuffle: bool = True, augment: Augment | None = None) -> Loader:
    return Loader(pixels(count), PREPROCESS, batch_size=batch_size, seed=seed, augment=augment, shuffle=shuffle, device=torch.device("cpu"))


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(one, two, strict=True)
    )


def test_without_shuffling_samples_come_in_order_and_exactly() -> None:
    data = loader(shuffle=False)
    batches = list(data.epoch(0))
    assert len(batches) == len(data) == 7
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(50))
    assert torch.equal(torch.cat([b.images for b in batches]), PREPROCESS.normalise(data.pixels.images))
    assert torch.equal(torch.cat([b.labels for b in batches]), data.pixels.labels)
    assert equal(batches, list(data.epoch(9)))


def test_shuffled_epochs_show_every_sample_once_with_its_label() -> None:
    data = loader()
    for epoch in range(3):
        for batch in data.epoch(epoch):
            assert torch.equal(batch.images, PREPROCESS.normalise(data.pixels.images[batch.indices]))
            assert torch.equal(batch.labels, data.pixels.labels[batch.indices])
        assert sorted(torch.cat([b.indices for b in data.epoch(epoch)]).tolist()) == list(range(50))


def test_seed_and_epoch_decide() -> None:
    augment = Augment(flip=True, shift=2)
    first = list(loader(augment=augment).epoch(4))
    assert equal(first, list(loader(augment=augment).epoch(4)))
    assert not equal(first, list(loader(augment=augment).epoch(5)))
    assert not equal(first, list(loader(augment=augment, seed=2).epoch(4)))


@pytest.mark.parametrize("start", [0, 1, 3, 6, 7])
def test_w2_resumed_mid_epoch(start: int) -> None:
    augment = Augment(flip=True, shift=2)
    whole = list(loader(augment=augment).epoch(2))
    assert equal(list(loader(augment=augment).epoch(2, start)), whole[start:])


def test_a_sample_looks_the_same_in_batches_of_any_size() -> None:
    augment = Augment(flip=True, shift=2)

    def by_index(size: int) -> torch.Tensor:
        batches = list(loader(batch_size=size, augment=augment).epoch(3))
        return torch.cat([b.images for b in batches])[torch.cat([b.indices for b in batches]).argsort()]

    assert torch.equal(by_index(8), by_index(50))
    assert torch.equal(by_index(8), by_index(1))


@pytest.mark.parametrize(
    ("count", "size", "shuffle", "sizes"),
    [
        (17, 8, True, [8, 9]),
        (17, 8, False, [8, 8, 1]),
        (18, 8, True, [8, 8, 2]),
        (16, 8, True, [8, 8]),
        (1, 8, True, [1]),
        (3, 1, True, [1, 1, 1]),
        (9, 8, True, [9]),
        (5, 8, False, [5]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(count: int, size: int, shuffle: bool, sizes: list[int]) -> None:
    data = loader(count, size, shuffle=shuffle)
    assert [len(b.labels) for b in data.epoch(0)] == sizes
    assert len(data) == len(sizes)


def test_batches_own_their_memory() -> None:
    """A network with in-place operations must not write into the data set."""
    data = loader(shuffle=False)
    before = data.pixels.images.clone()
    for batch in data.epoch(0):
        batch.images.zero_()
        assert batch.images.dtype == torch.float32
    assert torch.equal(data.pixels.images, before)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        loader(batch_size=0)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("count", "size", "ranks"), [(50, 8, 2), (50, 8, 3), (48, 8, 4), (52, 10, 2), (16, 8, 8), (64, 7, 3)])
def test_ranks_share_every_batch_of_a_single_process(count: int, size: int, ranks: int, *, shuffle: bool) -> None:
    augment = Augment(flip=True, shift=2) if shuffle else None
    whole = list(loader(count, size, shuffle=shuffle, augment=augment).epoch(3))
    shares = []
    for rank in range(ranks):
        data = Loader(
            pixels(count), PREPROCESS, batch_size=size, seed=1, augment=augment, shuffle=shuffle, threads=1, rank=rank, ranks=ranks
        )
        assert data.count == count
        shares.append(list(data.epoch(3)))
        assert len(shares[-1]) == len(data)
        assert equal(list(data.epoch(3, 2)), shares[-1][2:])
    assert len({len(own) for own in shares}) == 1
    joined = []  # the parts of each batch, dealt back
    for parts in zip(*shares, strict=True):
        order = sorted((place * ranks + rank, rank, place) for rank, part in enumerate(parts) for place in range(len(part.labels)))
        joined += [(parts[rank].images[place], parts[rank].indices[place], parts[rank].labels[place]) for _, rank, place in order]
    assert torch.equal(torch.stack([image for image, _, _ in joined]), torch.cat([b.images for b in whole]))
    assert torch.equal(torch.stack([index for _, index, _ in joined]), torch.cat([b.indices for b in whole]))
    assert torch.equal(torch.stack([label for _, _, label in joined]), torch.cat([b.labels for b in whole]))


def test_ranks_never_get_an_empty_batch_or_one_that_batch_norm_cannot_take() -> None:
    for count in range(16, 33):
        shares = [list(Loader(pixels(count), PREPROCESS, batch_size=8, shuffle=True, rank=rank, ranks=3).epoch(0)) for rank in range(3)]
        assert len({len(own) for own in shares}) == 1
        assert min(len(batch.labels) for own in shares for batch in own) >= 2
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Loader(pixels(9), PREPROCESS, batch_size=8, rank=2, ranks=2)


def test_images_made_for_each_batch_are_shared_out_alike(tmp_path: Path, make_images) -> None:
    source = open_source(str(make_images(tmp_path, {"cat": 11, "dog": 12})), val_fraction=0)
    stream = open_stream(source, "train", Form(PREPROCESS), skip_bad=True)
    with torch.inference_mode():  # a model is judged on streams, too
        want = list(Loader(stream, PREPROCESS, batch_size=6, seed=5, shuffle=True).epoch(1))
        shares = [list(Loader(stream, PREPROCESS, batch_size=6, seed=5, shuffle=True, rank=r, ranks=2).epoch(1)) for r in range(2)]
        assert torch.equal(torch.cat([b.images for b in shares[0]]), torch.cat([b.images[::2] for b in want]))
        assert torch.equal(torch.cat([b.images for b in shares[1]]), torch.cat([b.images[1::2] for b in want]))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_judge_every_image_exactly_once(ranks: int) -> None:
    """No image stands in for another where they cannot be dealt out evenly, and with fewer images than ranks some have no batch."""
    for count in (1, 2, 3, 4, 7, 8, 9, 13, 21):
        shares = [list(Loader(pixels(count), PREPROCESS, batch_size=6, rank=rank, ranks=ranks).epoch(0)) for rank in range(ranks)]
        seen = [index for own in shares for batch in own for index in batch.indices.tolist()]
        assert sorted(seen) == list(range(count))
        assert sum(1 for own in shares if own) == min(ranks, count)


@pytest.mark.parametrize(("count", "size", "ranks"), [(50, 8, 1), (17, 8, 1), (50, 8, 3), (52, 10, 4), (31, 7, 2)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_know_how_many_images_the_whole_batch_has(count: int, size: int, ranks: int, *, shuffle: bool) -> None:
    shares = [
        list(Loader(pixels(count), PREPROCESS, batch_size=size, shuffle=shuffle, rank=rank, ranks=ranks).epoch(1)) for rank in range(ranks)
    ]
    for parts in zip(*shares, strict=True):
        assert {batch.total for batch in parts} == {sum(len(batch.labels) for batch in parts)}
    assert [b.total for b in Loader(pixels(count), PREPROCESS, batch_size=size, shuffle=shuffle, ranks=ranks).epoch(1, 2)] == [
        b.total for b in shares[0][2:]
    ]


def test_the_total_of_a_batch_that_lacks_images() -> None:
    batch = Batch(torch.zeros(4, 3, 6, 6), torch.arange(4), torch.arange(4))
    assert batch.total == 4
    assert batch.only([0, 2]).total == 2
    assert Batch(batch.images, batch.labels, batch.indices, total=9).only([1]).total == 6


def test_too_few_images_for_the_ranks() -> None:
    with pytest.raises(UsageError, match="3 images cannot be shared by 2 processes") as told:
        Loader(pixels(3), PREPROCESS, batch_size=8, shuffle=True, rank=0, ranks=2)
    assert told.value.path == "--gpus"
    Loader(pixels(3), PREPROCESS, batch_size=8, rank=0, ranks=2)  # to judge them, there is no least number
    assert [len(batch.labels) for batch in Loader(pixels(4), PREPROCESS, batch_size=8, shuffle=True, ranks=2).epoch(0)] == [2]
    assert Loader(pixels(1), PREPROCESS, batch_size=8, shuffle=True).count == 1


# Balanced epochs.


def uneven(counts: tuple[int, ...]) -> Pixels:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.randint(0, 256, (len(labels), 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Pixels(images, labels, tuple(Sample(f"{i}.png", int(label)) for i, label in enumerate(labels)))


def balanced(held: Pixels | StreamPixels, batch_size: int = 8, **options: object) -> Loader:
    return Loader(held, PREPROCESS, **{"batch_size": batch_size, "seed": 1, "shuffle": True, "balanced": True} | options)  # type: ignore[arg-type]


def test_balanced_batches_show_each_class_equally_often_with_its_images() -> None:
    held = uneven((40, 0, 7, 3))
    data = balanced(held)
    assert data.count == 50
    whole = list(data.epoch(2))
    assert len(whole) == len(data) == 7
    for batch in whole:
        assert torch.equal(batch.images, PREPROCESS.normalise(held.images[batch.indices]))
        assert torch.equal(batch.labels, held.labels[batch.indices])
    counts = torch.cat([b.labels for b in whole]).bincount(minlength=4).tolist()
    assert counts[1] == 0
    assert sorted(counts)[1:] == [16, 17, 17]
    assert equal(list(balanced(held).epoch(2, 3)), whole[3:])
    assert not equal(list(balanced(held).epoch(3)), whole)
    shares = [list(balanced(held, rank=rank, ranks=2).epoch(2)) for rank in range(2)]
    for rank, share in enumerate(shares):
        assert torch.equal(torch.cat([batch.indices for batch in share]), torch.cat([batch.indices[rank::2] for batch in whole]))
    with pytest.raises(ValueError, match="shuffled"):
        balanced(held, shuffle=False)


def test_an_image_that_comes_up_again_is_varied_anew(tmp_path: Path, make_images) -> None:
    """In memory, and where threads cut boxes out of what they read, alike for any size of batches."""
    augment = Augment(flip=True, shift=2)
    held = uneven((60, 4))
    seen: dict[int, set[bytes]] = {}
    for batch in balanced(held, augment=augment).epoch(0):
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            seen.setdefault(index, set()).add(image.numpy().tobytes())
    assert all(len(seen[index]) > 4 for index in range(60, 64))  # each eight times, of 50 possible views

    source = open_source(str(make_images(tmp_path, {"cat": 13, "dog": 2}, size=(40, 30))), val_fraction=0)
    stream = open_stream(source, "train", Form(PREPROCESS, whole=True), skip_bad=True)
    asked: list[tuple[int, bytes]] = []
    crop = stream._crop
    stream._crop = lambda opened, indices, out, boxes: crop(  # type: ignore[method-assign]
        opened, indices, out, lambda i, s: (asked.extend(zip(i.tolist(), map(bytes, found := boxes(i, s)), strict=True)), found)[1]
    )
    list(balanced(stream, 5, augment=Augment(flip=False, crop_scale=0.1), threads=1).epoch(0))
    assert len(asked) == len(set(asked)) == 15
    first = set(asked)
    asked.clear()
    list(balanced(stream, 15, augment=Augment(flip=False, crop_scale=0.1), threads=3).epoch(0))
    assert set(asked) == first


# Stalls.


class Hanging:
    """Pixels that take for ever to read one image."""

    def __init__(self, count: int, hangs_at: int) -> None:
        self.held, self.hangs_at, self.ends = pixels(count), hangs_at, threading.Event()
        self.form, self.labels, self.samples, self.bad = self.held.form, self.held.labels, self.held.samples, ()

    def __len__(self) -> int:
        return len(self.held)

    def fill(self, indices: np.ndarray, out: torch.Tensor, boxes: object) -> list[int]:
        if self.hangs_at in indices:
            self.ends.wait(20)
        return self.held.fill(indices, out, None)


def test_reading_that_stalls_is_an_error_that_names_the_image() -> None:
    held = Hanging(64, hangs_at=42)
    try:
        seen = 0
        began = time.monotonic()
        with pytest.raises(Stalled, match=r"reading images stalls: 40\.png takes longer than 0\.3 s") as told:
            for batch in Loader(held, PREPROCESS, batch_size=16, threads=2, stall=0.3).epoch(0):  # type: ignore[arg-type]
                seen += len(batch.labels)
        assert (seen, told.value.code, told.value.path) == (32, 1, "40.png")
        assert "--stall-timeout" in told.value.hint
        assert 0.3 <= time.monotonic() - began < 5  # nobody waits for the thread that hangs
    finally:
        held.ends.set()
    assert len(list(Loader(held, PREPROCESS, batch_size=16, threads=2, stall=5).epoch(0))) == 4  # type: ignore[arg-type]


def test_a_signal_interrupts_the_waiting() -> None:
    held = Hanging(16, hangs_at=3)

    def interrupt(*_: object) -> None:
        raise InterruptedError("a signal")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(InterruptedError):
            list(Loader(held, PREPROCESS, batch_size=16, threads=1).epoch(0))  # type: ignore[arg-type]
        assert time.monotonic() - began < 8
    finally:
        signal.signal(signal.SIGALRM, before)
        held.ends.set()


def test_an_error_of_a_task_is_not_taken_for_a_stall() -> None:
    held = Hanging(16, hangs_at=-1)

    def fill(*_: object) -> list[int]:
        raise TimeoutError("the network share")

    held.fill = fill  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="the network share"):
        list(Loader(held, PREPROCESS, batch_size=16, threads=1, stall=5).epoch(0))  # type: ignore[arg-type]


def test_results_in_time() -> None:
    from concurrent.futures import Future

    task: Future[int] = Future()
    with pytest.raises(TimeoutError):
        finish_by(task, time.monotonic() + 0.05)
    threading.Timer(0.05, task.set_result, [7]).start()
    assert finish_by(task, None) == 7
    assert finish_by(task, time.monotonic() - 1) == 7  # what is done is never late


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = Augment(flip=True, shift=2)
    want = list(loader(augment=augment).epoch(1))
    for share in (0.5, 0.0):  # pixels on the GPU, and moved batch by batch
        monkeypatch.setattr("cnncli.data.loader.GPU_SHARE", share)
        data = Loader(pixels(50), PREPROCESS, batch_size=8, seed=1, augment=augment, shuffle=True, device=torch.device("cuda"))
        for got, cpu in zip(data.epoch(1), want, strict=True):
            assert got.images.is_cuda
            torch.testing.assert_close(got.images.cpu(), cpu.images)
            assert torch.equal(got.labels.cpu(), cpu.labels)
            assert torch.equal(got.indices, cpu.indices)
