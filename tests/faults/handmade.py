"""Image files written byte by byte, so that what they hold is known without any library; and small files that are traps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

# ---- PNG (ISO/IEC 15948) ----

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, bits: int, colour: int, rows: Sequence[bytes], *extra: tuple[bytes, bytes]) -> bytes:
    """rows: the packed samples of each. extra: (kind, content) of chunks between header and pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    between = b"".join(chunk(*each) for each in extra)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_bomb(side: int) -> bytes:
    """A black 1-bit PNG of side x side in a few kilobytes."""
    return png(side, 1, GREY, [bytes(side // 8 + 1)] * side)


# ---- TIFF 6.0 ----

_TYPES = {1: "B", 3: "H", 4: "I"}


def tiff(
    width: int,
    bits: Sequence[int],
    photometric: int,
    pixels: bytes,
    *,
    form: int = 1,
    extra: Sequence[int] = (),
    big: bool = False,
    more: Sequence[tuple[int, int, Sequence[int]]] = (),
    next_page: int = 0,
) -> bytes:
    """One row of pixels, uncompressed. bits: of each sample. form: 1 unsigned, 2 signed, 3 float. more: (tag, type, values)."""
    order, magic = (">", b"MM\0*") if big else ("<", b"II*\0")
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (3, [width]), 257: (3, [1]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]), 273: (4, [0]),
        277: (3, [len(bits)]), 278: (3, [1]), 279: (4, [len(pixels)]), 339: (3, [form] * len(bits)),
    }  # fmt: skip
    tags |= {338: (3, extra)} if extra else {}
    tags |= {tag: (kind, values) for tag, kind, values in more}
    after = 8 + 2 + 12 * len(tags) + 4
    long = {tag: struct.pack(f"{order}{len(v)}{_TYPES[kind]}", *v) for tag, (kind, v) in tags.items()}
    apart = b"".join(data for data in long.values() if len(data) > 4)
    tags[273], long[273] = (4, [0]), struct.pack(f"{order}I", after + len(apart))
    entries, place = b"", after
    for tag in sorted(tags):
        kind, values = tags[tag]
        held = long[tag].ljust(4, b"\0")
        if len(long[tag]) > 4:
            held, place = struct.pack(f"{order}I", place), place + len(long[tag])
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + held
    ordered = b"".join(long[tag] for tag in sorted(tags) if len(long[tag]) > 4)
    head = magic + struct.pack(f"{order}IH", 8, len(tags)) + entries + struct.pack(f"{order}I", next_page)
    return head + ordered + pixels


# ---- GIF89a ----


def gif(frames: int) -> bytes:
    """`frames` frames of 2 x 2 pixels; the first is blue, the others red."""
    head = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes((0, 0, 255, 255, 0, 0))
    one = b"\x21\xf9\x04\0\x01\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0)
    blue, red = b"\x02\x03\x04\x80\x02\0", b"\x02\x03\x4c\x92\x02\0"  # clear, four pixels, end
    return head + one + blue + (one + red) * (frames - 1) + b"\x3b"


# ---- JPEG ----


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment behind its first marker."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def scan_bomb(progressive: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    last = progressive.rfind(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * scans + b"\xff\xd9"
