"""From an image of any size to what a network was trained on: size, crop, mean and std as one value that travels in the model file."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from PIL import Image, ImageColor

from cnncli.data.decode import MAX_PIXELS, Decoding
from cnncli.errors import InputError, UsageError, near_miss

if TYPE_CHECKING:
    import torch

Resize = Literal["crop", "stretch"]
Interpolation = Literal["bilinear", "bicubic"]

MAX_SIDE = 4096  # a model file may be hostile: one RGB image of this side is 50 MB, and no published network sees more
THIN = 16  # a resized image may be this many times the input; beyond, it is a strip of which little is kept
STD_FLOOR = 1 / 255  # one grey level; a constant channel has no spread to divide by
MEASURE_CHUNK = 256  # images at a time in `measure`: one channel of 256 x 224 x 224 as int32 is 51 MB

WHITE = (255, 255, 255)
SINCE_FORMAT_1 = {"background": list(WHITE), "exif": True}  # what the first model files do not say, since it could not be chosen

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """What happens to an image before the network sees it.

    channels: 1 (grey) or 3 (red, green, blue).
    height, width: size of the network's input in pixels.
    crop_fraction: share of the resized image's side that the central crop keeps, in (0, 1]; 0.875 is "resize 256, crop 224".
    resize: "crop" keeps the aspect ratio and cuts what sticks out; "stretch" squeezes the whole image into the size.
    interpolation: "bilinear" or "bicubic", both with antialiasing when the image gets smaller.
    mean, std: one number a channel, of pixel values in 0..1; the network sees (value - mean) / std. Empty means 0.5 each.
    background: (red, green, blue) behind transparent pixels, each 0..255. exif: whether images are turned as EXIF says.
    """

    channels: int
    height: int
    width: int
    crop_fraction: float = 1.0
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    background: tuple[int, int, int] = WHITE
    exif: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean) or (0.5,) * self.channels)
        object.__setattr__(self, "std", tuple(self.std) or (0.5,) * self.channels)
        for fine, what in (
            (self.channels in (1, 3), f"channels is {self.channels}, not 1 or 3"),
            (1 <= self.height <= MAX_SIDE, f"height is {self.height}, not 1..{MAX_SIDE}"),
            (1 <= self.width <= MAX_SIDE, f"width is {self.width}, not 1..{MAX_SIDE}"),
            (0.05 <= self.crop_fraction <= 1, f"crop_fraction is {self.crop_fraction}, not 0.05..1"),
            (self.resize in get_args(Resize), f"resize is {self.resize!r}, not crop or stretch"),
            (self.interpolation in get_args(Interpolation), f"interpolation is {self.interpolation!r}, not bilinear or bicubic"),
            (len(self.mean) == self.channels, f"mean has {len(self.mean)} values for {self.channels} channels"),
            (len(self.std) == self.channels, f"std has {len(self.std)} values for {self.channels} channels"),
            (all(-10 <= value <= 10 for value in self.mean), f"mean is {self.mean}, not within -10..10"),  # false for NaN too
            (all(1e-6 <= value <= 1e3 for value in self.std), f"std is {self.std}, not within 1e-6..1000"),
            (
                len(self.background) == 3 and all(value in range(256) for value in self.background),
                f"background is {self.background}, not three values of 0..255",
            ),
        ):
            if not fine:
                raise InputError(f"preprocessing: {what}")

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, obj: object) -> Preprocess:
        """The inverse of `to_json`. The object may be hostile: every field's type and range is checked. InputError."""
        if not isinstance(obj, dict):
            raise InputError("preprocessing: not a JSON object")
        names = {field.name for field in fields(cls)}
        obj = cast("dict[str, Any]", SINCE_FORMAT_1 | obj)
        if obj.keys() != names:
            odd = sorted(str(name)[:40] for name in obj.keys() ^ names)
            raise InputError(f"preprocessing: missing or unknown fields {', '.join(odd[:5])!r}")
        for name in ("channels", "height", "width"):
            if type(obj[name]) is not int:  # exactly: True is an int too
                raise InputError(f"preprocessing: {name} is not a whole number")
        if not _is_number(obj["crop_fraction"]):
            raise InputError("preprocessing: crop_fraction is not a number")
        for name in ("resize", "interpolation"):
            if not isinstance(obj[name], str) or len(obj[name]) > 20:
                raise InputError(f"preprocessing: {name} is not a known word")
        for name in ("mean", "std"):
            if not isinstance(obj[name], list) or len(obj[name]) not in (1, 3) or not all(map(_is_number, obj[name])):
                raise InputError(f"preprocessing: {name} is not a list of one number a channel")
        background = obj["background"]
        if not isinstance(background, list) or not all(type(value) is int for value in background):
            raise InputError("preprocessing: background is not a list of three whole numbers")
        if type(obj["exif"]) is not bool:
            raise InputError("preprocessing: exif is neither true nor false")
        values: dict[str, Any] = obj | {name: tuple(map(float, obj[name])) for name in ("mean", "std")} | {"background": tuple(background)}
        return cls(**values)

    def decoding(self, max_pixels: int = MAX_PIXELS) -> Decoding:
        """How images are decoded before anything else happens to them."""
        return Decoding(self.background, self.exif, max_pixels)

    def pixels(self, image: Image.Image) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """The image as uint8 [channels, height, width], from a Pillow image of mode "L" or "RGB" of any size.

        "crop": the image is resized so that it just covers (height, width) / crop_fraction, and the middle of that is cut out;
        to the bit what torchvision's Resize and CenterCrop give on Pillow images.
        """
        image = image.convert("L" if self.channels == 1 else "RGB")
        size, filter_ = (self.width, self.height), _FILTERS[self.interpolation]
        if self.resize == "stretch":
            image = image.resize(size, filter_)
        else:
            resized, (left, top) = self._resized_size(*image.size)
            right, bottom = left + self.width, top + self.height
            if resized[0] * resized[1] <= THIN * self.width * self.height:
                image = image.resize(resized, filter_).crop((left, top, right, bottom))
            else:  # a 1 x 20000 image would become gigabytes: compute only the cut, equal but for rounding
                x, y = image.width / resized[0], image.height / resized[1]
                image = image.resize(size, filter_, box=(left * x, top * y, min(right * x, image.width), min(bottom * y, image.height)))
        array = np.asarray(image)  # which may not be written to
        return np.array(array.transpose(2, 0, 1) if array.ndim == 3 else array[None], order="C")

    def _resized_size(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) that a width x height image is resized to before the crop, and the crop's (left, top) in it.

        Rounded like torchvision: the long side down, the corner to even.
        """
        want_height, want_width = round(self.height / self.crop_fraction), round(self.width / self.crop_fraction)
        if want_width * height >= want_height * width:  # the width is the tighter side
            resized = want_width, max(want_height, want_width * height // width)
        else:
            resized = max(want_width, want_height * width // height), want_height
        return resized, (round((resized[0] - self.width) / 2), round((resized[1] - self.height) / 2))

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """(batch / 255 - mean) / std: uint8 [N, channels, H, W] -> a new float32 tensor of the same shape, on the same device.

        Computed as batch * scale + shift in place on the one new tensor, the fastest of nine ways measured on a CPU.
        """
        import torch

        scale, shift = _scale_and_shift(self.mean, self.std, batch.device)
        return batch.to(torch.float32).mul_(scale).add_(shift)


def background_of(text: str) -> tuple[int, int, int]:
    """The colour that --background names: a word that Pillow knows, or #rrggbb. UsageError with an example for anything else."""
    word = text.strip().lower()
    if word in ImageColor.colormap or re.fullmatch(r"#[0-9a-f]{6}", word):
        return ImageColor.getrgb(word)[:3]
    close = near_miss(word, list(ImageColor.colormap))
    raise UsageError(
        f"--background {text!r} is no colour" + (f", {close}" if close else ""),
        "give a name or #rrggbb, for example --background black or --background #808080",
        path="--background",
    )


def measure(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 [N, C, H, W], for values in 0..1: (mean, std), C numbers each.

    Sums of whole numbers, so the result is exact whatever the number of images. std is at least one grey level (1/255).
    """
    import torch

    channels = images.shape[1]
    total, squares = [0] * channels, [0] * channels
    for first in range(0, len(images), MEASURE_CHUNK):
        for c, channel in enumerate(images[first : first + MEASURE_CHUNK].unbind(1)):
            total[c] += int(channel.sum(dtype=torch.int64))
            squares[c] += int(channel.to(torch.int32).square_().sum(dtype=torch.int64))
    count = max(1, images.numel() // channels)
    mean = tuple(t / count / 255 for t in total)
    std = tuple(max(STD_FLOOR, math.sqrt(count * q - t * t) / count / 255) for t, q in zip(total, squares, strict=True))
    return mean, std


@lru_cache(maxsize=16)  # numbers sent to a GPU make it wait, so they are sent once
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """1 / (255 std) and -mean / std, each [1, C, 1, 1]."""
    import torch

    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=device)
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
