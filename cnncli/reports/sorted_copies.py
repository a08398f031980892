"""Copies of images in a folder for each class. Nothing is overwritten, originals are only read, and a copy is whole or not there."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import BinaryIO

from cnncli import atomic
from cnncli.errors import EnvironmentFault, InputError, printable
from cnncli.sniff import HEAD_BYTES, sniff_bytes

UNCERTAIN = "uncertain"
LONGEST_FOLDER = 200  # bytes; systems allow 255
LONGEST_FILE = 255
PIPED = "stdin"  # the name of an image that came through standard input
_FORBIDDEN = frozenset('/\\:*?"<>|')  # in file names, on one system or another
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "gif": ".gif", "bmp": ".bmp", "webp": ".webp", "tiff": ".tif", "ppm": ".ppm"}


class SortedCopies:
    """Copies below `root`: an image that is taken for a class in the folder of that class, an uncertain one in root/uncertain.

    copied: how many copies were made, by folder. there: how many images had a copy already.
    """

    def __init__(self, root: Path, classes: Iterable[str]) -> None:
        self.root = root
        self.copied: Counter[str] = Counter()
        self.there = 0
        self._names = folder_names(classes)
        self._made: dict[str, Path] = {}

    def add(self, image: Path | bytes, label: str | None) -> Path:
        """Copy an image (its file, or its bytes) for a class, or None where it is uncertain; where the copy is.

        A name that is taken gets a number, `cat-2.jpg`; a file with the same bytes counts as the copy. The copy keeps the time of the
        file. InputError when the image cannot be read; EnvironmentFault when the copy cannot be written, or would leave `root`.
        """
        chosen = UNCERTAIN if label is None else self._names[label]
        folder = self._folder(chosen)
        name = piped_name(image) if isinstance(image, bytes) else image.name
        for number in count(1):
            target = folder / numbered(name, number)
            if os.path.lexists(target):
                if _same(image, target):
                    self.there += 1
                    return target
                continue
            if _place(image, target):
                self.copied[chosen] += 1
                return target
        raise AssertionError("numbers do not end")

    def summary(self) -> str:
        """`copied 950 images into sorted: 900 into 3 classes, 50 uncertain; 3 more were there`."""
        total, doubtful = sum(self.copied.values()), self.copied[UNCERTAIN]
        classes = len(self.copied.keys() - {UNCERTAIN})
        text = f"copied {total:,} image{'' if total == 1 else 's'} into {printable(self.root)}"
        if total:
            text += f": {total - doubtful:,} into {classes:,} class{'' if classes == 1 else 'es'}"
            text += f", {doubtful:,} uncertain" if doubtful else ""
        return text + (f"; {self.there:,} more were there" if self.there else "")

    def _folder(self, name: str) -> Path:
        if name not in self._made:
            folder = self.root / name
            atomic.make_folder(folder)
            if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.root)):
                raise EnvironmentFault(f"{folder} is a link that leads out of {self.root}", "remove it", path=str(folder))
            self._made[name] = folder
        return self._made[name]


def folder_names(classes: Iterable[str]) -> dict[str, str]:
    """A folder name for each class: its own where every system allows it, else cleaned; numbered where two would be one.

    Names that differ only in case are one on some systems. `uncertain` is taken.
    """
    taken = {UNCERTAIN}
    names = {}
    for label in classes:
        clean = cleaned(label)
        name = next(name for number in count(1) if (name := numbered(clean, number, suffix="")).casefold() not in taken)
        taken.add(name.casefold())
        names[label] = name
    return names


def cleaned(label: str) -> str:
    """`label` as the name of a folder: no slash, nothing that does not print, not hidden, not `..`, not too long, not empty."""
    name = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in label)
    name = name.encode()[:LONGEST_FOLDER].decode(errors="ignore").strip().rstrip(". ")
    return f"_{name[1:]}" if name.startswith(".") else name or "_"


def numbered(name: str, number: int, *, suffix: str | None = None) -> str:
    """`cat.jpg`, `cat-2.jpg`, `cat-3.jpg`, ...; what makes it too long is taken from before the number."""
    ending = Path(name).suffix if suffix is None else suffix
    stem, mark = name.removesuffix(ending), "" if number == 1 else f"-{number}"
    room = LONGEST_FILE - len(os.fsencode(mark + ending))
    return f"{os.fsdecode(os.fsencode(stem)[:room])}{mark}{ending}" if mark else name


def piped_name(data: bytes) -> str:
    """A file name for an image that came without one."""
    return PIPED + _SUFFIXES.get(sniff_bytes(data[:HEAD_BYTES]), "")


def _same(image: Path | bytes, target: Path) -> bool:
    """Whether `target` is a file with the bytes of the image; False where that cannot be seen."""
    try:
        if isinstance(image, bytes):
            return target.is_file() and target.stat().st_size == len(image) and target.read_bytes() == image
        return target.is_file() and filecmp.cmp(image, target, shallow=False)
    except OSError:
        return False


def _place(image: Path | bytes, target: Path) -> bool:
    """Write the copy; False where something has taken its name in the meantime."""
    if isinstance(image, bytes):
        return _write(target, image, None)
    try:
        source = image.open("rb")
    except OSError as error:
        raise InputError(f"cannot copy {image}: {error.strerror}", path=str(image)) from error
    with source:
        return _write(target, source, os.fstat(source.fileno()))


def _write(target: Path, image: BinaryIO | bytes, status: os.stat_result | None) -> bool:
    try:
        with atomic.temporary_folder(target.parent) as folder:
            temporary = folder / target.name
            with temporary.open("wb") as file:
                if isinstance(image, bytes):
                    file.write(image)
                else:
                    shutil.copyfileobj(image, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
            if status is not None:
                os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
            return _named(temporary, target)
    except OSError as error:
        raise atomic.cannot_write(target, error) from error


def _named(temporary: Path, target: Path) -> bool:
    """Give the file its name unless that is taken, in one step: a second process may sort into the same folder."""
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            return False
        temporary.rename(target)
    return True
