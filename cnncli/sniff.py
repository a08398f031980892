"""What a file is, by what the file system says and by its first bytes; never by its name.

A web page saved as `cat.jpg` or a git-lfs pointer in place of the weights is told as what it is, before any library tries to read it.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

HEAD_BYTES = 512  # every signature below lies within them

IMAGE_KINDS = frozenset({"jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm"})  # what cnncli.data.decode reads

# (offset, bytes, kind); the first that fits wins.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "git-lfs pointer"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"WEBP", "webp"),
    (8, b"CR\x02", "raw"),  # Canon's CR2, which begins like a TIFF
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),  # BigTIFF
    (0, b"MM\x00+", "tiff"),
    (0, b"\x00\x05\x16\x07", "appledouble"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"%PDF", "pdf"),
    (0, b"%!PS", "postscript"),
    (0, b"\xc5\xd0\xd3\xc6", "postscript"),  # EPS with a preview
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"\x93NUMPY", "numpy"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!", "archive"),
    (257, b"ustar", "tar"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypheic", "heic"),
    (4, b"ftypmif1", "heic"),
    (4, b"ftyp", "video"),
    (0, b"\x00\x00\x01\x00", "icon"),
    (0, b"8BPS", "photoshop"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg 2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg 2000"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jpeg xl"),
    (0, b"\xff\x0a", "jpeg xl"),
    (0, b"qoif", "qoi"),
    (128, b"DICM", "dicom"),
)

_PATTERNS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x80[\x02-\x05]"), "pickle"),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), "bmp"),  # with its reserved fields: "BM" alone also begins texts
    (re.compile(rb"P[1-6Ff][ \t\r\n#]"), "ppm"),
)

_WRONG: dict[str, str] = {
    "empty": "empty file",
    "missing": "no such file",
    "permission denied": "permission denied",
    "unreadable": "cannot be read",
    "folder": "a folder, not a file",
    "fifo": "a FIFO, not a file",
    "socket": "a socket, not a file",
    "device": "a device, not a file",
    "html": "HTML page, not the file itself: download it again",
    "svg": "SVG drawing, which is not read: save it as PNG",
    "git-lfs pointer": "git-lfs pointer: run git lfs pull",
    "appledouble": "macOS metadata (AppleDouble), not the file itself",
    "zip": "zip archive",
    "gzip": "gzip archive",
    "tar": "tar archive",
    "archive": "packed archive",
    "pickle": "pickle file",
    "safetensors": "safetensors file",
    "numpy": "numpy array file",
    "hdf5": "HDF5 file",
    "pdf": "PDF document, which is not read: save it as PNG",
    "postscript": "PostScript (EPS) drawing, which is not read: save it as PNG",
    "avif": "AVIF image, which is not read: save it as PNG",
    "heic": "HEIC image, which is not read: save it as JPEG",
    "icon": "icon file, which is not read: save it as PNG",
    "photoshop": "Photoshop file, which is not read: save it as PNG",
    "raw": "camera raw file, which is not read: save it as JPEG or PNG",
    "jpeg 2000": "JPEG 2000 image, which is not read: save it as PNG",
    "jpeg xl": "JPEG XL image, which is not read: save it as PNG",
    "qoi": "QOI image, which is not read: save it as PNG",
    "dicom": "DICOM image, which is not read: save it as 16-bit PNG",
    "video": "video file",
    "text": "text file",
    "unknown": "unknown kind of file",
}


def sniff(path: Path | str) -> str:
    """The kind of the file `path`, by its first 512 bytes: "jpeg", "png", "html", "zip", "pickle", "safetensors", "text", "unknown", ...

    What is no regular file is reported ("folder", "fifo", "socket", "device") and never opened, since opening a FIFO waits for ever.
    Never raises: "missing", "permission denied" and "unreadable" are kinds too.
    """
    try:
        kind = kind_of_mode(Path(path).stat().st_mode)
        if kind != "file":
            return kind
        with Path(path).open("rb") as file:
            return sniff_bytes(file.read(HEAD_BYTES))
    except PermissionError:
        return "permission denied"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError):  # an input/output error, a loop of links, a name with a zero byte
        return "unreadable"


def sniff_bytes(head: bytes) -> str:
    """The kind of a file that begins with `head` (512 bytes are enough)."""
    if not head:
        return "empty"
    for offset, signature, kind in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature and (kind != "webp" or head.startswith(b"RIFF")):
            return kind
    for pattern, kind in _PATTERNS:
        if pattern.match(head):
            return kind
    # safetensors: eight bytes of header length, then JSON. The length is not trusted, it only has to be possible (the format's limit).
    if 2 <= int.from_bytes(head[:8], "little") <= 100_000_000 and head[8:9] == b"{":
        return "safetensors"
    return _kind_of_text(head)


def what_is_wrong(kind: str) -> str:
    """The reason, for a person, why a file of this `kind` (see `sniff`) is not the file that was wanted."""
    return _WRONG.get(kind, f"{kind.upper()} file")


def kind_of_mode(mode: int) -> str:
    """What `stat` says it is: "file", "folder", "fifo", "socket" or "device"."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _kind_of_text(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (start.startswith(b"<!--") and b"<html" in start):
        return "html"
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!doctype svg")) and b"<svg" in start):
        return "svg"
    if start.startswith(b"<?xml"):
        return "html" if b"<html" in start else "text"
    # A character of up to four bytes may be cut at the end of the head.
    for cut in range(4):
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return "text" if all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text) else "unknown"
    return "unknown"
