"""What makes an image file unreadable although nothing in it is broken: kinds that are not supported, and files that are traps."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

from PIL import Image, TiffImagePlugin

# A progressive JPEG goes over all its pixels once a scan, and a scan may take 50 bytes: 250 KB held a 64-megapixel image for ever.
# Encoders write 6 to 14 scans.
MAX_SCANS = 50

_END_OF_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # any marker but the ones that stand inside a scan
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9

_REDUCED = 1  # TIFF 6.0, NewSubfileType: "a reduced-resolution version of another image in this TIFF file"
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _CHILDREN, _FORMAT, _DNG = 254, 258, 259, 262, 277, 330, 339, 50706
_FORMAT_NAMES = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex float"}
_PHOTOMETRIC_NAMES = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "ICC Lab", 10: "ITU Lab"}


class Unread(ValueError):
    """An image that is whole and yet not read; the message says why, and stands by itself."""


def refuse_traps(data: bytes) -> None:
    """Unread for a JPEG whose decoding would take minutes."""
    if not data.startswith(b"\xff\xd8") or data.count(b"\xff\xda") <= MAX_SCANS:  # these bytes are also found in metadata
        return
    scans, progressive = 0, False
    for marker, _ in _segments(data):
        progressive = progressive or marker in _PROGRESSIVE
        scans += marker == _SCAN
        if progressive and scans > MAX_SCANS:
            raise Unread(f"progressive JPEG of more than {MAX_SCANS} scans")


def refuse_raw(image: Image.Image) -> None:
    """Unread for a camera's raw file: it is a TIFF whose first page is a thumbnail."""
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags and (_DNG in tags or (_number(tags.get(_SUBFILE, 0)) & _REDUCED and _CHILDREN in tags)):
        raise Unread("camera raw file, which is not read: save it as JPEG or PNG")


def why_unread(data: bytes, kind: str) -> str:
    """Why Pillow does not open a file of this kind although its header is whole; "" when nothing is known."""
    try:
        return {"jpeg": _why_not_jpeg, "tiff": _why_not_tiff}[kind](data)
    except Exception:  # noqa: BLE001  the header is not whole: whatever Pillow's parser meets, there is nothing to tell
        return ""


def _why_not_jpeg(data: bytes) -> str:
    for marker, body in _segments(data):
        if marker in _FRAMES:
            bits, _, _, parts = struct.unpack_from(">BHHB", body)
            return "" if bits == 8 and parts in {1, 3, 4} else f"JPEG of {parts} x {bits} bits a pixel, which is not read: save it as PNG"
    return ""


def _why_not_tiff(data: bytes) -> str:
    stream = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if data[2:3] == b"+" else 8))
    stream.seek(tags.next)
    tags.load(stream)
    bits, samples = _number(tags.get(_BITS, 1)), _number(tags.get(_SAMPLES, 1))
    form = _FORMAT_NAMES.get(_number(tags.get(_FORMAT, 1)), "unknown")
    colour = _PHOTOMETRIC_NAMES.get(_number(tags[_PHOTOMETRIC]), "unknown colours")
    order = "big-endian" if data.startswith(b"MM") else "little-endian"
    return (
        f"TIFF of {samples} x {bits} bits a pixel ({form}, {colour}, {order}, compression {_number(tags.get(_COMPRESSION, 1))}),"
        " which is not read: save it as 8-bit or 16-bit PNG"
    )


def _number(value: object) -> int:
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (marker, content) of a JPEG's segments up to the end of its image; a scan's content is its header alone."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker == _END:
            return
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + length
        if marker == _SCAN:
            after = _END_OF_SCAN.search(data, place)
            if not after:
                return
            place = after.start()
