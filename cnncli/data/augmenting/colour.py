"""Operations on colours: uint8 [N, C, H, W] and float32 [N, 2 or more], a row of parameters a sample -> uint8 [N, C, H, W].

C is 1 (grey) or 3 (red, green, blue). Results equal torchvision's on one uint8 image to the bit, except `hue`: within one level.
Sums of products are made by addcmul, which rounds once wherever a pixel lies; add with alpha, which torchvision uses, rounds the last
pixels of an image twice on some CPUs if their number is no multiple of 16, so that a result would change with the place in the batch.
A blend x' = f x + (1 - f) y, f being the parameters' first column and 1 - f the second, is cut to 0..255 and then to a whole number.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from cnncli.data.augmenting.selecting import select

LEVELS = 256 - 1e-3  # 1.0 becomes 255, and every level has an equal share of 0..1


def brightness(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Blend with black: f = 0 is black, 1 the image, 2 twice as bright."""
    return images.mul(_column(parameters, 0)).clamp_(0, 255).to(torch.uint8)


def color(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Blend with the grey image: f = 0 is grey, 1 the image, 2 twice as colourful. A grey image stays what it is."""
    return images if images.shape[1] == 1 else _blend(images, _grey(images), parameters)


def contrast(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of the grey image: f = 0 is flat, 1 the image, 2 twice the contrast."""
    # A row of whole numbers sums up exactly in float32, all rows in float64: neither the size of the group nor the device changes the mean.
    sums = _grey(images).sum(dim=3, keepdim=True).sum(dim=2, keepdim=True, dtype=_exact(images.device))
    return _blend(images, sums.div_(images.shape[2] * images.shape[3]).to(torch.float32), parameters)


def sharpness(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Blend with the smoothed image: f = 0 is smooth, 1 the image, 2 sharpened.

    Smoothed: the mean of 3x3 pixels of which the middle one counts five times, rounded. The border stays, and so does an image that has
    nothing else.
    """
    if min(images.shape[2:]) <= 2:
        return images
    result = images.to(torch.float32)
    middle = result[:, :, 1:-1, 1:-1]
    rows = result[:, :, :-2] + result[:, :, 1:-1] + result[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle  # at most 13 * 255: exact
    smooth = sums.div_(13).round_()  # a 13th is never half way between two whole numbers
    middle.copy_(torch.addcmul(middle, smooth.sub_(middle), _column(parameters, 1)))
    return result.clamp_(0, 255).to(torch.uint8)


def posterize(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Keep the highest bits of each value. The parameters' first column is the mask of these bits, 0..255."""
    return images & _column(parameters, 0).to(torch.uint8)


def solarize(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Invert every value that is at least the parameters' first column."""
    return (images >= _column(parameters, 0)).to(torch.uint8).mul_(255).bitwise_xor_(images)


def autocontrast(images: torch.Tensor, _parameters: torch.Tensor) -> torch.Tensor:
    """Stretch each channel so that its least value becomes 0 and its greatest 255; a constant channel stays what it is."""
    flat = images.flatten(2)
    least, greatest = (value[..., None, None].to(torch.float32) for value in flat.aminmax(dim=2))
    constant = least == greatest
    scale = (greatest - least).mul_(1 / 255).masked_fill_(constant, 1)
    return images.sub(least.masked_fill_(constant, 0)).div_(scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: torch.Tensor, _parameters: torch.Tensor) -> torch.Tensor:
    """Map each channel's values so that they are spread evenly over 0..255, by Pillow's rule.

    With n(v) pixels of value v, step = (pixels that have not the greatest value) // 255 and v -> (n(0) + ... + n(v-1) + step // 2) // step,
    cut to 255. A channel whose step is 0 stays what it is.
    """
    flat = images.flatten(2).to(torch.int64)
    histogram = torch.zeros((*flat.shape[:2], 256), dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, flat, torch.ones((), dtype=torch.int32, device=images.device).expand_as(flat))
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    of_greatest = histogram.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - of_greatest).div_(255, rounding_mode="floor")
    divisor = step.clamp(min=1)
    table = (below + divisor // 2).div_(divisor, rounding_mode="floor").clamp_(max=255).to(torch.uint8)
    spread = table.gather(2, flat).view(images.shape)
    return select(step[..., None] > 0, spread, images)


def hue(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Turn the colour circle by the parameters' first column, -0.5..0.5 of a full turn. A grey image stays what it is.

    Hue h, saturation s and value v as in Smith 1978; back by channel = v - v s max(0, min(k, 4 - k, 1)) with k = (n + 6 h) mod 6 and
    n = 5, 3, 1 for red, green, blue.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.to(torch.float32).div_(255).unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = torch.where(chroma > 0, chroma, 1)
    sextant = torch.where(
        value == red, (green - blue) / divisor, torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    )
    sextant = sextant + 6 * parameters[:, 0].view(-1, 1, 1)
    channels = []
    for n in (5, 3, 1):
        k = (sextant + n).remainder_(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, dim=1).clamp_(0, 1).mul_(LEVELS).to(torch.uint8)


def _blend(images: torch.Tensor, other: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(images.mul(_column(parameters, 0)), other, _column(parameters, 1)).clamp_(0, 255).to(torch.uint8)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R 601, cut to whole numbers: float32 [N, 1, H, W]."""
    if images.shape[1] == 1:
        return images.to(torch.float32)
    weights = _luma(images.device)
    red, green, blue = (images[:, c : c + 1].to(torch.float32) for c in range(3))
    return red.mul_(weights[0]).addcmul_(green, weights[1]).addcmul_(blue, weights[2]).floor_()


@lru_cache(maxsize=4)  # numbers sent to a GPU make it wait, so they are sent once
def _luma(device: torch.device) -> torch.Tensor:
    return torch.tensor([0.2989, 0.587, 0.114], device=device)


def _column(parameters: torch.Tensor, number: int) -> torch.Tensor:
    """One parameter a sample, to be spread over its pixels: [N, 1, 1, 1]."""
    return parameters[:, number].view(-1, 1, 1, 1)


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
