"""Feature vectors of images, and what a row of them is the row of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnncli.errors import InputError, UsageError, near_miss, printable

Kind = Literal["layer", "random", "pixels", "hog"]
Array = npt.NDArray[Any]

UNLABELLED = -1  # the label of an image without a class


@dataclass(frozen=True)
class Space:
    """What the numbers of one array are.

    name: what it is called in files, tables and pictures: `fc7`, `pixels`, `hog`, `fc7@random`. kind: a layer of the model, the same
    layer of the net with weights drawn at random, the pixels that the model sees made smaller, or histograms of oriented gradients.
    layer: the path of the module in the model. pool: how a map of C x H x W became what is stored: `avg`, `max`, `flatten`, or `none`
    where it is kept. activation: `after` the activation function behind the layer, or `before` it. shape: of one image's numbers.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    layer: str = ""
    pool: str = ""
    activation: str = ""

    @property
    def size(self) -> int:
        """Numbers an image."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Origin:
    """Where features come from, so that those of another image can be computed alike.

    model: the spec as it was typed, "" where no model was used; weights, classes: its flags. digest: of the weights, "" without.
    random: the seed with which the model's weights were drawn, None where they are trained. data, data_root: the source, and where named
    ones lie, as they were typed; split: of it. unlabelled: whether all images below a folder were taken. preprocess: as in a model file.
    """

    model: str = ""
    weights: str | None = None
    classes: int | None = None
    digest: str = ""
    random: int | None = None
    data: str = ""
    data_root: str | None = None
    split: str = "all"
    unlabelled: bool = False
    preprocess: dict[str, Any] = field(default_factory=dict)
    cnncli: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """N images in one or more spaces.

    arrays: by the name of the space: float32 or float16 [N, *shape], perhaps mapped from a file, which is read as rows are touched.
    spaces: in the order in which they were asked for. labels: int64 [N], indices into classes; UNLABELLED without. classes: names, in
    order. paths: of the images, as the source has them. splits: of each image: `train`, `val`, `test`, or "" where there are none.
    """

    arrays: dict[str, Array]
    spaces: tuple[Space, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    splits: tuple[str, ...]
    origin: Origin = Origin()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the spaces."""
        return tuple(space.name for space in self.spaces)

    def space(self, name: str) -> Space:
        """UsageError with the nearest name for a space that it has not."""
        found = next((space for space in self.spaces if space.name == name), None)
        if found is None:
            hint = near_miss(name, list(self.names)) or f"it has {', '.join(map(printable, self.names))}"
            raise UsageError(f"the features have no layer {name!r}", hint, path="--layer")
        return found

    def matrix(self, name: str, rows: Sequence[int] | Array | slice = slice(None)) -> npt.NDArray[np.float32]:
        """float32 [N, D], a row an image, of all or some images. InputError where a number is not finite, which names an image."""
        space = self.space(name)
        found = np.asarray(self.arrays[name][rows])
        found = np.ascontiguousarray(found.reshape(len(found), space.size), dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1)) if len(found) else ()
        if len(bad):
            first = int(np.arange(len(self))[rows].reshape(-1)[bad[0]])  # type: ignore[misc] # numpy takes a slice here
            image = printable(self.paths[first])
            told = f"the {name} features of {len(bad):,} images are not finite, those of {image} first"
            raise InputError(told, "extract them again, from a model whose weights are finite", path=image)
        return found

    def rows_of(self, *splits: str) -> npt.NDArray[np.int64]:
        """Which images lie in these splits."""
        return np.flatnonzero(np.isin(np.array(self.splits, dtype=str), splits)).astype(np.int64)

    def only(self, rows: Sequence[int] | Array) -> FeatureSet:
        """Some of the images, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            arrays={name: array[chosen] for name, array in self.arrays.items()},
            labels=self.labels[chosen],
            paths=tuple(self.paths[row] for row in chosen),
            splits=tuple(self.splits[row] for row in chosen),
        )
