"""One image file -> pixels, or an error that names the file and says what is wrong with it.

How each kind of pixel becomes 8-bit grey ("L") or colour ("RGB"):

| in the file | becomes |
|---|---|
| 8-bit grey, RGB | itself |
| 1-bit | L, 0 and 255 |
| 16-bit grey or RGB, 12-bit grey | L or RGB, the upper 8 bits |
| 8-bit signed, 32-bit integer grey | L: values within 0..255 as they are, within 0..65535 >> 8, else stretched to 0..255 |
| float grey | L: values within 0..1 times 255, within 0..255 rounded, else stretched; not-a-number is refused |
| palette, CMYK (also Adobe's inverted), YCbCr, LAB | RGB |
| any of them with transparency, premultiplied too | the same over the background, white unless another one is asked for |
| animation, several pages | the first frame |

EXIF orientation 2 to 8 is applied, unless it is asked not to be. Colour profiles are not: the numbers are taken as sRGB's.
Other kinds (TIFF of float colours, 12-bit JPEG, a camera's raw files) are refused by name, see cnncli.data.unread.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image, UnidentifiedImageError

from cnncli.data.modes import cut_out, grey_or_rgb, mend_transparency, stored_as
from cnncli.data.unread import Unread, refuse_raw, refuse_traps, why_unread
from cnncli.errors import STDERR_LOCK, InputError, printable
from cnncli.sniff import HEAD_BYTES, IMAGE_KINDS, kind_of_mode, sniff_bytes, what_is_wrong

T = TypeVar("T")
Size = tuple[int, int]

# Nothing that starts another program (EPS) or is rarely fuzzed is ever tried, whatever the file's name.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")  # MPO (several JPEGs in one) is opened as JPEG
JPEG_FORMATS = frozenset({"JPEG", "MPO"})

MAX_PIXELS = 2**26  # 67 million, a 64-megapixel camera; RGBA over white then stays under 1 GB (three buffers of 4 bytes a pixel)
MAX_HELD_BYTES = 2**26  # a file up to here is read at once; a larger one as it is decoded, several threads doing so at a time
MAX_STREAM_BYTES = 2**28  # a stream (standard input) and a JPEG are held in memory: 256 MB
MAX_HEADER_BYTES = 2**20  # of a file that is not opened, to say why

PAUSES = (0.1, 0.5)  # seconds before a file is asked for again; a server that fails over takes longer than anyone wants to wait per file
LASTING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
_WORDS = dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "no such file") | dict.fromkeys((errno.EACCES, errno.EPERM), "permission denied")

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


def decode(image: Located, *, name: str = "", how: Decoding = USUAL, at_least: Size | None = None) -> Image.Image:
    """The pixels of an image, as a Pillow image of mode "L" or "RGB", upright; see the table above.

    image: a stream is read to its end.
    name: what to call it in errors; a file's path by default.
    at_least: (height, width) that are enough: a JPEG may come smaller, by 2, 4 or 8, and then is decoded in a part of the time.

    BadImage when anything at all is wrong with it.
    """
    if isinstance(image, Image.Image):
        return _decode_opened(image, name, how)
    name = name or (str(image) if isinstance(image, Path) else "standard input")
    found = contents(image, name)
    if isinstance(found, Path):
        return _patiently(lambda: _decode_large(found, name, how), name)
    try:
        refuse_traps(found)
    except Unread as error:
        raise BadImage(name, str(error)) from error
    return _decode_stream(io.BytesIO(found), name, how, at_least)


def contents(image: Path | bytes | BinaryIO, name: str) -> bytes | Path:
    """The bytes of an image file, read once; the path again where they are too many to be held, and not a JPEG's.

    A file that the disk or the network fails to give is asked for twice more. BadImage when it cannot be had, or holds something else.
    """
    if isinstance(image, Path):
        data = _patiently(lambda: _read_file(image, name), name)
        if len(data) > MAX_HELD_BYTES and sniff_bytes(data[:HEAD_BYTES]) in IMAGE_KINDS - {"jpeg"}:
            return image
    else:
        data = image if isinstance(image, bytes) else _patiently(lambda: image.read(MAX_STREAM_BYTES + 1), name)
    kind = sniff_bytes(data[:HEAD_BYTES])
    if kind not in IMAGE_KINDS and kind != "unknown":
        raise BadImage(name, _not_an_image(kind))
    if len(data) > MAX_STREAM_BYTES:
        raise BadImage(name, f"more than {MAX_STREAM_BYTES:,} bytes")
    return data


def _read_file(path: Path, name: str) -> bytes:
    """All of the file, or just more than MAX_HELD_BYTES of it."""
    kind = kind_of_mode(path.stat().st_mode)  # before it is opened: opening a FIFO waits for ever
    if kind != "file":
        raise BadImage(name, what_is_wrong(kind))
    with path.open("rb", buffering=0) as file:
        data = file.read(MAX_HELD_BYTES + 1)
        while True:  # an unbuffered file may give less than it was asked for
            limit = MAX_STREAM_BYTES if data[:2] == b"\xff\xd8" else MAX_HELD_BYTES
            more = file.read(limit + 1 - len(data)) if len(data) <= limit else b""
            if not more:
                return data
            data += more


def _patiently(act: Callable[[], T], name: str) -> T:
    """What `act` gives, tried again after errors of the disk or the network that may pass. BadImage when it goes on failing."""
    for pause in (*PAUSES, None):
        try:
            return act()
        except BadImage:
            raise
        except OSError as error:
            if pause is None or error.errno in LASTING:
                raise BadImage(name, _WORDS.get(error.errno or 0) or error.strerror or "cannot be read") from error
            time.sleep(pause)
        except ValueError as error:  # a name with a zero byte
            raise BadImage(name, "cannot be read") from error
    raise AssertionError("the last pause is None")


def _decode_large(path: Path, name: str, how: Decoding) -> Image.Image:
    with path.open("rb") as stream:
        try:
            return _decode_stream(stream, name, how)
        except BadImage as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno:  # not what the file says, but that it cannot be read
                raise error.__cause__ from None
            raise


def _decode_opened(image: Image.Image, name: str, how: Decoding, at_least: Size | None = None) -> Image.Image:
    try:
        refuse_bomb(image, name, how.max_pixels)
        refuse_raw(image)
        stored = stored_as(image)
        factor = reduction(image, how, at_least)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        hole = mend_transparency(image, stored)
        with _libtiff_silenced(image.format or ""):
            image.load()  # all of it: verify() passes about half of the files that a full decode finds broken
        plain = grey_or_rgb(image, stored, how.background)
        return _upright(plain if hole is None else cut_out(plain, hole, how.background), orientation(image) if how.exif else 1)
    except BadImage:
        raise
    except Unread as error:
        raise BadImage(name, str(error)) from error
    except Exception as error:  # Pillow raises whatever its decoders meet; see `_decode_stream`
        raise BadImage(name, _reason(error, image.format or "")) from error


def _decode_stream(stream: BinaryIO, name: str, how: Decoding, at_least: Size | None = None) -> Image.Image:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            return _decode_opened(image, name, how, at_least)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        stream.seek(0)
        head = stream.read(MAX_HEADER_BYTES)
        kind = sniff_bytes(head[:HEAD_BYTES])
        damaged = f"damaged {kind.upper()}: its header cannot be read" if kind in IMAGE_KINDS else "not an image"
        raise BadImage(name, why_unread(head, kind) or damaged) from error
    # Damaged files make Pillow raise OSError, ValueError, SyntaxError, struct.error, DecompressionBombError, MemoryError and more.
    # `except OSError` lets 1.1 % of 20,000 mutated files through, so nothing narrower than this is right.
    except Exception as error:  # Pillow raises whatever its decoders meet; see above
        raise BadImage(name, _reason(error, "")) from error


def reduction(image: Image.Image, how: Decoding, at_least: Size | None) -> int:
    """By how much (1, 2, 4 or 8) an opened JPEG may be decoded smaller and still be `at_least` as large once it is upright."""
    if at_least is None or image.format not in JPEG_FORMATS:
        return 1
    height, width = at_least[::-1] if how.exif and orientation(image) >= 5 else at_least
    return next((f for f in (8, 4, 2) if -(-image.height // f) >= height and -(-image.width // f) >= width), 1)


def refuse_bomb(image: Image.Image, name: str, max_pixels: int) -> None:
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
    with STDERR_LOCK:
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


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Pillow has applied that of a TIFF already, and removed it, when the pixels are loaded."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  damaged metadata does not make the pixels bad; Pillow raises whatever its parser meets
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
