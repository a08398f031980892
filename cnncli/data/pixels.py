"""Decoded pixels in memory: every image of a split decoded once, fully, before anything is trained or judged on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.bad import refuse_too_many
from cnncli.data.decode import MAX_PIXELS, BadImage
from cnncli.data.form import Form
from cnncli.data.held import CHUNK, Boxes, Indices, Progress
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, Source
from cnncli.data.threads import in_order, usual_threads
from cnncli.errors import EnvironmentFault, InputError, printable

MEMORY_SHARE = 0.7  # of what is available; the rest is for the model, the batches and the machine's other work


@dataclass(frozen=True)
class Pixels:
    """One split in memory.

    images: uint8, [N, C, H, W] of exact images, [N, H, W, C] of whole ones.
    labels: int64 [N].
    samples: the N samples, in the order of the source.
    bad: what was left out, each with its reason.
    kept_as: how; None where the images are exactly what the network sees.
    sizes: int64 [N, 2], heights and widths of the upright images; of whole images alone.
    """

    images: torch.Tensor
    labels: torch.Tensor
    samples: tuple[Sample, ...]
    bad: Sequence[BadImage] = ()
    kept_as: Form | None = None
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    @property
    def form(self) -> Form:
        """See `Held`."""
        return self.kept_as or Form(Preprocess(*self.images.shape[1:]))

    def __len__(self) -> int:
        return len(self.samples)

    def fill(self, indices: Indices, out: torch.Tensor, boxes: Boxes | None) -> list[int]:
        """See `Held`. Nothing can become unreadable here."""
        if boxes is None:
            torch.index_select(self.images, 0, torch.from_numpy(indices), out=out)
            return []
        images = self.images.numpy()
        for place, (index, box) in enumerate(zip(indices, boxes(indices, self.sizes[indices]), strict=True)):
            out[place] = self.form.crop(images[index], box)
        return []

    def some(self) -> torch.Tensor:
        """See `Held`: all of them."""
        return self.images.permute(0, 3, 1, 2) if self.form.whole else self.images


def load_pixels(
    source: Source,
    split: str,
    preprocess: Preprocess,
    *,
    whole: bool = False,
    bad_images: Literal["skip", "any", "error"] = "skip",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Pixels:
    """Decode and preprocess the images of `split`, in the source's order whatever the number of threads.

    whole: keep whole images, to be cropped anew each epoch.
    bad_images: "error" raises the first BadImage; "skip" leaves bad ones out and lists them in `bad`, but raises InputError when they
    are more than 1 % of the source or all of a class of the split; "any" leaves out as many as there are, but one must be left. A bad
    image is never replaced by another one.
    on_progress: called in this thread with (images done, images in all).

    InputError: the split has no images. EnvironmentFault: they would need more than 70 % of the available memory.
    """
    samples, form = samples_of(source, split), Form(preprocess, whole, max_pixels)
    _check_memory(len(samples), form, source.name)
    images = np.empty((len(samples), *form.shape), dtype=np.uint8)
    sizes = np.zeros((len(samples), 2), dtype=np.int64)

    def fill(first: int) -> list[tuple[int, BadImage]]:
        bad = []
        for index in range(first, min(first + CHUNK, len(samples))):
            try:
                images[index], sizes[index] = form.decode(source, samples[index])
            except BadImage as error:
                if bad_images == "error":
                    raise
                bad.append((index, error))
        return bad

    bad: dict[int, BadImage] = {}
    starts = range(0, len(samples), CHUNK)
    for first, found in zip(starts, in_order(fill, starts, threads or usual_threads()), strict=True):
        bad.update(found)
        if on_progress:
            on_progress(min(first + CHUNK, len(samples)), len(samples))
    if bad:
        if bad_images == "any" and len(bad) == len(samples):
            raise InputError(f"no image could be read: {next(iter(bad.values())).message}", "give image files", path=samples[0].path)
        if bad_images != "any":
            refuse_too_many(source, split, samples, bad)
        keep = [index for index in range(len(samples)) if index not in bad]
        for place, index in enumerate(keep):  # moved within the array: a copy would need the memory twice
            if place != index:
                images[place] = images[index]
        images, sizes, samples = images[: len(keep)], sizes[keep], tuple(samples[index] for index in keep)
    return Pixels(torch.from_numpy(images), labels_of(samples), samples, tuple(bad.values()), form, sizes)


def samples_of(source: Source, split: str) -> tuple[Sample, ...]:
    """The samples of a split. InputError when it is empty."""
    if samples := source.samples(split):
        return samples
    raise InputError(f"split {split} of {printable(source.name)} has no images", "choose another split", path=source.name)


def labels_of(samples: Sequence[Sample]) -> torch.Tensor:
    """int64 [N]."""
    return torch.tensor([sample.label for sample in samples], dtype=torch.int64)


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


def _check_memory(count: int, form: Form, name: str) -> None:
    needed, available = count * form.bytes, available_memory()
    if available is not None and needed > MEMORY_SHARE * available:
        size = f"{form.preprocess.height}x{form.preprocess.width}"
        raise EnvironmentFault(
            f"{count:,} images of {size} of {printable(name)} need {needed / 1e9:.1f} GB of memory,"
            f" {MEMORY_SHARE:.0%} of the {available / 1e9:.1f} GB available is allowed",
            "use --store disk, a smaller --input or fewer images",
            path=name,
        )
