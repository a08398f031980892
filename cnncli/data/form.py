"""The form in which a decoded image is kept, and what becomes of it when a batch is made.

Exactly what the network sees, for validation and for training that only flips and shifts; or the whole image, squeezed into a
size a little above the network's input, from which every epoch cuts another part. An image that is squeezed to another
aspect ratio is stretched back when it is cropped: the box is given in fractions of the original.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from cnncli.data.decode import MAX_PIXELS
from cnncli.data.jpeg import decode_array
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, Source

ROOM = 8 / 7  # 256 for an input of 224, the usual relation of resized image and crop (Krizhevsky et al. 2012, section 2)
# What is kept may be decoded at a reduced scale, but not below twice its size: after the antialiased resize that follows, ten photos
# differed by 44 dB (median of the peak signal-to-noise ratio; 37 dB at worst) from those that were decoded whole.
SCALED_FROM = 2

Image = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float32]  # (top, left, height, width), fractions of the image
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Form:
    """preprocess: what the network sees. whole: whether whole images are kept. max_pixels: see `Decoding`."""

    preprocess: Preprocess
    whole: bool = False
    max_pixels: int = MAX_PIXELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is kept of an image: [C, H, W] exactly, [H, W, C] whole."""
        p = self.preprocess
        return (round(p.height * ROOM), round(p.width * ROOM), p.channels) if self.whole else (p.channels, p.height, p.width)

    @property
    def bytes(self) -> int:
        """That one image takes."""
        return prod(self.shape)

    @property
    def key(self) -> str:
        """Equal for forms that keep the same pixels: mean and deviation do not change them."""
        pixels = replace(self.preprocess, mean=(), std=()).to_json()
        if self.whole:  # how a central crop would be taken does not matter
            pixels |= {"crop_fraction": 1.0, "resize": "stretch"}
        return json.dumps({"whole": self.whole, "max_pixels": self.max_pixels, "preprocess": pixels}, sort_keys=True)

    def decode(self, source: Source, sample: Sample) -> tuple[Image, Size]:
        """What is kept of a sample, and the size of the upright image. BadImage when it cannot be decoded."""
        if self.whole:
            height, width, _ = self.shape
            image, size = self.open(source, sample, at_least=(SCALED_FROM * height, SCALED_FROM * width))
            return resized(image, (height, width), self.preprocess.interpolation), size
        opened = source.read(sample, self.preprocess.decoding(self.max_pixels))
        return self.preprocess.pixels(opened), (opened.height, opened.width)

    def open(self, source: Source, sample: Sample, at_least: Size | None = None) -> tuple[Image, Size]:
        """The whole image [H, W, C] and its upright size; decoded at a reduced scale, but not below `at_least`, where that is given."""
        how = self.preprocess.decoding(self.max_pixels)
        located, name = source.find(sample)
        image = decode_array(located, name=name, how=how, channels=1 if self.preprocess.channels == 1 else 3, at_least=at_least)
        return image, (image.shape[0], image.shape[1])

    def crop(self, image: Image, box: Box) -> torch.Tensor:
        """The part of an image [H, W, C] inside the box, as the network's input [C, H, W]."""
        height, width, _ = image.shape
        rows, columns = max(1, round(float(box[2]) * height)), max(1, round(float(box[3]) * width))
        top, left = min(round(float(box[0]) * height), height - rows), min(round(float(box[1]) * width), width - columns)
        part = image[top : top + rows, left : left + columns]
        return _resized(part, (self.preprocess.height, self.preprocess.width), self.preprocess.interpolation)


def resized(image: Image, size: Size, interpolation: str) -> Image:
    """An image [H, W, C] of another size, antialiased, as an array of its own."""
    return np.ascontiguousarray(_resized(image, size, interpolation).permute(1, 2, 0).numpy())


def _resized(image: Image, size: Size, interpolation: str) -> torch.Tensor:
    """[C, *size] of [H, W, C]. Torch's kernel for bytes takes channels last, and a third of Pillow's time."""
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    if planes.shape[2:] == size:
        return planes[0]
    return functional.interpolate(planes, size, mode=interpolation, antialias=True, align_corners=False)[0]


def crops_on_device(images: torch.Tensor, boxes: torch.Tensor, size: Size) -> torch.Tensor:
    """All crops of a batch at once, for images that lie on a GPU: uint8 [B, H, W, C] and boxes [B, 4] -> uint8 [B, C, *size].

    Bilinear without antialiasing: from images kept at 8/7 of the input, no crop shrinks by more than that.
    """
    top, left, height, width = boxes.to(torch.float32).unbind(1)
    zero = torch.zeros_like(top)
    # From the output's -1..1 to the input's: x' = width * x + (2 left + width - 1).
    across = torch.stack([width, zero, 2 * left + width - 1], dim=1)
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), [len(images), 1, *size], align_corners=False)
    planes = images.permute(0, 3, 1, 2).to(torch.float32)
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False).round_().clamp_(0, 255).to(torch.uint8)
