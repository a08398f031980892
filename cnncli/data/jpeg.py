"""One image file -> an array, JPEGs in two thirds of the time; pixels and errors are to the bit those of `cnncli.data.decode.decode`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnncli.data.decode import (
    JPEG_FORMATS,
    USUAL,
    Decoding,
    Located,
    Size,
    contents,
    decode,
    orientation,
    reduction,
    refuse_bomb,
)
from cnncli.data.modes import as_mode
from cnncli.data.unread import refuse_traps

Array = npt.NDArray[np.uint8]


def decode_array(
    image: Located, *, name: str = "", how: Decoding = USUAL, channels: Literal[1, 3] = 3, at_least: Size | None = None
) -> Array:
    """The pixels of an image as a contiguous uint8 array [height, width, channels], upright.

    image, name, how, at_least: as in `decode`. channels: 1 (grey) or 3 (red, green, blue), whatever the file holds.

    Grey and RGB JPEGs without any oddity, as what they are or as RGB, are decoded by simplejpeg straight into the array, once Pillow has
    read their header. Everything else, and every file that simplejpeg has the least remark about, goes through `decode`. BadImage as there.
    """
    if not isinstance(image, Image.Image):
        name = name or (str(image) if isinstance(image, Path) else "standard input")
        image = contents(image, name)
        if isinstance(image, bytes):
            found = _plain_jpeg(image, name, how, channels, at_least)
            if found is not None:
                return found
    return _array(decode(image, name=name, how=how, at_least=at_least), channels)


def _array(image: Image.Image, channels: int) -> Array:
    array = np.array(as_mode(image, "L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def _plain_jpeg(data: bytes, name: str, how: Decoding, channels: int, at_least: Size | None) -> Array | None:
    """None in every doubt."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as header:  # decodes nothing: 0.04 ms of 1.2 for a 500 x 333 photo
            # Grey of a colour file is Pillow's: libjpeg's is the Y of the file, and converting by Pillow from here takes no less time.
            if header.format not in JPEG_FORMATS or header.mode not in ({"L", "RGB"} if channels == 3 else {"L"}):
                return None
            refuse_bomb(header, name, how.max_pixels)
            refuse_traps(data)
            factor = reduction(header, how, at_least)
            size = -(-header.height // factor), -(-header.width // factor)
            turn = orientation(header) if how.exif else 1
            pixels = _decoded(data, size, header.mode, channels)
    except Exception:  # noqa: BLE001  whatever it is, `decode` meets it too, and says what it is
        return None
    return None if pixels is None else np.ascontiguousarray(_turned(pixels, turn))


def _decoded(data: bytes, size: Size, mode: str, channels: int) -> Array | None:
    from simplejpeg import decode_jpeg  # late: `cnn shape` and the like never need it

    pixels: Array = decode_jpeg(data, "GRAY" if mode == "L" else "RGB", min_height=size[0], min_width=size[1], strict=True)
    if pixels.shape[:2] != size:
        return None
    return pixels.repeat(3, axis=2) if mode == "L" and channels == 3 else pixels


def _turned(pixels: Array, turn: int) -> Array:
    """[H, W, C] upright, by its EXIF orientation (EXIF 2.32, tag 0x0112: where the stored row 0 and column 0 lie)."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if turn in {3, 4, 7, 8} else 1
    columns = -1 if turn in {2, 3, 6, 7} else 1
    return pixels[::rows, ::columns]
