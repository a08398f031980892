"""How images and labels are taken from the classes of torchvision.datasets: one reader for each way in which they keep them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Arrays = npt.NDArray[np.uint8]


class Listed(NamedTuple):
    """What a class of torchvision holds of one split.

    images: the path of each file; or all pixels, uint8 [N, H, W] or [N, H, W, 3].
    labels: one for each image, as the set counts them.
    """

    images: Sequence[str] | Arrays
    labels: Sequence[int]


def read(reader: str, dataset: Any) -> Listed:
    """The images and labels of an opened class of torchvision, by the reader that `cnncli.data.named.NAMED` names for it."""
    return READERS[reader](dataset)


def class_names(dataset: Any) -> tuple[str, ...]:
    """The names of the classes; the first one where a class has several (as `tench, Tinca tinca`)."""
    names = dataset.categories if hasattr(dataset, "categories") else dataset.classes
    return tuple(name if isinstance(name, str) else name[0] for name in names)


def _grey(dataset: Any) -> Listed:
    """`data` [N, H, W]. QMNIST has eight numbers for each image, the first of which is the class."""
    labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    return Listed(np.asarray(dataset.data), (labels[:, 0] if labels.ndim > 1 else labels).tolist())


def _grey_sideways(dataset: Any) -> Listed:
    """EMNIST's files hold columns where MNIST's hold rows: read as they are, its letters lie on their side, mirrored."""
    listed = _grey(dataset)
    return Listed(np.asarray(listed.images).transpose(0, 2, 1), listed.labels)


def _colour(dataset: Any) -> Listed:
    return Listed(dataset.data, dataset.targets)


def _planes(dataset: Any) -> Listed:
    """`data` [N, 3, H, W]."""
    return Listed(dataset.data.transpose(0, 2, 3, 1), np.asarray(dataset.labels).tolist())


def _paths(dataset: Any) -> Listed:
    """Classes that can be told how to open a file: this one was told to give its path (see `options`)."""
    pairs = [dataset[index] for index in range(len(dataset))]
    return Listed([path for path, _ in pairs], [int(label) for _, label in pairs])


def _pets(dataset: Any) -> Listed:
    return Listed([os.fspath(path) for path in dataset._images], dataset._labels)  # noqa: SLF001 - it offers nothing else


def _signs(dataset: Any) -> Listed:
    samples = dataset._samples  # noqa: SLF001 - it offers nothing else
    return Listed([path for path, _ in samples], [label for _, label in samples])


def _caltech(dataset: Any) -> Listed:
    """Files are numbered from 1 within their category, in Caltech256 after the category's own number."""
    of_101 = hasattr(dataset, "annotation_categories")
    folder = f"{dataset.root}/{'101' if of_101 else '256'}_ObjectCategories"
    images = []
    for label, number in zip(dataset.y, dataset.index, strict=True):
        name = f"image_{number:04d}.jpg" if of_101 else f"{label + 1:03d}_{number:04d}.jpg"
        images.append(f"{folder}/{dataset.categories[label]}/{name}")
    return Listed(images, dataset.y)


READERS: dict[str, Callable[[Any], Listed]] = {
    "grey": _grey,
    "grey sideways": _grey_sideways,
    "colour": _colour,
    "planes": _planes,
    "paths": _paths,
    "pets": _pets,
    "signs": _signs,
    "caltech": _caltech,
}


def options(reader: str) -> dict[str, Any]:
    """Arguments for the class of torchvision beside those in the table."""
    return {"loader": os.fspath} if reader == "paths" else {}
