"""Moves in one gather against one image at a time, and everything together: the order, the keys, the parts of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnncli.data.augment import Augment, Drawn, usual_border
from cnncli.data.augmenting.erasing import erase
from cnncli.data.augmenting.moves import move
from cnncli.data.augmenting.operations import operate
from cnncli.errors import UsageError


def slow(image: np.ndarray, down: int, right: int, flipped: int, fill: tuple[int, ...] = (), *, reflect: bool = False) -> np.ndarray:
    """Pad, cut the window, mirror it: what pad-and-crop means, in numpy, for one [C, H, W] image."""
    _, height, width = image.shape
    pad = max(abs(down), abs(right))
    channels = zip(image, fill or (0,) * len(image), strict=True)
    how = [{"mode": "reflect"} if reflect else {"constant_values": value} for _, value in channels]
    padded = np.stack([np.pad(channel, pad, **way) for channel, way in zip(image, how, strict=True)])
    window = padded[:, pad - down : pad - down + height, pad - right : pad - right + width]
    return window[:, :, ::-1] if flipped else window


@pytest.mark.parametrize(("shape", "shift"), [((3, 32, 32), 4), ((1, 8, 8), 7), ((3, 5, 9), 2), ((2, 4, 3), 0)])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("border", ["black", "filled", "reflected"])
def test_equals_the_slow_twin(shape: tuple[int, int, int], shift: int, flip: bool, border: str) -> None:
    batch = torch.randint(0, 256, (60, *shape), dtype=torch.uint8)
    fill = () if border == "black" else (7, 250, 128)[: shape[0]]
    reflect = border == "reflected"
    augment = Augment(flip=flip, shift=shift, fill=fill, reflect=reflect)
    drawn = augment.draw(3, 5, np.arange(60))
    got = augment.apply(batch, drawn)
    want = np.stack([slow(image, *d, fill, reflect=reflect) for image, d in zip(batch.numpy(), drawn.moves.tolist(), strict=True)])
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.dtype == torch.uint8


def test_reflection_is_that_of_torch() -> None:
    batch = torch.randint(0, 256, (20, 3, 9, 7), dtype=torch.uint8)
    augment = Augment(flip=False, shift=6, reflect=True)
    drawn = augment.draw(0, 0, np.arange(20))
    padded = torch.nn.functional.pad(batch.float(), (6, 6, 6, 6), mode="reflect")
    want = [image[:, 6 - d : 15 - d, 6 - r : 13 - r] for image, (d, r, _) in zip(padded, drawn.moves.tolist(), strict=True)]
    assert torch.equal(augment.apply(batch, drawn), torch.stack(want).to(torch.uint8))
    assert len(drawn.moves[:, :2].unique()) > 9


def test_alternate_flips_show_both_sides_in_two_epochs() -> None:
    augment = Augment(flip=False, alternate_flip=True)
    index = np.arange(4000)
    flipped = [augment.draw(7, epoch, index).moves[:, 2] for epoch in range(4)]
    assert torch.equal(flipped[0], 1 - flipped[1])
    assert torch.equal(flipped[0], flipped[2])
    assert torch.equal(flipped[1], flipped[3])
    assert abs(flipped[0].float().mean() - 0.5) < 0.032  # 4 standard deviations
    assert torch.equal(flipped[0], Augment(flip=True).draw(7, 0, index).moves[:, 2])  # the first epoch is as ever, as in the paper
    assert not torch.equal(flipped[0], augment.draw(8, 0, index).moves[:, 2])
    assert torch.equal(augment.draw(7, 3, index[100:200]).moves[:, 2], flipped[3][100:200])
    images = torch.randint(0, 256, (50, 3, 4, 5), dtype=torch.uint8)
    sides = [augment.apply(images, augment.draw(7, epoch, np.arange(50))) for epoch in (0, 1)]
    assert torch.equal(sides[0], sides[1].flip(3))
    assert [Augment(flip=a, alternate_flip=b).flips for a in (False, True) for b in (False, True)] == [False, True, True, True]


EVERYTHING = Augment(
    flip=True, shift=3, fill=(9, 90, 200), auto_augment="rand", rand_ops=2, rand_magnitude=20, jitter=0.4, hue=0.1, erase=0.5
)


@pytest.mark.parametrize(
    "augment",
    [Augment(flip=True, shift=3), Augment(auto_augment="trivial"), Augment(flip=False, erase=0.7), EVERYTHING],
    ids=["moves", "trivial", "erase", "everything"],
)
def test_what_happens_to_a_sample_does_not_depend_on_its_company(augment: Augment) -> None:
    """Drawn alone or with others, applied in batches of any size and in any order: the same bits."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (100, 3, 17, 19), dtype=np.uint8))
    whole = augment.apply(images, augment.draw(1, 2, np.arange(100)))
    order = rng.permutation(100)
    drawn = augment.draw(1, 2, order)
    for size, last in ((1, 20), (7, 100), (64, 100)):
        parts = [augment.apply(images[order[i : i + size]], drawn[i : i + size]) for i in range(0, last, size)]
        assert torch.equal(torch.cat(parts)[:last], whole[order[:last]])
    assert torch.equal(augment.apply(images[order[5:9]], augment.draw(1, 2, order[5:9])), whole[order[5:9]])
    chosen = torch.tensor([3, 99, 4])
    assert torch.equal(augment.apply(images[order[chosen]], drawn[chosen]), whole[order[chosen]])
    for other in (augment.draw(1, 3, order), augment.draw(2, 2, order)):
        assert not torch.equal(augment.apply(images[order], other), whole[order])


def test_first_moves_then_operations_then_erasing() -> None:
    images = torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8)
    drawn = EVERYTHING.draw(0, 0, np.arange(50))
    want = move(images, drawn.moves, 3, EVERYTHING.fill)
    assert drawn.layers.operations.shape == (50, 2 + 4)
    for operations, values in zip(drawn.layers.operations.T, drawn.layers.values.T, strict=True):
        want = operate(want, operations, values, EVERYTHING.fill)
    assert torch.equal(EVERYTHING.apply(images, drawn), erase(want, drawn.rectangles, drawn.noise))


def test_drawn_is_cut_and_sent_as_a_whole() -> None:
    drawn = EVERYTHING.draw(0, 0, np.arange(10))
    assert len(drawn) == 10
    assert len(drawn[3:7]) == 4
    sent = drawn.to("meta")
    assert {tensor.device.type for tensor in (sent.moves, sent.rectangles, sent.noise)} == {"meta"}
    bare = Augment().draw(0, 0, np.arange(10))
    assert (bare.layers, bare.rectangles, bare.noise) == (None, None, None)
    assert isinstance(bare[:0], Drawn)
    assert len(bare[:0].to("cpu")) == 0


def test_whether_there_is_anything_to_crop_or_mix() -> None:
    assert not Augment().crops
    assert Augment(crop_scale=0.08).crops
    assert [Augment(mixup=a, cutmix=b).mixes for a, b in ((0.0, 0.0), (0.2, 0.0), (0.0, 1.0), (0.8, 1.0))] == [False, True, True, True]
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    unmixed, nothing = Augment().mix(images, labels, 0, 0, np.arange(4))
    assert unmixed is images
    assert nothing is None
    one, first = Augment(mixup=0.4).mix(images, labels, 0, 0, np.arange(4))
    two, second = Augment(mixup=0.4).mix(images, labels, 0, 1, np.arange(4))
    assert not torch.equal(one, two)
    assert first.labels.tolist() == second.labels.tolist() == [3, 0, 1, 2]


def test_boxes_use_the_scale() -> None:
    sizes = np.full((500, 2), 200)
    boxes = Augment(crop_scale=0.7).boxes(0, 0, np.arange(500), sizes)
    assert 0.69 < (boxes[:, 2] * boxes[:, 3]).min() < 0.72


def test_colours_of_neither_1_nor_3_channels_are_refused() -> None:
    augment = Augment(jitter=0.4)
    with pytest.raises(UsageError, match="images of 2 channels have no colours"):
        augment.apply(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), augment.draw(0, 0, np.arange(1)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_does_the_same() -> None:
    """Blends and turns may round another way there: a level, and single pixels between two others."""
    augment = Augment(**{**vars(EVERYTHING), "hue": 0.0, "mixup": 0.8, "cutmix": 1.0})
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    drawn = augment.draw(0, 0, np.arange(64))
    want, got = augment.apply(images, drawn), augment.apply(images.cuda(), drawn.to("cuda"))
    assert ((got.cpu().int() - want.int()).abs() > 1).float().mean() < 2e-3
    labels = torch.arange(64)
    floats = want.float()
    mixed, labelled = augment.mix(floats, labels, 0, 0, np.arange(64))
    on_gpu, labelled_there = augment.mix(floats.cuda(), labels.cuda(), 0, 0, np.arange(64))
    torch.testing.assert_close(on_gpu.cpu(), mixed)
    assert torch.equal(labelled_there.labels.cpu(), labelled.labels)
    assert torch.equal(labelled_there.weight.cpu(), labelled.weight)


def test_every_shift_and_flip_comes_up_equally_often() -> None:
    drawn = Augment(flip=True, shift=2).draw(0, 0, np.arange(50_000)).moves.numpy()
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
