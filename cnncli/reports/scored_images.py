"""What a model says of each image: as rows of numbers, as a CSV file and as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cnncli import atomic
from cnncli.reports.spreadsheet import csv_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HEAD = ("path", "true", "predicted", "probability", "true_probability", "correct", "loss")
AT_A_TIME = 1024  # images whose scores are in float64 at once: 8 MB of ImageNet's


class Scored(Protocol):
    """Scores [N, K] of N images, their labels [N], their names, and the names of the K classes; see cnncli.cli.judging.Judged."""

    @property
    def scores(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def classes(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class PerImage:
    """Of N images each [N]: the true class and the most probable one as numbers, their probabilities, and the loss in nats."""

    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    true_probability: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the true one."""
        found: npt.NDArray[np.bool_] = self.true == self.predicted
        return found


def per_image(scored: Scored) -> PerImage:
    """The softmax of each row of scores, in float64."""
    import numpy as np

    labels = np.asarray(scored.labels)
    predicted = np.empty(len(labels), dtype=np.int64)
    best, own, loss = (np.empty(len(labels)) for _ in range(3))
    for first in range(0, len(labels), AT_A_TIME):
        part = slice(first, first + AT_A_TIME)
        scores = np.asarray(scored.scores[part]).astype(np.float64)
        # Of equal scores the first class counts, as in torch's topk of what judges: its order is that of the classes.
        predicted[part] = scores.argmax(1)
        top = scores.max(1, keepdims=True)
        total = np.log(np.exp(scores - top).sum(1)) + top[:, 0]
        rows = np.arange(len(scores))
        loss[part] = total - scores[rows, labels[part]]
        own[part], best[part] = np.exp(-loss[part]), np.exp(top[:, 0] - total)
    return PerImage(labels, predicted, best, own, loss)


def write_csv(path: Path, scored: Scored, images: PerImage) -> None:
    """A line an image."""
    columns = _columns(scored, images)
    atomic.write_text(path, csv_text(HEAD, zip(*columns.values(), strict=True)))


def write_parquet(path: Path, scored: Scored, images: PerImage) -> None:
    """A row an image, names of classes as dictionary; needs pyarrow. Bytes of a path that are no UTF-8 become backslash escapes."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = dict(_columns(scored, images))
    columns["path"] = [name.encode("utf-8", "backslashreplace").decode() for name in columns["path"]]
    for name in ("true", "predicted"):
        columns[name] = pa.array(columns[name]).dictionary_encode()
    made = pa.table(columns)
    atomic.write_with(path, lambda temporary: parquet.write_table(made, temporary))


def _columns(scored: Scored, images: PerImage) -> dict[str, list[Any]]:
    classes = scored.classes
    values = (
        list(scored.names),
        [classes[number] for number in images.true],
        [classes[number] for number in images.predicted],
        images.probability.tolist(),
        images.true_probability.tolist(),
        images.correct.tolist(),
        images.loss.tolist(),
    )
    return dict(zip(HEAD, values, strict=True))
