"""Augmentation of whole batches, on the CPU or the GPU alike: what happens to each sample is drawn first, and then applied.

What is drawn is keyed by (seed, epoch, index). The files of `augmenting` say how each part is drawn and computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.augmenting.crops import random_boxes
from cnncli.data.augmenting.erasing import erase, noise_places, random_rectangles
from cnncli.data.augmenting.mixing import Mixed, draw_blend, mix
from cnncli.data.augmenting.moves import move
from cnncli.data.augmenting.operations import operate
from cnncli.data.augmenting.policies import Layers, colour_jitter, joined, rand_augment, trivial_augment
from cnncli.data.keyed import FLIP, SHIFT_X, SHIFT_Y, keyed_integers
from cnncli.errors import UsageError

MOST_LOOKED_AT = 1000  # images whose borders tell the background of all


@dataclass(frozen=True, eq=False)
class Drawn:
    """What happens to each of N samples, apart from crops and mixing. `drawn[first:last]` is a part; `drawn.to(device)` goes with a batch.

    moves: int64 [N, 3] of (shift down, shift right, flipped).
    layers: operations and their values, on the CPU wherever the rest is; None for none.
    rectangles: float32 [N, 4] of (top, left, height, width) as shares, zeros where nothing is erased; noise: int64 [N]. None for none.
    """

    moves: torch.Tensor
    layers: Layers | None = None
    rectangles: torch.Tensor | None = None
    noise: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.moves)

    def __getitem__(self, part: slice | torch.Tensor) -> Drawn:
        """A slice of the samples, or those that an int64 tensor on the CPU names."""
        on_cpu = part.numpy() if isinstance(part, torch.Tensor) else part
        layers = Layers(self.layers.operations[on_cpu], self.layers.values[on_cpu]) if self.layers else None
        return Drawn(
            self.moves[part],
            layers,
            None if self.rectangles is None else self.rectangles[part],
            None if self.noise is None else self.noise[part],
        )

    def to(self, device: torch.device | str) -> Drawn:
        """What the device computes with, moved there."""
        return Drawn(
            self.moves.to(device),
            self.layers,
            None if self.rectangles is None else self.rectangles.to(device),
            None if self.noise is None else self.noise.to(device),
        )


@dataclass(frozen=True)
class Augment:
    """What is varied about a training image, in this order.

    crop_scale: see a random part of the original image, of at least this share of its area; 1 is off. Whoever reads images cuts it out.
    shift: move by up to this many pixels, each of -shift..shift equally likely, down and to the right independently.
    flip: mirror left-right with probability 1/2.
    alternate_flip: mirror in every second epoch instead, which of them by the image's index: two epochs in a row show both sides of each
        image (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.6). Mirrors without `flip`, too.
    reflect: what a shift uncovers is the image mirrored at its border, which itself is not repeated, instead of `fill`.
    auto_augment: "trivial" (TrivialAugment) or "rand" (RandAugment: rand_ops operations at strength rand_magnitude, 0..30), or "off".
    jitter, hue: brightness, contrast and saturation by factors of 1 - jitter..1 + jitter, the hue by -hue..hue turns, in random order.
    erase: the probability that a rectangle becomes noise.
    mixup, cutmix: the alpha of each, 0 being off; they come after normalisation.

    fill: what a shift or a turn uncovers, one value in 0..255 per channel; empty means 0. `usual_border` finds the images' background, so
        that a digit moves over black and a product over white; on photos it is a middle grey, the zero of He et al. 2015, section 4.2,
        after normalisation. Reflection instead repeats strokes: LeNet-5 on the digits tested 0.8 points worse with it (mean of 4 seeds).
    """

    flip: bool = True
    shift: int = 0
    fill: tuple[int, ...] = ()
    crop_scale: float = 1.0
    auto_augment: str = "off"
    rand_ops: int = 2
    rand_magnitude: int = 9
    jitter: float = 0.0
    hue: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    alternate_flip: bool = False
    reflect: bool = False

    @property
    def flips(self) -> bool:
        """Whether images are mirrored, by either rule."""
        return self.flip or self.alternate_flip

    @property
    def crops(self) -> bool:
        """Whether `boxes` should be cut out of the originals."""
        return self.crop_scale < 1

    @property
    def mixes(self) -> bool:
        """Whether `mix` does anything."""
        return self.mixup > 0 or self.cutmix > 0

    def boxes(self, seed: int, epoch: int, indices: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The part of each original that is seen: float32 [N, 4] of (top, left, height, width) as shares of its height and width.

        indices: int64 [N]. sizes: int [N, 2] of (height, width) of the upright originals. Torchvision's RandomResizedCrop.
        """
        return random_boxes(seed, epoch, indices, sizes, self.crop_scale)

    def draw(self, seed: int, epoch: int, indices: npt.NDArray[np.int64]) -> Drawn:
        """What else happens to each sample, keyed by (seed, epoch, its index), int64 [N]."""
        moves = np.zeros((len(indices), 3), dtype=np.int64)
        if self.shift:
            moves[:, 0] = keyed_integers(seed, epoch, indices, SHIFT_Y, 2 * self.shift + 1) - self.shift
            moves[:, 1] = keyed_integers(seed, epoch, indices, SHIFT_X, 2 * self.shift + 1) - self.shift
        if self.alternate_flip:
            moves[:, 2] = (keyed_integers(seed, 0, indices, FLIP, 2) + epoch) % 2
        elif self.flip:
            moves[:, 2] = keyed_integers(seed, epoch, indices, FLIP, 2)
        layers = []
        if self.auto_augment == "trivial":
            layers.append(trivial_augment(seed, epoch, indices))
        elif self.auto_augment == "rand":
            layers.append(rand_augment(seed, epoch, indices, layers=self.rand_ops, magnitude=self.rand_magnitude))
        if self.jitter or self.hue:
            layers.append(colour_jitter(seed, epoch, indices, strength=self.jitter, turn=self.hue))
        drawn = torch.from_numpy(moves), joined(layers)
        if not self.erase:
            return Drawn(*drawn)
        rectangles = random_rectangles(seed, epoch, indices, self.erase)
        return Drawn(*drawn, torch.from_numpy(rectangles), torch.from_numpy(noise_places(seed, epoch, indices)))

    def apply(self, batch: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        """Do what was drawn: uint8 [B, C, H, W] and B drawn samples on the same device -> the same shape.

        The batch itself is never written to, and returned where nothing is to be done.
        UsageError when the shift is not below the image's size, or when colours should be varied where there are neither 1 nor 3 channels.
        """
        channels, height, width = batch.shape[1:]
        if self.shift >= min(height, width):
            raise UsageError(f"a shift of {self.shift} pixels is too much for images of {height}x{width}", "use a smaller --shift")
        if self.shift or self.flips:
            batch = move(batch, drawn.moves, self.shift, self.fill, reflect=self.reflect)
        if drawn.layers is not None:
            if channels not in (1, 3):
                raise UsageError(f"images of {channels} channels have no colours to vary", "leave out --auto-augment, --jitter and --hue")
            for operations, values in zip(drawn.layers.operations.T, drawn.layers.values.T, strict=True):
                batch = operate(batch, operations, values, self.fill)
        if drawn.rectangles is not None and drawn.noise is not None:
            batch = erase(batch, drawn.rectangles, drawn.noise)
        return batch

    def mix(
        self, images: torch.Tensor, labels: torch.Tensor, seed: int, epoch: int, indices: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, Mixed | None]:
        """Mixup and CutMix: normalised float32 [B, C, H, W] and labels int64 [B] -> a new batch and its second labels.

        When both are off, the same images and None. How much is keyed by (seed, epoch, index), int64 [B] on the CPU; with whom
        is the batch's affair: the sample before it.
        """
        if not self.mixes:
            return images, None
        height, width = images.shape[2:]
        blend = draw_blend(seed, epoch, indices, mixup=self.mixup, cutmix=self.cutmix, height=height, width=width)
        return mix(images, labels, blend)


def usual_border(images: torch.Tensor) -> tuple[int, ...]:
    """The median of each channel over the border pixels of uint8 [N, C, H, W], from at most MOST_LOOKED_AT images: C values."""
    looked_at = images[:: max(1, len(images) // MOST_LOOKED_AT)]
    sides = (looked_at[:, :, 0], looked_at[:, :, -1], looked_at[:, :, :, 0], looked_at[:, :, :, -1])
    return tuple(int(value) for value in torch.cat(sides, dim=2).transpose(0, 1).flatten(1).median(dim=1).values)
