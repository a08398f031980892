"""Every image of a source decoded once, in full, for what an audit has to know of it; nothing of its pixels is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

from cnncli.data.decode import FORMATS, MAX_STREAM_BYTES, ORIENTATION_TAG, USUAL, BadImage, Decoding, Located, decode
from cnncli.data.perceptual import perceptual_hash
from cnncli.data.source import Sample, Source
from cnncli.data.threads import in_order, usual_threads
from cnncli.sniff import HEAD_BYTES, IMAGE_KINDS, sniff, sniff_bytes

CHUNK = 16  # images a task
DIGEST_BYTES = 16  # two of 10^9 different images have the same digest with a chance of 10^-21
STRIP_PIXELS = 2**20  # pixels are hashed in strips, so that a large image is not copied whole

# What happens to pixels on the way in, in the order in which it is told.
CONVERSIONS = (
    "deep",  # more than 8 bits a value are scaled to 8
    "cmyk",
    "palette",
    "alpha",  # transparent pixels are laid over the background
    "animated",  # only the first frame, or page, is used
    "turned",  # as the EXIF orientation says
    "other colours",  # YCbCr, LAB
)

KIND_OF_SUFFIX = (
    dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "jpeg")
    | dict.fromkeys((".tif", ".tiff"), "tiff")
    | dict.fromkeys((".bmp", ".dib"), "bmp")
    | dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "ppm")
    | {".png": "png", ".gif": "gif", ".webp": "webp"}
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Examined:
    """What is kept of a readable image.

    width, height: upright. form, mode: as Pillow names them, as stored; form is "" for pixels that no file holds.
    channels: 1 or 3 after decoding. conversions: words of CONVERSIONS. kind: of the content, where its name says another; else "".
    bytes_key, pixels_key: digests of the file (b"" without one) and of the decoded pixels with their size.
    constant: all pixels have the same colour. hash, thumbnail: see cnncli.data.perceptual.
    """

    width: int
    height: int
    form: str
    mode: str
    channels: int
    conversions: tuple[str, ...]
    kind: str
    bytes_key: bytes
    pixels_key: bytes
    constant: bool
    hash: int
    thumbnail: bytes


@dataclass
class Sums:
    """Sums over all decoded pixels, in whole numbers: exact. values, squares: red, green, blue (grey counts for each)."""

    pixels: int
    values: list[int]
    squares: list[int]

    @classmethod
    def none(cls) -> Sums:
        """Of no pixel."""
        return cls(0, [0, 0, 0], [0, 0, 0])

    def add(self, other: Sums) -> None:
        """Add those of other pixels."""
        self.pixels += other.pixels
        self.values = [a + b for a, b in zip(self.values, other.values, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]


@dataclass(frozen=True)
class Looks:
    """All images of a source, looked at. items: (sample, split) of each. seen: what was found, or why it cannot be read."""

    items: tuple[tuple[Sample, str], ...]
    seen: tuple[Examined | BadImage, ...]
    sums: Sums


def look(source: Source, *, how: Decoding = USUAL, threads: int | None = None, on_progress: Progress | None = None) -> Looks:
    """Decode every image of every split, by a few threads; the result does not depend on how many.

    on_progress: called in this thread with (images done, images in all).
    """
    items = tuple((sample, split) for split, samples in source.splits.items() for sample in samples)
    starts = range(0, len(items), CHUNK)
    seen: list[Examined | BadImage] = []
    sums = Sums.none()

    def task(first: int) -> tuple[list[Examined | BadImage], Sums]:
        found: list[Examined | BadImage] = []
        own = Sums.none()
        for sample, _ in items[first : first + CHUNK]:
            try:
                examined, added = examine(source, sample, how)
            except BadImage as error:
                found.append(error)
            else:
                found.append(examined)
                own.add(added)
        return found, own

    for found, own in in_order(task, starts, threads or usual_threads()):
        seen += found
        sums.add(own)
        if on_progress:
            on_progress(len(seen), len(items))
    return Looks(items, tuple(seen), sums)


def examine(source: Source, sample: Sample, how: Decoding) -> tuple[Examined, Sums]:
    """One image, and the sums of its pixels. BadImage when it cannot be decoded."""
    located, name = source.find(sample)
    kind = "" if isinstance(located, Image.Image) else _kind(located)
    data = _file_bytes(located) if kind in IMAGE_KINDS or kind == "unknown" else None  # opening a FIFO would wait for ever
    if data is not None:
        located = data
    facts = _header(located, how) if data is not None or isinstance(located, Image.Image) else _Header()
    image = decode(located, name=name, how=how)
    sums, constant = _sums(image)
    hashed, thumbnail = perceptual_hash(image)
    said = KIND_OF_SUFFIX.get(PurePosixPath(sample.path).suffix.lower(), kind)
    return Examined(
        width=image.width,
        height=image.height,
        form=facts.form,
        mode=facts.mode or image.mode,
        channels=len(image.getbands()),
        conversions=facts.conversions,
        kind=kind if kind in IMAGE_KINDS and kind != said else "",
        bytes_key=blake2b(data, digest_size=DIGEST_BYTES).digest() if data is not None else b"",
        pixels_key=pixels_key(image),
        constant=constant,
        hash=hashed,
        thumbnail=thumbnail,
    ), sums


def pixels_key(image: Image.Image) -> bytes:
    """A digest of mode, size and pixels of a Pillow image."""
    digest = blake2b(f"{image.mode} {image.width} {image.height}".encode(), digest_size=DIGEST_BYTES)
    rows = max(1, STRIP_PIXELS // max(1, image.width))
    if rows >= image.height:
        digest.update(image.tobytes())
    else:
        for top in range(0, image.height, rows):
            digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.digest()


def _kind(located: Located) -> str:
    """What its first bytes say it is."""
    if isinstance(located, Path):
        return sniff(located)
    return sniff_bytes(located[:HEAD_BYTES]) if isinstance(located, bytes) else ""


def _file_bytes(located: Located) -> bytes | None:
    """The content of a file that is not huge; what is wrong with it otherwise is told by decoding it."""
    if isinstance(located, bytes):
        return located
    try:
        small = isinstance(located, Path) and located.stat().st_size <= MAX_STREAM_BYTES
        return located.read_bytes() if isinstance(located, Path) and small else None
    except OSError:
        return None


@dataclass(frozen=True)
class _Header:
    form: str = ""
    mode: str = ""
    conversions: tuple[str, ...] = ()


def _header(located: Located, how: Decoding) -> _Header:
    """Format, mode and what will be converted, from the header alone; nothing where it cannot be read, which decoding then tells."""
    try:
        if isinstance(located, Image.Image):
            return _Header(located.format or "", located.mode, _conversions(located, how))
        stream = io.BytesIO(located) if isinstance(located, bytes) else located
        with Image.open(cast("BinaryIO", stream), formats=FORMATS) as image:
            return _Header(image.format or "", image.mode, _conversions(image, how))
    except Exception:  # noqa: BLE001  Pillow raises whatever its parsers meet
        return _Header()


def _conversions(image: Image.Image, how: Decoding) -> tuple[str, ...]:
    # Pillow decodes a whole PNG to look for EXIF behind its pixels, where hardly any has it; decoding will find that.
    has_exif = how.exif and (image.format != "PNG" or "exif" in image.info)
    turned = image.getexif().get(ORIENTATION_TAG, 1) if has_exif else 1
    found = {
        "deep": _is_deep(image),
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in {"P", "PA"},
        "alpha": image.has_transparency_data,
        "turned": isinstance(turned, int) and 2 <= turned <= 8,
        "other colours": image.mode in {"YCbCr", "LAB", "HSV"},
        "animated": bool(getattr(image, "is_animated", False)),  # last: it may move to the second frame
    }
    return tuple(word for word in CONVERSIONS if found[word])


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits a value; Pillow opens 16-bit colour as 8-bit, so the PNG's and the TIFF's own headers are asked."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "PNG":
        return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    if image.format == "TIFF":
        bits = cast("tuple[int, ...]", getattr(image, "tag_v2", {}).get(258, (8,)))  # BitsPerSample
        return max(bits) > 8
    return False


def _sums(image: Image.Image) -> tuple[Sums, bool]:
    """The sums of an image of mode "L" or "RGB", and whether it is constant; from its histogram, so in whole numbers."""
    bands = np.array(image.histogram(), dtype=np.int64).reshape(-1, 256)
    levels = np.arange(256, dtype=np.int64)
    values, squares = (bands @ levels).tolist(), (bands @ levels**2).tolist()
    repeat = 3 // len(bands)
    return Sums(int(bands[0].sum()), values * repeat, squares * repeat), bool((np.count_nonzero(bands, axis=1) == 1).all())
