"""What happens to a class when a part of the image is covered: the sliding grey square of Zeiler and Fergus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnncli.errors import UsageError
from cnncli.visualize.backprop import check_finite


@dataclass(frozen=True)
class Occluded:
    """Of one image. probabilities: [h, w], of its class with the square at each place. predicted: int64 [h, w], the best class there.

    tops, lefts: where the squares lie. number: the class. whole: its probability with nothing covered.
    """

    probabilities: Tensor
    predicted: Tensor
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    number: int
    whole: float


@torch.inference_mode()
def occlusion(
    model: nn.Module,
    image: Tensor,
    *,
    size: int,
    stride: int,
    number: int | None = None,
    grey: Tensor | None = None,
    batch: int = 32,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Occluded:
    """Cover an image [C, H, W] with a square of `size` pixels at every `stride`-th place (Zeiler and Fergus 2013, section 4.2, figure 7).

    number: the class; None for the best of the uncovered image. grey: [C], the square's colour, normalised; by default the middle grey of
    images from -1 to 1, which is 0. Squares lie within the image; the last ones at its far edges. UsageError for a square larger than it.
    """
    channels, height, width = image.shape
    if not 1 <= size <= min(height, width):
        raise UsageError(f"--size {size}: the image has {height} x {width} pixels", f"1 to {min(height, width)}", path="--size")
    colour = torch.zeros(channels, device=image.device, dtype=image.dtype) if grey is None else grey.to(image)
    was = model.training
    model.eval()
    try:
        scores = model(image[None])
        check_finite(scores)
        whole = scores.softmax(1)[0]
        own = int(whole.argmax()) if number is None else number
        tops, lefts = _places(height, size, stride), _places(width, size, stride)
        places = [(top, left) for top in tops for left in lefts]
        found: list[Tensor] = []
        for first in range(0, len(places), batch):
            part = places[first : first + batch]
            covered = image.repeat(len(part), 1, 1, 1)
            for row, (top, left) in enumerate(part):
                covered[row, :, top : top + size, left : left + size] = colour[:, None, None]
            found.append(model(covered).softmax(1))
            on_progress(min(first + batch, len(places)), len(places))
    finally:
        model.train(was)
    every = torch.cat(found)
    shape = len(tops), len(lefts)
    return Occluded(every[:, own].view(shape), every.argmax(1).view(shape), tops, lefts, own, float(whole[own]))


def _places(length: int, size: int, stride: int) -> tuple[int, ...]:
    """Where squares begin along one side; the last one ends with the image."""
    last = length - size
    found = [*range(0, last + 1, stride)]
    return tuple(found if found[-1] == last else [*found, last])


def spread(found: Occluded, height: int, width: int, size: int) -> Tensor:
    """[height, width]: the mean, over the squares that cover a pixel, of how much the probability falls; 0 where none does."""
    total = torch.zeros(height, width)
    count = torch.zeros(height, width)
    for row, top in enumerate(found.tops):
        for column, left in enumerate(found.lefts):
            part = (slice(top, top + size), slice(left, left + size))
            total[part] += found.whole - float(found.probabilities[row, column])
            count[part] += 1
    return total / count.clamp(min=1)
