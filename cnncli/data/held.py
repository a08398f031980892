"""What images of a split have in common wherever they are kept: in memory, in a cache on the disk, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from cnncli.data.decode import BadImage
from cnncli.data.form import Box, Form
from cnncli.data.source import Sample

MOST_MEASURED = 2**28  # bytes of images whose statistics stand for all
CHUNK = 8  # images a task: so many that tiny images do not drown in bookkeeping, and few enough for two threads to share a batch

Indices = npt.NDArray[np.int64]
# (indices [N], heights and widths [N, 2]) -> boxes [N, 4]
Boxes = Callable[[Indices, npt.NDArray[np.int64]], Box]
Progress = Callable[[int, int], None]


class Held(Protocol):
    """The images of one split."""

    @property
    def form(self) -> Form:
        """How the images are kept."""

    @property
    def labels(self) -> torch.Tensor:
        """int64 [N]."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """In the source's order, without those that were left out before the first batch."""

    @property
    def bad(self) -> Sequence[BadImage]:
        """What was left out so far."""

    def __len__(self) -> int: ...

    def fill(self, indices: Indices, out: torch.Tensor, boxes: Boxes | None) -> list[int]:
        """Write the inputs of these samples to `out`, uint8 [B, C, H, W]; cropped by `boxes` where whole images are kept.

        Returns the positions in `out` of images that cannot be read any more. May be called by several threads at once.
        """

    def some(self) -> torch.Tensor:
        """All images, or evenly spaced ones of at most MOST_MEASURED bytes, as uint8 [N, C, h, w]: for statistics. Not to be changed."""


def spaced(total: int, count: int) -> Indices:
    """At most `count` of the indices 0..total-1, evenly spaced."""
    return np.arange(total)[:: max(1, total // max(1, count))][:count]
