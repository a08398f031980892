"""Pixels of every mode that Pillow opens -> 8-bit grey or colour; the table stands in cnncli.data.decode.

Beside the mode this looks at what a file says of its numbers (bits, sign, which end is white), where Pillow leaves that out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Colour = tuple[int, int, int]

# TIFF 6.0: tags, and values of SampleFormat.
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2


def stored_as(image: Image.Image) -> str:
    """How an opened image's pixels lie in its file, in Pillow's words ("RGB;16B"); "" when it is loaded, or does not say."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""


def mend_transparency(image: Image.Image, stored: str) -> npt.NDArray[np.bool_] | None:
    """Set right which colour of a PNG is transparent; before its pixels are loaded.

    PNG names a transparent sample in the file's own bits, and Pillow compares it with the 8-bit pixels that it makes of them: in grey
    of 1, 2 and 4 bits the number is scaled here. Colour of 16 bits loses its lower half: where it was equal in both is the result.
    """
    transparent = image.info.get("transparency")
    if image.format != "PNG" or transparent is None:
        return None
    steps = {"1": 255, "L;2": 85, "L;4": 17}.get(stored)
    if steps and isinstance(transparent, int):
        image.info["transparency"] = min(255, transparent * steps)
    if stored != "RGB;16B" or not isinstance(transparent, tuple):
        return None
    del image.info["transparency"]
    high, low = (_unpacked(image, half) for half in ("RGB;16B", "RGB;16L"))  # the same bytes, read as if the other one came first
    found: npt.NDArray[np.bool_] = (((high.astype(np.uint16) << 8) | low) == np.array(transparent, np.uint16)).all(axis=2)
    return found


def _unpacked(image: Any, rawmode: str) -> npt.NDArray[np.uint8]:
    image.fp.seek(0)
    with Image.open(image.fp, formats=("PNG",)) as again:
        again.tile = [(*tile[:3], rawmode) for tile in again.tile]  # type: ignore[misc]  # plain tuples do
        return np.asarray(again)


def grey_or_rgb(image: Image.Image, stored: str, background: Colour) -> Image.Image:
    """A loaded image as mode "L" or "RGB". stored: see `stored_as`. ValueError for numbers that are no colours."""
    if image.mode.startswith(("I", "F")) or (image.format == "TIFF" and image.mode == "L" and _tag(image, SAMPLE_FORMAT, 1) == SIGNED):
        return _deep_grey(image, stored, background)
    if image.has_transparency_data:
        return _over(image, background)
    return as_mode(image, "L" if image.mode in {"1", "L"} else "RGB")


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in that mode; itself when it is."""
    return image if image.mode == mode else image.convert(mode)


def _over(image: Image.Image, background: Colour) -> Image.Image:
    rgba = as_mode(image, "RGBA")  # a copy of 64 megapixels takes 256 MB
    flat = Image.new("RGB", image.size, background)
    flat.paste(rgba, mask=rgba.getchannel("A"))
    is_grey = image.mode in {"1", "L", "LA", "La"} and len(set(background)) == 1
    return flat.getchannel(0) if is_grey else flat


def cut_out(image: Image.Image, transparent: npt.NDArray[np.bool_], background: Colour) -> Image.Image:
    """`image`, mode "RGB", with the background where it is transparent."""
    return Image.fromarray(np.where(transparent[..., None], np.array(background, np.uint8), np.asarray(image)))


def _deep_grey(image: Image.Image, stored: str, background: Colour) -> Image.Image:
    """16-bit, 32-bit, signed and float grey, scaled by value range; Pillow's own convert("L") clips them to white."""
    values = _numbers(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("float image with values that are not finite")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.format == "PPM" and values.dtype.kind != "f"):  # Pillow brings deep PGM to 0..65535
        grey = (values >> (_tag(image, BITS, 16) - 8)).astype(np.uint8)
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        grey = np.rint(values * 255).astype(np.uint8)
    elif low >= 0 and high <= 255:
        grey = np.rint(values).astype(np.uint8)
    elif values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        grey = (values >> 8).astype(np.uint8)
    else:
        grey = np.rint((values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-300))).astype(np.uint8)
    if _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO and stored in {"I;16", "I;16N", "F;32F", "F;32BF"}:
        grey = 255 - grey  # 8-bit grey is turned by Pillow, these are not
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        behind = Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0))
        grey = np.where(values == transparent, np.uint8(behind), grey)  # type: ignore[arg-type]  # a pixel of mode L is one number
    return Image.fromarray(grey)


def _numbers(image: Image.Image) -> npt.NDArray[Any]:
    values = np.asarray(image)
    if image.format == "TIFF" and values.dtype == np.int32 and _tag(image, SAMPLE_FORMAT, 1) == UNSIGNED and _tag(image, BITS, 1) == 32:
        return values.view(np.uint32)  # Pillow has no unsigned mode of 32 bits
    return values.view(np.int8) if image.mode == "L" else values


def _tag(image: Image.Image, tag: int, otherwise: int) -> int:
    """The (first) value of a TIFF's tag; `otherwise` when it is absent, or this is no TIFF."""
    value = getattr(image, "tag_v2", {}).get(tag, otherwise)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else otherwise
