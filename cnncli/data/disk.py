"""Images of a split in a cache on the disk: each file decoded once, for all epochs and all runs.

Records are written and flushed before the index that names them, so a cache that was interrupted holds what it had reached,
and the next run goes on from there. The memory that training needs does not grow with the cache: records are read into a
buffer of one record, and what the system keeps of the file it gives back when others want it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data import cache, cache_index
from cnncli.data.bad import refuse_too_many
from cnncli.data.cache import Tell
from cnncli.data.cache_index import PIXELS, Index, Rows
from cnncli.data.decode import BadImage
from cnncli.data.form import Form, Size
from cnncli.data.held import CHUNK, MOST_MEASURED, Boxes, Indices, Progress, spaced
from cnncli.data.pixels import labels_of, samples_of
from cnncli.data.source import Sample, Source
from cnncli.data.threads import in_order
from cnncli.errors import EnvironmentFault

FLUSH_EVERY = 2**28  # bytes of pixels between two flushes: what a kill can cost


class DiskPixels:
    """The images of a split in a cache; see `Held`. rows: of the samples. in_use: the lock that it keeps as long as it lives.

    The lock and the file of pixels are closed when nobody has this any more: threads that read ahead may have it longest.
    file_sizes: int64 [N], bytes of the files when they were decoded.
    """

    def __init__(
        self,
        folder: Path,
        form: Form,
        samples: tuple[Sample, ...],
        *,
        rows: Rows,
        bad: Sequence[BadImage],
        in_use: IO[bytes] | None,
    ) -> None:
        self.form, self.samples, self.bad = form, samples, tuple(bad)
        self.labels = labels_of(samples)
        self.file_sizes = rows["bytes"].astype(np.int64)
        self._records = rows["record"].tolist()
        self._sizes = np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64)
        self._path = folder / PIXELS
        self._file = self._path.open("rb", buffering=0)
        weakref.finalize(self, _close, self._file, in_use).atexit = False  # then a thread may still read

    def __len__(self) -> int:
        return len(self.samples)

    def fill(self, indices: Indices, out: torch.Tensor, boxes: Boxes | None) -> list[int]:
        """See `Held`. EnvironmentFault when the cache cannot be read."""
        if boxes is None:
            target = out.numpy()
            for place, index in enumerate(indices):
                self._read(index, target[place])
            return []
        record = np.empty(self.form.shape, dtype=np.uint8)
        for place, (index, box) in enumerate(zip(indices, boxes(indices, self._sizes[indices]), strict=True)):
            self._read(index, record)
            out[place] = self.form.crop(record, box)
        return []

    def some(self) -> torch.Tensor:
        """See `Held`."""
        indices = spaced(len(self), MOST_MEASURED // self.form.bytes)
        images = np.empty((len(indices), *self.form.shape), dtype=np.uint8)
        for place, index in enumerate(indices):
            self._read(index, images[place])
        return torch.from_numpy(images.transpose(0, 3, 1, 2) if self.form.whole else images)

    def _read(self, index: int, record: npt.NDArray[np.uint8]) -> None:
        try:
            got = os.preadv(self._file.fileno(), [record.data.cast("B")], self._records[index] * self.form.bytes)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot read {self._path}: {error.strerror}", "cnn data --clear-cache removes it", path=str(self._path)
            ) from error
        if got != self.form.bytes:
            raise EnvironmentFault(f"{self._path} has become shorter while it was in use", "run the command again", path=str(self._path))


@dataclass(frozen=True)
class Disk:
    """How caches are used.

    limit: bytes that all caches together may take; the least recently used ones that no run uses make room. skip_bad: leave bad
    images out instead of raising the first one's BadImage. tell: gets a line for the user. on_progress: as in `load_pixels`.
    """

    limit: float
    skip_bad: bool
    threads: int
    tell: Tell
    on_progress: Progress | None = None

    def open(self, source: Source, split: str, form: Form) -> DiskPixels | None:
        """The images of a split in their cache, which is completed first; None, and `tell` says why, where there can be none.

        InputError: too many images are bad. EnvironmentFault: the disk gave out while the cache was written.
        """
        everything = source.samples("all")  # so that all splits share a cache
        ends = _files(source, [min(everything, key=_path), max(everything, key=_path)])
        files = _files(source, source.samples(split))
        if files is None or ends is None or not hasattr(os, "preadv"):
            return None
        common = os.path.commonpath([os.path.dirname(file) for file in ends])  # noqa: PTH120 - texts
        folder = cache.place_of(Path(common), form)
        if folder is None:
            self.tell("no cache of decoded images: there is no home folder; set CNN_CACHE to a folder that can be written")
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            in_use = cache.locked(folder / cache.LOCK, shared=True)
            opened = None
            try:
                with cache.building(folder, self.tell):
                    opened = self._completed(source, split, form, files=files, folder=folder, in_use=in_use)
                return opened
            finally:
                if opened is None and in_use is not None:
                    in_use.close()
        except OSError as error:
            self.tell(f"no cache of decoded images: {folder}: {error.strerror or error}; set CNN_CACHE to a folder that can be written")
            return None

    def _completed(
        self, source: Source, split: str, form: Form, *, files: list[str], folder: Path, in_use: IO[bytes] | None
    ) -> DiskPixels | None:
        samples, index = samples_of(source, split), cache_index.load(folder, form)
        rows, missing = cache_index.match(files, index)
        if missing:
            needed = len(missing) * form.bytes
            if reason := cache.why_no_room(folder, needed, self.limit):
                self.tell(f"no cache of decoded images: its {needed / 1e9:.1f} GB {reason}")
                return None
            if needed >= FLUSH_EVERY:
                self.tell(f"decoding {len(missing):,} images into a cache of {needed / 1e9:.1f} GB: {folder}")
        bad = _Build(self, source, samples, form, files, rows, folder).run(missing, index) if missing else {}
        refuse_too_many(source, split, samples, bad)
        os.utime(folder / cache_index.INDEX)  # the least recently used cache is the first to go
        keep = [number for number in range(len(samples)) if number not in bad]
        return DiskPixels(folder, form, tuple(samples[number] for number in keep), rows=rows[keep], bad=tuple(bad.values()), in_use=in_use)


@dataclass
class _Build:
    """Decoding what a cache lacks. rows: of all samples; those of missing ones are filled in."""

    disk: Disk
    source: Source
    samples: tuple[Sample, ...]
    form: Form
    files: list[str]
    rows: Rows
    folder: Path

    def run(self, missing: Sequence[int], index: Index) -> dict[int, BadImage]:
        """Decode the missing samples into records behind those of the index. The bad ones, by number."""
        bad: dict[int, BadImage] = {}
        reached: list[int] = []
        done = 0
        try:
            descriptor = os.open(self.folder / PIXELS, os.O_RDWR | os.O_CREAT, 0o666)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                try:
                    decoding = self._decode(file, missing, index.records)
                    for found in in_order(decoding, range(0, len(missing), CHUNK), self.disk.threads):
                        for number, result in found:
                            if isinstance(result, BadImage):
                                bad[number] = result
                            else:
                                self.rows[number]["height"], self.rows[number]["width"] = result
                                reached.append(number)
                        done += len(found)
                        if self.disk.on_progress:
                            self.disk.on_progress(done, len(missing))
                        if len(reached) * self.form.bytes >= FLUSH_EVERY:
                            index, reached = self._save(file, reached, index), []
                finally:  # Ctrl-C, too, keeps what was reached
                    self._save(file, reached, index)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write {self.folder / PIXELS}: {error.strerror or error}",
                "free space, use --store stream, or set CNN_CACHE to another disk",
                path=str(self.folder / PIXELS),
            ) from error
        return bad

    def _decode(self, file: IO[bytes], missing: Sequence[int], first: int) -> Callable[[int], list[tuple[int, Size | BadImage]]]:
        """A task for threads: CHUNK of the missing samples, from a place on, into records from `first` on."""

        def decode(start: int) -> list[tuple[int, Size | BadImage]]:
            found: list[tuple[int, Size | BadImage]] = []
            for place in range(start, min(start + CHUNK, len(missing))):
                number = missing[place]
                try:
                    image, size = self.form.decode(self.source, self.samples[number])
                except BadImage as error:
                    if not self.disk.skip_bad:
                        raise
                    found.append((number, error))
                    continue
                _write_all(file, image.data.cast("B"), (first + place) * self.form.bytes)
                self.rows[number]["record"] = first + place
                found.append((number, size))
            return found

        return decode

    def _save(self, file: IO[bytes], reached: Sequence[int], index: Index) -> Index:
        os.fsync(file.fileno())
        index = index.with_rows([self.files[number] for number in reached], self.rows[list(reached)])
        cache_index.save(self.folder, self.form, index)
        return index


def _close(*files: IO[bytes] | None) -> None:
    for file in files:
        if file is not None:
            file.close()


def _write_all(file: IO[bytes], data: memoryview, place: int) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, place)
        data, place = data[written:], place + written


def _files(source: Source, samples: Sequence[Sample]) -> list[str] | None:
    """The paths of the samples' files; None where one is no file of its own."""
    files = []
    for sample in samples:
        try:
            place = source.locate(sample)
        except OSError:
            return None
        if not isinstance(place, Path):
            return None
        file = str(place)
        files.append(file if file.startswith("/") else os.path.abspath(file))  # noqa: PTH100 - a hundred thousand of them
    return files


def _path(sample: Sample) -> str:
    return sample.path
