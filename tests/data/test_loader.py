"""Batches depend on (seed, epoch) alone; an epoch resumed anywhere goes on as it would have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnncli.data.augment import Augment
from cnncli.data.form import Form
from cnncli.data.loader import Batch, Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, open_source
from cnncli.data.stream import open_stream

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
@pytest.mark.parametrize(("count", "size", "ranks"), [(50, 8, 2), (50, 8, 3), (48, 8, 4), (52, 10, 2), (8, 8, 8), (64, 7, 3)])
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
