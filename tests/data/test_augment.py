"""One gather for a batch against one image at a time, moved pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnncli.data.augment import Augment, usual_border
from cnncli.errors import UsageError


def slow(image: np.ndarray, down: int, right: int, flipped: int, fill: tuple[int, ...] = ()) -> np.ndarray:
    """Pad, cut the window, mirror it: what pad-and-crop means, in numpy, for one [C, H, W] image."""
    _, height, width = image.shape
    pad = max(abs(down), abs(right))
    channels = zip(image, fill or (0,) * len(image), strict=True)
    padded = np.stack([np.pad(channel, pad, constant_values=value) for channel, value in channels])
    window = padded[:, pad - down : pad - down + height, pad - right : pad - right + width]
    return window[:, :, ::-1] if flipped else window


@pytest.mark.parametrize(("shape", "shift"), [((3, 32, 32), 4), ((1, 8, 8), 7), ((3, 5, 9), 2), ((2, 4, 3), 0)])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("filled", [True, False])
def test_equals_the_slow_twin(shape: tuple[int, int, int], shift: int, flip: bool, filled: bool) -> None:
    batch = torch.randint(0, 256, (60, *shape), dtype=torch.uint8)
    fill = (7, 250, 128)[: shape[0]] if filled else ()
    augment = Augment(flip=flip, shift=shift, fill=fill)
    drawn = augment.draw(3, 5, np.arange(60))
    got = augment.apply(batch, drawn)
    want = np.stack([slow(image, *d, fill) for image, d in zip(batch.numpy(), drawn.tolist(), strict=True)])
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.dtype == torch.uint8


def test_what_happens_to_a_sample_does_not_depend_on_its_company() -> None:
    augment, indices = Augment(flip=True, shift=3), np.random.default_rng(0).permutation(500)
    whole = augment.draw(1, 2, indices)
    for size in (1, 7, 64):
        parts = [augment.draw(1, 2, indices[i : i + size]) for i in range(0, 500, size)]
        assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(augment.draw(1, 3, indices), whole)
    assert not torch.equal(augment.draw(2, 2, indices), whole)


def test_every_shift_and_flip_comes_up_equally_often() -> None:
    drawn = Augment(flip=True, shift=2).draw(0, 0, np.arange(50_000)).numpy()
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 5 * 5 * 2
    assert abs(counts - 1000).max() < 160  # 5 standard deviations


def test_the_usual_border_is_the_background_not_what_lies_on_it() -> None:
    images = torch.full((20, 3, 9, 9), 255, dtype=torch.uint8)
    images[:, :, 2:7, 2:7] = 0
    images[:5, 1, 0, :] = 9
    images[:, 2] = 40
    assert usual_border(images) == (255, 255, 40)
    assert usual_border(images[:1]) == (255, 255, 40)


def test_nothing_asked_nothing_done() -> None:
    batch = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    augment = Augment(flip=False, shift=0)
    assert torch.equal(augment.apply(batch, augment.draw(0, 0, np.arange(4))), batch)


def test_a_shift_as_large_as_the_image_is_refused() -> None:
    augment = Augment(shift=8)
    with pytest.raises(UsageError, match="shift of 8 pixels is too much for images of 8x8"):
        augment.apply(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), augment.draw(0, 0, np.arange(1)))
