"""Extraction in blocks: the same numbers however it is cut, and exactly the pixels for what is computed from pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.features import extract as extraction
from cnncli.features.extract import Block, OfModel, OfPixels, blocks_of, denormalised, extract
from cnncli.features.feature_set import Space

SIZE = (3, 4, 4)


def batches(count: int, batch_size: int = 4, **options: object) -> Loader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *SIZE), dtype=torch.uint8, generator=generator)
    samples = tuple(Sample(f"{number}.png", 0) for number in range(count))
    pixels = Pixels(images, torch.zeros(count, dtype=torch.int64), samples)
    how = Preprocess(*SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    return Loader(pixels, how, batch_size=batch_size, **options)  # type: ignore[arg-type]


def sums(images: Tensor) -> Tensor:
    """Five numbers of an image: its sum, and its first row."""
    return torch.cat([images.sum((1, 2, 3))[:, None], images[:, 0, 0]], 1)


MODEL = OfModel((Space("sum", "layer", (1,)), Space("row", "layer", (2, 2))), sums)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "BLOCK", 8)


def joined(blocks: list[tuple[int, Block]], name: str) -> np.ndarray:
    return np.concatenate([block.arrays[name] for _, block in blocks])


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 21])
def test_blocks_hold_every_image_once(count: int) -> None:
    found = list(extract([MODEL], batches(count)))
    assert [number for number, _ in found] == list(range(blocks_of(batches(count))))
    assert np.concatenate([block.rows for _, block in found]).tolist() == list(range(count))
    whole = torch.cat([sums(batch.images) for batch in batches(count, 3).epoch(0)])
    assert np.allclose(joined(found, "sum")[:, 0], whole[:, 0])
    assert joined(found, "row").shape == (count, 2, 2)
    assert np.array_equal(joined(found, "row").reshape(count, 4), whole[:, 1:].numpy())


@pytest.mark.parametrize("wanted", [[0], [2], [0, 2], [1, 2], [0, 1, 2], []])
def test_some_blocks_are_those_of_the_whole(wanted: list[int]) -> None:
    whole = dict(extract([MODEL], batches(21)))
    found = list(extract([MODEL], batches(21), wanted=wanted))
    assert [number for number, _ in found] == wanted
    for number, block in found:
        assert np.array_equal(block.rows, whole[number].rows)
        assert all(np.array_equal(block.arrays[name], whole[number].arrays[name]) for name in ("sum", "row"))


def test_images_that_cannot_be_read_are_missing() -> None:
    loader = batches(9)
    real = loader.epoch

    def epoch(number: int, start: int = 0):  # a generator of batches
        for batch in real(number, start):
            kept = [place for place, index in enumerate(batch.indices.tolist()) if index not in (0, 5)]
            yield batch.only(kept)

    loader.epoch = epoch  # type: ignore[method-assign]
    found = list(extract([MODEL], loader))
    assert np.concatenate([block.rows for _, block in found]).tolist() == [1, 2, 3, 4, 6, 7, 8]
    assert len(joined(found, "sum")) == 7


def test_numbers_of_16_bits() -> None:
    (_, block), *_ = extract([MODEL], batches(4), dtype="float16")
    assert block.arrays["sum"].dtype == np.float16


def test_pixels_come_back_exactly() -> None:
    """Whatever mean and deviation they were normalised with."""
    loader = batches(64, 64)
    assert isinstance(loader.pixels, Pixels)
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for mean, std in (((0.4, 0.5, 0.6), (0.2, 0.3, 0.1)), ((0.0, 1.0, 0.485), (1e-2, 1.0, 0.229))):
        how = Preprocess(3, 16, 16, mean=mean, std=std)
        assert torch.equal(denormalised(how, how.normalise(values)), values)
    seen: list[Tensor] = []

    def keep(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1).float()

    embedder = OfPixels(Space("pixels", "pixels", (48,)), loader.preprocess, keep)
    ((_, block),) = extract([MODEL, embedder], loader)
    assert torch.equal(torch.cat(seen), loader.pixels.images)
    assert set(block.arrays) == {"sum", "row", "pixels"}


def test_progress_counts_images() -> None:
    counted: list[int] = []
    list(extract([MODEL], batches(10), on_batch=counted.append))
    assert counted == [4, 4, 2]
