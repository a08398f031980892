"""Matrices on the command line: typed, in a file, or a kernel's name; or the path of an image."""

from __future__ import annotations

from pathlib import Path

from cnncli.arch.kernels import KERNELS
from cnncli.arch.matrix import Matrix, parse_matrix
from cnncli.errors import InputError, UsageError, near_miss
from cnncli.sniff import IMAGE_KINDS, sniff, what_is_wrong

LARGEST_TEXT = 2**20  # bytes; the most numbers that a matrix may have need less
FILE_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")

EXAMPLE = 'cnn convolve --image "0 80 40; 20 40 0; 0 0 40" --kernel "0 .25; .5 1"'


def read_operand(text: str, flag: str) -> Matrix | Path:
    """A matrix: typed, read from a file, or (for --kernel) named; or the path of an image file.

    A kernel's name comes first, then a file that exists, then a matrix as typed; `./name` is always a file.
    """
    if flag == "--kernel" and text in KERNELS:
        return KERNELS[text].matrix
    kind = "missing" if "\0" in text or len(text) > LARGEST_TEXT else sniff(text)
    if text and kind not in ("missing", "unreadable"):
        return Path(text) if kind in IMAGE_KINDS else _read_file(Path(text), kind, flag)
    if text.lower().endswith(FILE_SUFFIXES):
        raise InputError(f"{flag} {text}: no such file", "check the path", path=text)
    if any(c.isdigit() for c in text):
        try:
            return parse_matrix(text, flag)
        except InputError as error:
            raise UsageError(error.message, error.hint, path=flag) from error
    if flag == "--kernel":
        raise UsageError(f"unknown kernel {text!r}", near_miss(text, list(KERNELS)) or "--list-kernels lists all", path=flag)
    raise UsageError(f"--image {text!r} is neither a matrix nor a file", f"try: {EXAMPLE}", path=flag)


def _read_file(path: Path, kind: str, flag: str) -> Matrix:
    if kind != "text":
        raise InputError(f"{flag} {path}: {what_is_wrong(kind)}", "give a text file of numbers, or an image", path=str(path))
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise InputError(f"{flag} {path}: more than {LARGEST_TEXT:,} bytes of numbers", "give an image file", path=str(path))
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{flag} {path}: cannot be read as text", "check the file", path=str(path)) from error
    return parse_matrix(text, f"{flag} {path}")
