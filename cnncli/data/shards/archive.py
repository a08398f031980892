"""The headers of tar archives, read one after the other; nothing is ever extracted, and nothing of what a header says is trusted.

Known are the old, the POSIX (ustar and pax) and the GNU format, uncompressed. Python's tarfile would do for honest archives, but it
reads extended headers of any length into memory, takes a damaged header for the end, and unpacks what is compressed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

BLOCK = 512
MOST_HEADER_BYTES = 2**20  # of an extended header; a path on Linux has at most 4096
PIECE = 2**16

PLAIN = frozenset(b"0\0007")  # a regular file: now, in the old format, and as contiguous, which nobody makes
WITHOUT_DATA = {ord("1"): "links", ord("2"): "links", ord("3"): "devices", ord("4"): "devices", ord("5"): "", ord("6"): "FIFOs"}
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL, PAX_SUN, SPARSE = map(ord, "LKxgXS")


class Damaged(Exception):
    """The archive breaks off, or is none. The text says where, without its name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive: its name as it stands there, where its bytes begin, and how many they are."""

    name: str
    offset: int
    size: int


class Cursor(Protocol):
    """A place in an archive."""

    position: int

    def read(self, count: int) -> bytes:
        """The next bytes, exactly so many. Damaged where the archive ends before."""

    def go(self, position: int) -> None:
        """Move forward. Damaged where the archive ends before."""


class FileCursor:
    """In a file, by its descriptor; no byte is read without need."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.position = descriptor, 0
        self.size = os.fstat(descriptor).st_size

    def read(self, count: int) -> bytes:
        data = read_at(self.descriptor, self.position, count)
        if len(data) < count:
            raise _cut_off(self.size)
        self.position += count
        return data

    def go(self, position: int) -> None:
        if position > self.size:
            raise _cut_off(self.size)
        self.position = position


class StreamCursor:
    """In a stream that can only be read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.position = stream, 0

    def read(self, count: int) -> bytes:
        pieces, missing = [], count
        while missing:
            piece = self.stream.read(missing)
            if not piece:
                raise _cut_off(self.position)
            pieces.append(piece)
            self.position += len(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def go(self, position: int) -> None:
        while self.position < position:
            self.read(min(PIECE, position - self.position))


def members(cursor: Cursor, skipped: Counter[str]) -> Iterator[Member]:
    """The regular files of an archive, in their order. Between two of them the bytes of the first may be read from the cursor.

    skipped: counts what was left out, by kind: links, devices, FIFOs, sparse files. Folders are not counted.
    Damaged: not a tar archive, a damaged header, or no end mark, so that members may be missing.
    """
    name: str | None = None
    size: int | None = None
    sparse = False
    while True:
        start = cursor.position
        header = cursor.read(BLOCK)
        if not header.strip(b"\0"):
            return  # the end mark: a block of zeros
        if not _sum_is_right(header):
            raise Damaged("it is not a tar archive" if start == 0 else f"its header at byte {start:,} is damaged")
        kind, length = header[156], _number(header[124:136], start)
        if kind in {LONG_NAME, PAX, PAX_SUN}:
            text = _extension(cursor, length, start)
            if kind == LONG_NAME:
                name = _text(text)
            else:
                name, size, sparse = _pax(text, start, name, size, sparse=sparse)
            continue
        if kind in {LONG_LINK, PAX_GLOBAL}:
            cursor.go(cursor.position + _whole(length))
            continue
        found = Member(_name(header) if name is None else name, cursor.position, length if size is None else size)
        plain = kind in PLAIN and not found.name.endswith("/")
        end = cursor.position + (0 if kind in WITHOUT_DATA else _whole(found.size))
        if plain and not sparse:
            yield found
        elif not plain and kind in WITHOUT_DATA and WITHOUT_DATA[kind]:
            skipped[WITHOUT_DATA[kind]] += 1
        elif sparse or kind == SPARSE:
            skipped["sparse files"] += 1
            end = _behind_sparse_map(cursor, header, end) if kind == SPARSE else end
        elif kind not in WITHOUT_DATA and kind not in PLAIN:
            skipped["members of unknown kinds"] += 1
        cursor.go(end)
        name, size, sparse = None, None, False


def read_at(descriptor: int, offset: int, count: int) -> bytes:
    """So many bytes of a file from an offset on, or fewer where it ends; several threads may do so at once."""
    pieces, missing = [], count
    while missing:
        piece = os.pread(descriptor, missing, offset)
        if not piece:
            break
        pieces.append(piece)
        offset, missing = offset + len(piece), missing - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _cut_off(size: int) -> Damaged:
    return Damaged(f"it breaks off after {size:,} bytes")


def _whole(length: int) -> int:
    """Rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


def _sum_is_right(header: bytes) -> bool:
    """The sum of the header's bytes, with spaces in the place of the sum itself; old programs added signed bytes."""
    try:
        told = int(header[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    rest = header[:148] + b" " * 8 + header[156:]
    total = sum(rest)
    return told == total or told == total - 256 * sum(byte > 127 for byte in rest)


def _number(digits: bytes, start: int) -> int:
    """Octal digits, or GNU's binary numbers for 8 GB and more."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0", 1)[0].strip()
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise Damaged(f"its header at byte {start:,} is damaged")
    return int(text, 8)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""  # GNU keeps times there
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _extension(cursor: Cursor, length: int, start: int) -> bytes:
    if length > MOST_HEADER_BYTES:
        raise Damaged(f"its header at byte {start:,} claims {length:,} bytes, more than {MOST_HEADER_BYTES:,}")
    end = cursor.position + _whole(length)
    data = cursor.read(length)
    cursor.go(end)
    return data


def _pax(data: bytes, start: int, name: str | None, size: int | None, *, sparse: bool) -> tuple[str | None, int | None, bool]:
    r"""Records `LENGTH KEY=VALUE\n`, each with its own length in front."""
    place = 0
    while place < len(data) and data[place]:
        digits, space, _ = data[place : place + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[place + len(digits) + 1 : place + length]
        key, sign, value = record[:-1].partition(b"=")
        if not sign or place + length > len(data) or record[-1:] != b"\n" or (key == b"size" and not value[:19].isdigit()):
            raise Damaged(f"its header at byte {start:,} is damaged")
        if key == b"path":
            name = _text(value)
        elif key == b"size":
            size = int(value[:19])
        sparse = sparse or key.startswith(b"GNU.sparse.")
        place += length
    return name, size, sparse


def _behind_sparse_map(cursor: Cursor, header: bytes, end: int) -> int:
    """Where a sparse member of GNU's old format ends: blocks that list its holes come before its bytes."""
    more, extra = header[482], 0
    while more:
        more = cursor.read(BLOCK)[504]
        extra += BLOCK
    return end + extra
