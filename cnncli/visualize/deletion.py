"""How well a method ranks pixels: what becomes of a class's probability as they are taken away, or put back, the most important first.

Petsiuk, Das and Saenko 2018, "RISE: randomized input sampling for explanation of black-box models", section 4.3. The area under the curve
is small for deletion, and large for insertion, where the pixels that a method calls important are those that the model decides by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnncli.visualize.maps import magnitude

PORTIONS = 32  # in which all pixels go
BLUR = 0.1  # standard deviation of the blur, as a share of the image's longer side
BATCH = 64  # images at a time


@dataclass(frozen=True)
class Curves:
    """shares: [S + 1], of the pixels that have been changed, 0 to 1. deletion, insertion: [N, S + 1], the probability then."""

    shares: Tensor
    deletion: Tensor
    insertion: Tensor

    @property
    def areas(self) -> tuple[Tensor, Tensor]:
        """(of deletion, of insertion), [N], 0 to 1: what is below the curves, by trapezoids."""
        return torch.trapezoid(self.deletion, self.shares), torch.trapezoid(self.insertion, self.shares)


def curves(
    model: nn.Module,
    images: Tensor,
    found: Tensor,
    classes: Tensor,
    *,
    portions: int = PORTIONS,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Curves:
    """Both curves of images [N, C, H, W] by a method's signals [N, C, H, W] or [N, 1, H, W], the largest magnitude over channels first.

    Deletion begins with the image and sets pixels to 0 as the model sees them, the mean colour of what it was trained on. Insertion begins
    with the image blurred until no shape is left, and puts its pixels back. Pixels of one value come in a random order, drawn with `seed`.
    classes: int64 [N]. on_progress: hears how many images are done.
    """
    ranks = order_of(magnitude(found), seed)
    pixels = ranks[0].numel()
    counts = torch.tensor([round(step * pixels / portions) for step in range(portions + 1)], device=images.device)
    away, back = [], []
    for row, (image, number) in enumerate(zip(images, classes.tolist(), strict=True)):
        away.append(_probabilities(model, image, torch.zeros_like(image), ranks[row], counts)[:, number])
        back.append(_probabilities(model, blurred(image), image, ranks[row], counts)[:, number])
        on_progress(row + 1)
    return Curves((counts / pixels).cpu(), torch.stack(away).cpu(), torch.stack(back).cpu())


def random_order(images: Tensor, seed: int) -> Tensor:
    """[N, 1, H, W], for `curves`: pixels in no order, what any method should be better than."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(images), 1, *images.shape[2:], generator=generator).to(images.device)


def order_of(maps: Tensor, seed: int) -> Tensor:
    """[N, H, W] -> int64 [N, H, W]: the place of each pixel, 0 for the largest value; equal ones are shuffled."""
    flat = maps.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view(maps.shape)


def blurred(image: Tensor) -> Tensor:
    """[C, H, W] behind a Gaussian blur whose standard deviation is BLUR of the longer side, the edges mirrored."""
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * max(image.shape[1:])
    found: np.ndarray = gaussian_filter(image.cpu().numpy(), (0, sigma, sigma), mode="reflect")
    return torch.from_numpy(found).to(image)


@torch.inference_mode()
def _probabilities(model: nn.Module, before: Tensor, behind: Tensor, ranks: Tensor, counts: Tensor) -> Tensor:
    """[S + 1, K]: the classes' probabilities where the first `counts` pixels are those of `behind`, the others those of `before`."""
    was = model.training
    model.eval()
    try:
        found = []
        for some in torch.split(counts, BATCH):
            changed = (ranks[None] < some[:, None, None])[:, None]
            found.append(model(torch.where(changed, behind, before)).softmax(1))
    finally:
        model.train(was)
    return torch.cat(found)
