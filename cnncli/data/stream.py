"""Images that are decoded anew each epoch: where they fit neither into memory nor into the cache."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from cnncli.data.bad import BAD_SHARE, refuse_too_many
from cnncli.data.decode import BadImage
from cnncli.data.form import Form, Image
from cnncli.data.held import MOST_MEASURED, Boxes, Indices, Progress, spaced
from cnncli.data.pixels import labels_of, samples_of
from cnncli.data.source import Sample, Source
from cnncli.data.threads import in_order, usual_threads
from cnncli.errors import CnnError, printable

MOST_OPENED = 2**24  # bytes of decoded images that a thread gathers before it crops them
MOST_CHECKED = 1000  # images that are decoded before training begins


class StreamPixels:
    """The images of a split, decoded when a batch is made; see `Held`.

    An image that turns out bad is left out of its batch, told in `bad`, and not tried again. More than 1 % of the split are
    a CnnError (exit code 1): whatever took them away will take more.
    """

    def __init__(self, source: Source, form: Form, samples: tuple[Sample, ...], bad: Sequence[BadImage]) -> None:
        self.source, self.form, self.samples = source, form, samples
        self.labels = labels_of(samples)
        self._left_out = list(bad)
        self._lost: set[int] = set()
        self._lock = threading.Lock()

    @property
    def bad(self) -> Sequence[BadImage]:
        """What was left out so far."""
        return tuple(self._left_out)

    def __len__(self) -> int:
        return len(self.samples)

    def fill(self, indices: Indices, out: torch.Tensor, boxes: Boxes | None) -> list[int]:
        """See `Held`. Crops are cut from all pixels of the original: nothing is kept, so nothing has to be small."""
        failed: list[int] = []
        opened: list[tuple[int, Image]] = []
        for place, index in enumerate(indices):
            try:
                if index in self._lost:
                    failed.append(place)
                elif boxes is None:
                    out[place] = torch.from_numpy(self.form.decode(self.source, self.samples[index])[0])
                else:
                    opened.append((place, self.form.open(self.source, self.samples[index])[0]))
            except BadImage as error:
                self._lose(int(index), error)
                failed.append(place)
            if boxes is not None and (sum(image.nbytes for _, image in opened) > MOST_OPENED or place == len(indices) - 1):
                self._crop(opened, indices, out, boxes)
                opened = []
        return failed

    def _crop(self, opened: list[tuple[int, Image]], indices: Indices, out: torch.Tensor, boxes: Boxes) -> None:
        """Several at once: drawing a box takes as long for eight images as for one."""
        if opened:
            sizes = np.array([image.shape[:2] for _, image in opened])
            for (place, image), box in zip(opened, boxes(indices[[place for place, _ in opened]], sizes), strict=True):
                out[place] = self.form.crop(image, box)

    def some(self) -> torch.Tensor:
        """See `Held`: of at most MOST_CHECKED images, which are decoded once more."""
        images = []
        for index in spaced(len(self), min(MOST_CHECKED, MOST_MEASURED // self.form.bytes)):
            try:
                image, _ = self.form.decode(self.source, self.samples[index])
            except BadImage as error:
                self._lose(int(index), error)
                continue
            images.append(torch.from_numpy(image.transpose(2, 0, 1) if self.form.whole else image))
        return torch.stack(images)

    def _lose(self, index: int, error: BadImage) -> None:
        with self._lock:
            if index in self._lost:
                return
            self._lost.add(index)
            self._left_out.append(error)
            share = len(self._lost) / len(self)
        if share > BAD_SHARE:
            raise CnnError(
                f"{len(self._lost)} of {len(self)} images ({share:.1%}) could not be read while they were needed,"
                f" more than {BAD_SHARE:.0%}; the last is {printable(error.name)}: {error.reason}",
                "check the disk or the network share; `cnn data` lists all bad images",
                path=error.name,
            ) from error


def open_stream(
    source: Source, split: str, form: Form, *, skip_bad: bool, threads: int | None = None, on_progress: Progress | None = None
) -> StreamPixels:
    """A split to be streamed. At most MOST_CHECKED images, evenly spaced, are decoded first; bad ones count as in `load_pixels`.

    skip_bad: leave bad ones out instead of raising the first one's BadImage. InputError: too many are bad.
    """
    samples = samples_of(source, split)
    checked = spaced(len(samples), MOST_CHECKED)

    def check(place: int) -> tuple[int, BadImage | None]:
        index = int(checked[place])
        try:
            form.open(source, samples[index])
        except BadImage as error:
            if not skip_bad:
                raise
            return index, error
        return index, None

    bad: dict[int, BadImage] = {}
    for done, (index, error) in enumerate(in_order(check, range(len(checked)), threads or usual_threads()), start=1):
        if error:
            bad[index] = error
        if on_progress:
            on_progress(done, len(checked))
    refuse_too_many(source, split, samples, bad, looked_at=len(checked))
    kept = tuple(sample for index, sample in enumerate(samples) if index not in bad)
    return StreamPixels(source, form, kept, tuple(bad.values()))
