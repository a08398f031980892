"""The images that `predict` is asked about: files, folders, patterns, standard input; in the order given."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from cnncli.data.decode import MAX_STREAM_BYTES, Decoding, decode
from cnncli.data.walk import Walk
from cnncli.errors import InputError
from cnncli.sniff import HEAD_BYTES, IMAGE_KINDS, sniff_bytes

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One image to look at. name: as it is reported. data: its bytes, where it came through standard input."""

    name: str
    data: bytes | None = None

    def read(self, how: Decoding) -> Image.Image:
        """The pixels, mode "L" or "RGB"; BadImage when they cannot be decoded."""
        return decode(Path(self.name) if self.data is None else self.data, name=self.name, how=how)


def expand(arguments: Sequence[str], stdin: BinaryIO) -> Iterator[Input]:
    """The images behind `arguments`, one after the other, without looking into them.

    A folder stands for all images below it, sorted. A pattern (`*.jpg`, `**/*.png`) for the files that match, sorted. `-` for
    standard input: one image, or a list with one path a line. InputError for a path, pattern or folder that gives nothing.
    """
    for argument in arguments:
        if argument == STDIN:
            yield from _from_stdin(stdin)
        elif os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir fails where a name is too long
            yield from _from_folder(argument)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            if not os.path.lexists(argument):
                raise InputError(
                    f"no such image: {argument}", "give a file, a folder, a pattern in quotes, or - for standard input", path=argument
                )
            yield Input(argument)
        else:
            matches = sorted(path for path in glob.iglob(argument, recursive=True) if Path(path).is_file())  # noqa: PTH207 - absolute patterns too
            if not matches:
                raise InputError(f"no file matches {argument}", "check the pattern", path=argument)
            yield from map(Input, matches)


def _from_folder(folder: str) -> Iterator[Input]:
    images = Walk(Path(folder)).images("")
    if not images:
        raise InputError(f"no image in folder {folder}", "give a folder that holds images", path=folder)
    yield from (Input(str(Path(folder) / image)) for image in images)


def _from_stdin(stdin: BinaryIO) -> Iterator[Input]:
    head = stdin.read(HEAD_BYTES)
    if not head:
        raise InputError("standard input is empty", "pipe in an image, or a list with one path a line", path=STDIN)
    if sniff_bytes(head) in IMAGE_KINDS:
        yield Input(STDIN, head + stdin.read(MAX_STREAM_BYTES))
        return
    line = head
    while line:
        *whole, line = line.split(b"\n")
        yield from (Input(os.fsdecode(path.rstrip(b"\r"))) for path in whole if path.strip())
        more = stdin.readline()
        if not more:
            break
        line += more
    if line.strip():
        yield Input(os.fsdecode(line.rstrip(b"\r")))
