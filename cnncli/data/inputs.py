"""The images that `predict` is asked about: files, folders, patterns, standard input; in the order given, one after the other.

Only names are held: those of one folder and of the folders above it, or all that a pattern matches. A million images take no more
memory than a thousand.
"""

from __future__ import annotations

import glob
import os
import re
import select
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from cnncli.data.decode import MAX_STREAM_BYTES, BadImage, Decoding, contents, decode
from cnncli.data.jpeg import decode_array
from cnncli.data.modes import as_mode
from cnncli.data.walk import Walk
from cnncli.errors import InputError, UsageError
from cnncli.sniff import HEAD_BYTES, sniff_bytes

STDIN = "-"
CHUNK = 2**16  # bytes, what a pipe holds
LONGEST_LINE = 2**20  # bytes; no system has longer paths, so what goes on without an end is no list
PATIENCE = 0.2  # seconds that standard input may be silent before what it has named is worked on
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Input:
    """One image to look at. name: as it is reported. data: its bytes, where it came through standard input. fault: why there is none."""

    name: str
    data: bytes | None = None
    fault: BadImage | None = None

    def read(self, how: Decoding, channels: int = 3) -> Image.Image:
        """The pixels, mode "L" (channels is 1) or "RGB" (3); BadImage when they cannot be decoded."""
        if self.fault is not None:
            raise self.fault
        found = contents(Path(self.name) if self.data is None else self.data, self.name)
        if isinstance(found, Path) or sniff_bytes(found[:HEAD_BYTES]) != "jpeg":  # an array would only be a detour
            return as_mode(decode(found, name=self.name, how=how), "L" if channels == 1 else "RGB")
        array = decode_array(found, name=self.name, how=how, channels=1 if channels == 1 else 3)
        return Image.fromarray(array[..., 0] if channels == 1 else array)


def expand(arguments: Sequence[str], stdin: BinaryIO | None, *, left_out: Path | None = None) -> Iterator[Input | None]:
    """The images behind `arguments`, one after the other, without looking into them.

    A folder stands for all images below it, in the order of their paths. A pattern (`*.jpg`, `**/*.png`) for the files that match,
    sorted. `-` for standard input: one image, or a list with one path a line (or with a zero byte after each, as `find -print0`
    writes). None says that a list has paused, so that what came before need not wait for what follows.
    left_out: a folder that is not looked into.

    At once, before the first image: InputError for a path, pattern or folder that gives nothing, and for an address; UsageError for a
    folder that lies within `left_out`, or a second `-`. A folder further down that cannot be read counts as one bad image.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("- is given twice, and standard input can be read once", "give it once", path=STDIN)
    away = None if left_out is None else Path(os.path.realpath(left_out))
    return chain.from_iterable([_behind(argument, stdin, away) for argument in arguments])


def _behind(argument: str, stdin: BinaryIO | None, away: Path | None) -> Iterable[Input | None]:
    if argument == STDIN:
        return _from_stdin(stdin)
    if os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir fails where a name is too long
        return _from_folder(argument, away)
    if os.path.lexists(argument):
        return (Input(argument),)
    if ADDRESS.match(argument):
        raise InputError(
            f"{argument} is an address, and images are read from files", f"download it first: curl -O {argument}", path=argument
        )
    if not glob.has_magic(argument):
        raise InputError(f"no such image: {argument}", "give a file, a folder, a pattern in quotes, or - for standard input", path=argument)
    matches = sorted(path for path in glob.iglob(argument, recursive=True) if Path(path).is_file() and not _within(path, away))  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise InputError(f"no file matches {argument}", "check the pattern", path=argument)
    return map(Input, matches)


def _from_folder(folder: str, away: Path | None) -> Iterator[Input]:
    if away is not None and Path(os.path.realpath(folder)).is_relative_to(away):
        raise UsageError(f"{folder} is where sorted images go", "give the folder that they come from", path=folder)
    images = _below(folder, away)
    first = next(images, None)
    if first is None:
        raise InputError(f"no image in folder {folder}", "give a folder that holds images", path=folder)
    return chain((first,), images)


def _below(folder: str, away: Path | None) -> Iterator[Input]:
    """All images below a folder, in the order of their paths; each real folder is visited once, `away` never."""
    walk = Walk(Path(folder))
    visited: set[tuple[int, int]] = set()
    waiting = [""]  # a stack: folders, with a slash at their end, and images
    while waiting:
        path = waiting.pop()
        if path and not path.endswith("/"):
            yield Input(str(Path(folder) / path))
            continue
        here = Path(folder) / path
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in visited or (away is not None and os.path.realpath(here) == str(away)):
                continue
            visited.add((status.st_dev, status.st_ino))
            folders, images = walk.folders_and_images(path.rstrip("/"))
        except (InputError, OSError) as error:
            if not path and isinstance(error, InputError):
                raise
            reason = error.strerror if isinstance(error, OSError) else getattr(error.__cause__, "strerror", None)
            yield Input(str(here), fault=BadImage(here, f"a folder that cannot be read ({(reason or 'error').lower()})"))
            continue
        # "a/" before "a0", after "a-": so sorted, what lies below comes in the order of the whole paths.
        waiting += sorted([*(f"{name}/" for name in folders), *images], reverse=True)


def _within(path: str, away: Path | None) -> bool:
    return away is not None and _real_folder(str(Path(path).parent)).is_relative_to(away)


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> Path:
    return Path(os.path.realpath(folder))


def _from_stdin(stdin: BinaryIO | None) -> Iterator[Input | None]:
    chunks = iter(()) if stdin is None else _chunks(stdin)
    head = b""
    for chunk in chunks:
        if chunk is None:
            yield None
        head += chunk or b""
        if len(head) >= HEAD_BYTES or (b"\n" in head and sniff_bytes(head) == "text"):
            break
    if not head:
        raise InputError("standard input is empty", "pipe in an image, or a list with one path a line", path=STDIN)
    if stdin is not None and sniff_bytes(head[:HEAD_BYTES]) not in {"text", "unknown"}:
        yield Input(STDIN, head + stdin.read(MAX_STREAM_BYTES))
        return
    separator = b"\0" if b"\0" in head else b"\n"
    for line in _lines(chain((head,), chunks), separator):
        path = line if line is None or separator == b"\0" else line.rstrip(b"\r")
        if path is None:
            yield None
        elif path.strip():
            yield _listed(os.fsdecode(path))


def _listed(path: str) -> Input:
    if ADDRESS.match(path) and not os.path.lexists(path):
        return Input(path, fault=BadImage(path, "an address, not a file: download it first"))
    return Input(path)


def _lines(chunks: Iterable[bytes | None], separator: bytes) -> Iterator[bytes | None]:
    """What lies between separators; None where a chunk is None."""
    line = b""
    for chunk in chunks:
        if chunk is None:
            yield None
            continue
        *whole, line = (line + chunk).split(separator)
        yield from whole
        if len(line) > LONGEST_LINE:
            raise InputError("standard input is neither an image nor a list of paths", "one path a line", path=STDIN)
    yield line


def _chunks(stdin: BinaryIO) -> Iterator[bytes | None]:
    """What arrives, as it arrives; before a wait that is longer than PATIENCE, None."""
    read = getattr(stdin, "read1", stdin.read)  # at most one call of the system's, which gives what there is
    while True:
        if not _has_more(stdin):
            yield None
        chunk = read(CHUNK)
        if not chunk:
            return
        yield chunk


def _has_more(stdin: BinaryIO) -> bool:
    """Whether reading would give something (the end, too) within PATIENCE."""
    try:
        return bool(select.select([stdin], [], [], PATIENCE)[0])
    except (OSError, ValueError):  # nothing that the system could watch: bytes in memory, or a pipe on Windows
        return True
