"""Which files below a folder are images: hidden and junk names, links, loops, FIFOs and files of other kinds sorted out and told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cnncli.data.classes import some
from cnncli.errors import InputError, printable
from cnncli.sniff import IMAGE_KINDS, sniff, what_is_wrong

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "lost+found", "#recycle"})
JUNK_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass
class Walk:
    """One walk over the folders of a data set; it remembers what it left out.

    root: the data set's folder. Paths in results and notices are relative to it.
    include_hidden: keep hidden and junk folders and hidden files (never `.DS_Store`, `Thumbs.db`, `._*`).
    """

    root: Path
    include_hidden: bool = False
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    inward: list[str] = field(default_factory=list)
    _visited: set[tuple[int, int]] = field(default_factory=set)

    def folders_and_images(self, folder: str) -> tuple[list[str], list[str]]:
        """The folders and the images directly in `folder` ("" is the root), as sorted paths relative to the root.

        A link to a folder inside the root is not followed: what it points at is visited where it is, under its own class.
        InputError when the folder cannot be read.
        """
        folders, images = [], []
        for entry in self._entries(folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                if self._is_hidden_folder(entry.name):
                    self.hidden.append(path)
                elif entry.is_symlink() and self._points_inward(entry.path):
                    self.inward.append(path)
                else:
                    folders.append(path)
            elif self._is_image(entry, path):
                images.append(path)
        return folders, images

    def images(self, folder: str) -> list[str]:
        """All images in `folder` and below, sorted; each real folder is visited once."""
        found: list[str] = []
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            status = (self.root / here).stat()
            if (status.st_dev, status.st_ino) in self._visited:
                self.inward.append(here)
                continue
            self._visited.add((status.st_dev, status.st_ino))
            folders, images = self.folders_and_images(here)
            found += images
            waiting += folders
        return sorted(found)

    def notices(self) -> tuple[str, ...]:
        """What was left out, one line for each kind of it."""
        told = (
            (self.hidden, "ignored hidden or junk: {} (--include-hidden keeps them)"),
            (self.others, "ignored {count} files that are not images: {}"),
            (self.special, "skipped what is not a regular file: {}"),
            (self.dangling, "skipped links that point nowhere: {}"),
            (self.inward, "skipped links to folders that are read elsewhere: {}"),
        )
        return tuple(line.format(some(paths), count=len(paths)) for paths, line in told if paths)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        path = self.root / folder
        try:
            with os.scandir(path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"cannot read folder {printable(path)}: {(error.strerror or 'error').lower()}", "check its permissions", path=str(path)
            ) from error

    def _is_hidden_folder(self, name: str) -> bool:
        return not self.include_hidden and (name.startswith(".") or name in JUNK_FOLDERS)

    def _points_inward(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def _is_image(self, entry: os.DirEntry[str], path: str) -> bool:
        name = entry.name
        if name.lower() in JUNK_FILES or name.startswith("._"):  # "._x.jpg" is macOS metadata (AppleDouble) beside x.jpg
            return False
        if not _is_file(entry):
            self._tell_not_a_file(entry, path)
            return False
        if name.startswith(".") and not self.include_hidden:
            self.hidden.append(path)
            return False
        if PurePosixPath(name).suffix.lower() in EXTENSIONS or sniff(entry.path) in IMAGE_KINDS:
            return True
        self.others.append(path)
        return False

    def _tell_not_a_file(self, entry: os.DirEntry[str], path: str) -> None:
        kind = sniff(entry.path)
        if kind in {"missing", "unreadable"}:  # a dangling link, or one that points at itself
            self.dangling.append(path)
        else:
            self.special.append(f"{path} ({what_is_wrong(kind)})")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself, or at a place that may not be looked at
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
