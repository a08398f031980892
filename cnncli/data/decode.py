"""One image file -> pixels, or an error that names the file and says what is wrong with it.

How each kind of pixel becomes 8-bit grey ("L") or colour ("RGB"):

| in the file | becomes |
|---|---|
| 8-bit grey, RGB | itself |
| 1-bit | L, 0 and 255 |
| 16-bit grey | L, value >> 8 |
| 32-bit integer grey | L: values within 0..255 as they are, within 0..65535 >> 8, else stretched from least..greatest to 0..255 |
| float grey | L: values within 0..1 times 255, within 0..255 rounded, else stretched; not-a-number is refused |
| palette, CMYK (also Adobe's inverted), YCbCr, LAB | RGB |
| any of them with transparency | the same over the background, white unless another one is asked for |
| animation, several pages | the first frame |

EXIF orientation 2 to 8 is applied, unless it is asked not to be. Colour profiles are not.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnncli.errors import InputError, printable
from cnncli.sniff import HEAD_BYTES, IMAGE_KINDS, sniff, sniff_bytes, what_is_wrong

# Nothing that starts another program (EPS) or is rarely fuzzed is ever tried, whatever the file's name.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")  # MPO (several JPEGs in one) is opened as JPEG

MAX_PIXELS = 2**26  # 67 million, a 64-megapixel camera; RGBA over white then stays under 1 GB (three buffers of 4 bytes a pixel)
MAX_STREAM_BYTES = 2**28  # a stream (standard input) is held in memory: 256 MB

ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's remarks on odd files (warnings, log records) are not for the user: a file is good, or it is named with its reason.
# A filter set once is safe with threads; warnings.catch_warnings is not.
warnings.filterwarnings("ignore", module=r"PIL\..*")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_stderr_lock = threading.Lock()


class BadImage(InputError):
    """An image file that cannot be decoded.

    name: the file, as it was given.
    reason: what is wrong with it: "empty file", "truncated JPEG", "git-lfs pointer: run git lfs pull", ...
    """

    def __init__(self, name: str | os.PathLike[str], reason: str) -> None:
        self.name = os.fspath(name)
        self.reason = printable(reason)
        super().__init__(f"cannot read image {printable(self.name)}: {self.reason}", path=self.name)

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        return BadImage, (self.name, self.reason)


@dataclass(frozen=True)
class Decoding:
    """What can be chosen about decoding.

    background: (red, green, blue), each 0..255, on which transparent pixels are laid.
    exif: turn the image as its EXIF orientation says.
    max_pixels: width x height above which nothing is decoded (decompression bombs).
    """

    background: tuple[int, int, int] = (255, 255, 255)
    exif: bool = True
    max_pixels: int = MAX_PIXELS


USUAL = Decoding()

# Where an image is: a file, the bytes of one, a stream such as standard input, or pixels that some library has decoded already.
Located = Path | bytes | BinaryIO | Image.Image


def decode(image: Located, *, name: str = "", how: Decoding = USUAL) -> Image.Image:
    """The pixels of an image, as a Pillow image of mode "L" or "RGB", upright; see the table above.

    image: a stream is read to its end.
    name: what to call it in errors; a file's path by default.

    BadImage when anything at all is wrong with it.
    """
    if isinstance(image, Image.Image):
        return _decode_opened(image, name, how)
    if isinstance(image, Path):
        name = name or str(image)
        kind = sniff(image)
        if kind not in IMAGE_KINDS and kind != "unknown":
            raise BadImage(name, _not_an_image(kind))
        try:
            with image.open("rb") as stream:
                return _decode_stream(stream, name, how)
        except OSError as error:
            raise BadImage(name, error.strerror or "cannot be read") from error
    name = name or "standard input"
    data = image if isinstance(image, bytes) else _read_all(image, name)
    kind = sniff_bytes(data[:HEAD_BYTES])
    if kind not in IMAGE_KINDS and kind != "unknown":
        raise BadImage(name, _not_an_image(kind))
    return _decode_stream(io.BytesIO(data), name, how)


def _read_all(stream: BinaryIO, name: str) -> bytes:
    try:
        data = stream.read(MAX_STREAM_BYTES + 1)
    except OSError as error:
        raise BadImage(name, error.strerror or "cannot be read") from error
    if len(data) > MAX_STREAM_BYTES:
        raise BadImage(name, f"more than {MAX_STREAM_BYTES:,} bytes")
    return data


def _decode_opened(image: Image.Image, name: str, how: Decoding) -> Image.Image:
    try:
        _refuse_bomb(image, name, how.max_pixels)
        with _libtiff_silenced(image.format or ""):
            image.load()  # all of it: verify() passes about half of the files that a full decode finds broken
        return _upright(_to_grey_or_rgb(image, how.background), _orientation(image) if how.exif else 1)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(name, _reason(error, image.format or "")) from error


def _decode_stream(stream: BinaryIO, name: str, how: Decoding) -> Image.Image:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            return _decode_opened(image, name, how)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        stream.seek(0)
        kind = sniff_bytes(stream.read(HEAD_BYTES))
        reason = f"damaged {kind.upper()}: its header cannot be read" if kind in IMAGE_KINDS else "not an image"
        raise BadImage(name, reason) from error
    # Damaged files make Pillow raise OSError, ValueError, SyntaxError, struct.error, DecompressionBombError, MemoryError and more.
    # `except OSError` lets 1.1 % of 20,000 mutated files through, so nothing narrower than this is right.
    except Exception as error:
        raise BadImage(name, _reason(error, "")) from error


def _refuse_bomb(image: Image.Image, name: str, max_pixels: int) -> None:
    """Before anything is decoded: the size is in the header. Pillow's own limit of 179 million pixels stays in force above ours."""
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(name, f"{width} x {height} pixels, more than {max_pixels:,}: --max-pixels raises the limit")


def _not_an_image(kind: str) -> str:
    wrong = what_is_wrong(kind)
    return f"not an image but a {wrong}" if kind in {"text", "zip", "gzip", "tar", "archive", "pickle", "safetensors", "numpy"} else wrong


def _reason(error: Exception, form: str) -> str:
    told = str(error).strip().rstrip(".")
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels (decompression bomb)"
    if isinstance(error, MemoryError):
        return f"not enough memory to decode this {form or 'image'}"
    if isinstance(error, OSError) and error.strerror:  # the disk or the network share, not the file's content
        return error.strerror
    if "truncated" in told.lower() or isinstance(error, EOFError):
        return f"truncated {form or 'image'}"
    return f"damaged {form or 'image'}" + (f" ({told[:100]})" if told else "")


@contextmanager
def _libtiff_silenced(form: str) -> Iterator[None]:
    """While a TIFF is decoded, standard error goes nowhere: libtiff writes there from C, past Python.

    One TIFF at a time, since the descriptor belongs to the whole process.
    """
    if form != "TIFF":
        yield
        return
    with _stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error: nothing to protect
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Pillow has applied that of a TIFF already, and removed it, when the pixels are loaded."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  damaged metadata does not make the pixels bad; Pillow raises whatever its parser meets
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _to_grey_or_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _deep_grey(image, background)
    if image.has_transparency_data:
        return _over(image, background)
    if image.mode in {"1", "L"}:
        return image.convert("L")
    return image.convert("RGB")


def _over(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(rgba, mask=rgba.getchannel("A"))
    is_grey = image.mode in {"1", "L", "LA", "La"} and len(set(background)) == 1
    return flat.getchannel(0) if is_grey else flat


def _deep_grey(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """16-bit, 32-bit and float grey, scaled by value range; Pillow's own convert("L") clips them to white."""
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("float image with values that are not finite")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.format == "PPM" and values.dtype.kind != "f"):  # Pillow brings deep PGM to 0..65535
        grey = (values >> 8).astype(np.uint8)
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        grey = np.rint(values * 255).astype(np.uint8)
    elif low >= 0 and high <= 255:
        grey = np.rint(values).astype(np.uint8)
    elif values.dtype.kind == "i" and low >= 0 and high <= 65535:
        grey = (values >> 8).astype(np.uint8)
    else:
        grey = np.rint((values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-300))).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        behind = Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0))
        grey = np.where(values == transparent, np.uint8(behind), grey)  # type: ignore[arg-type]  # a pixel of mode L is one number
    return Image.fromarray(grey)
