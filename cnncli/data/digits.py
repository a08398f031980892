"""The built-in source `digits`: 1,797 handwritten digits of 8x8 pixels (UCI, Alpaydin and Kaynak 1998), which scikit-learn carries."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from cnncli.data.source import Sample, Source
from cnncli.data.split import derive
from cnncli.errors import EnvironmentFault

CLASSES = tuple("0123456789")
INK_LEVELS = 16  # the data set counts the dark pixels in 4x4 blocks: 0..16


def open_digits(*, val_fraction: float, test_fraction: float) -> Source:
    """The digits as a source; splits by the hash of each sample's index, which is in its name: "digits/0042.png"."""
    _, labels = _load()
    samples = [Sample(f"digits/{index:04d}.png", int(label)) for index, label in enumerate(labels)]
    splits = derive(samples, val_fraction=val_fraction, test_fraction=test_fraction)
    return Source("digits", CLASSES, splits, notices=(), derived=True, locate=digit)


def digit(sample: Sample) -> Image.Image:
    """The 8x8 image of a sample, mode "L", ink 0..16 spread over 0..255."""
    images, _ = _load()
    return Image.fromarray(images[int(sample.path[7:11])])


@cache
def _load() -> tuple[np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    rows = _rows()
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / INK_LEVELS)).astype(np.uint8)
    return images, rows[:, -1].astype(np.int64)


def _rows() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """64 levels of ink and the digit, for each image. The file is read as scikit-learn would, whose import takes most of a second."""
    table = _table()
    if table is not None:
        with gzip.open(table, "rt", encoding="ascii") as file:
            return np.loadtxt(file, delimiter=",", ndmin=2)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentFault(
            "the data set digits lies inside scikit-learn, which cannot be imported", "pip install scikit-learn"
        ) from error
    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


def _table() -> Path | None:
    """Where scikit-learn keeps the digits, found without importing it; None where it keeps them elsewhere, or is not installed."""
    try:
        spec = find_spec("sklearn")
    except (ImportError, ValueError):
        return None
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((path for folder in folders if (path := Path(folder, "datasets", "data", "digits.csv.gz")).is_file()), None)
