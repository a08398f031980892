"""Decoded pixels in memory: every image of a split decoded once, fully, before anything is trained or judged on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cnncli.data.decode import MAX_PIXELS, BadImage
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, Source
from cnncli.errors import EnvironmentFault, InputError, printable

BAD_SHARE = 0.01  # above this share of bad images a source is refused: something is wrong with the copy, not with a few files
MEMORY_SHARE = 0.7  # of what is available; the rest is for the model, the batches and the machine's other work
MOST_THREADS = 8  # decoding leaves the interpreter's lock, but beyond this the threads wait for it all the same
CHUNK = 32  # images a task: large enough that tiny images do not drown in bookkeeping, small enough for a smooth progress bar

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pixels:
    """One split in memory.

    images: uint8 [N, C, H, W].
    labels: int64 [N].
    samples: the N samples, in the order of the source.
    bad: what was left out, each with its reason.
    """

    images: torch.Tensor
    labels: torch.Tensor
    samples: tuple[Sample, ...]
    bad: tuple[BadImage, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)


def load_pixels(
    source: Source,
    split: str,
    preprocess: Preprocess,
    *,
    bad_images: Literal["skip", "error"] = "skip",
    max_pixels: int = MAX_PIXELS,
    on_progress: Progress | None = None,
) -> Pixels:
    """Decode and preprocess the images of `split`, in the source's order whatever the number of threads.

    bad_images: "error" raises the first BadImage; "skip" leaves bad ones out and lists them in `bad`, but raises InputError when they
    are more than 1 % of the source or all of a class of the split. A bad image is never replaced by another one.
    on_progress: called in this thread with (images done, images in all).

    InputError: the split has no images. EnvironmentFault: they would need more than 70 % of the available memory.
    """
    samples = source.samples(split)
    if not samples:
        raise InputError(f"split {split} of {printable(source.name)} has no images", "choose another split", path=source.name)
    shape = (len(samples), preprocess.channels, preprocess.height, preprocess.width)
    _check_memory(shape, source.name)
    images = np.empty(shape, dtype=np.uint8)
    how = preprocess.decoding(max_pixels)

    def fill(first: int) -> list[tuple[int, BadImage]]:
        bad = []
        for index in range(first, min(first + CHUNK, len(samples))):
            try:
                images[index] = preprocess.pixels(source.read(samples[index], how))
            except BadImage as error:
                if bad_images == "error":
                    raise
                bad.append((index, error))
        return bad

    bad: dict[int, BadImage] = {}
    for first, found in _in_order(fill, range(0, len(samples), CHUNK)):
        bad.update(found)
        if on_progress:
            on_progress(min(first + CHUNK, len(samples)), len(samples))
    if bad:
        _refuse_too_many(source, split, samples, bad)
        keep = [index for index in range(len(samples)) if index not in bad]
        for place, index in enumerate(keep):  # moved within the array: a copy would need the memory twice
            if place != index:
                images[place] = images[index]
        images, samples = images[: len(keep)], tuple(samples[index] for index in keep)
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    return Pixels(torch.from_numpy(images), labels, samples, tuple(bad.values()))


def available_memory() -> int | None:
    """Bytes that can still be used without swapping: the machine's, or the container's if that is less; None where neither is told."""
    known: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        known += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    try:
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text("ascii"))
        # Files read before still lie in memory and count as used, but make room when it is needed.
        lines = (group / "memory.stat").read_text("ascii").splitlines()
        used -= sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        known.append(int((group / "memory.max").read_text("ascii")) - used)
    except (OSError, ValueError):
        pass  # no control group, or one without a limit ("max")
    return max(0, min(known)) if known else None


def _in_order(task: Callable[[int], list[tuple[int, BadImage]]], starts: range) -> Iterator[tuple[int, list[tuple[int, BadImage]]]]:
    """`task` of every start, by a few threads; results in order, so that the first error is always the same one."""
    with ThreadPoolExecutor(max_workers=min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)) as pool:
        try:
            yield from zip(starts, pool.map(task, starts), strict=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # after an error or Ctrl-C the rest is not decoded


def _check_memory(shape: tuple[int, int, int, int], name: str) -> None:
    needed, available = int(np.prod(shape, dtype=np.int64)), available_memory()
    if available is not None and needed > MEMORY_SHARE * available:
        count, _, height, width = shape
        raise EnvironmentFault(
            f"{count:,} images of {height}x{width} of {printable(name)} need {needed / 1e9:.1f} GB of memory,"
            f" {MEMORY_SHARE:.0%} of the {available / 1e9:.1f} GB available is allowed",
            "use a smaller --input or fewer images",
            path=name,
        )


def _refuse_too_many(source: Source, split: str, samples: tuple[Sample, ...], bad: dict[int, BadImage]) -> None:
    first = next(iter(bad.values()))
    told = f"the first is {printable(first.name)}: {first.reason}"
    total = sum(map(len, source.splits.values()))  # of the whole source: one bad image in a small validation split is still one
    share = len(bad) / total
    if share > BAD_SHARE:
        raise InputError(
            f"{len(bad)} of {total} images ({share:.1%}) of {printable(source.name)}, split {split}, cannot be read,"
            f" more than {BAD_SHARE:.0%}; {told}",
            "repair or remove them; --bad-images error stops at the first",
            path=first.name,
        )
    before = Counter(sample.label for sample in samples)
    lost = Counter(samples[index].label for index in bad)
    for label, count in lost.items():
        if count == before[label]:
            raise InputError(
                f"class {printable(source.classes[label])} of {printable(source.name)}, split {split}, has no readable image"
                f" ({count} cannot be read); {told}",
                "repair them or remove the class",
                path=first.name,
            )
