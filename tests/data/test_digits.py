"""The digits are those of scikit-learn, read without importing it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cnncli.data import digits
from cnncli.data.digits import open_digits
from cnncli.data.source import Source


def arrays(source: Source) -> tuple[np.ndarray, np.ndarray]:
    samples = sorted((sample for samples in source.splits.values() for sample in samples), key=lambda sample: sample.path)
    return np.stack([np.asarray(source.read(sample)) for sample in samples]), np.array([sample.label for sample in samples])


@pytest.mark.parametrize("found", [True, False], ids=["its file", "its function"])
def test_they_are_those_of_scikit_learn(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    if not found:
        monkeypatch.setattr(digits, "_table", lambda: None)
    digits._load.cache_clear()
    images, labels = arrays(open_digits(val_fraction=0.1, test_fraction=0.2))
    expected = load_digits()
    assert np.array_equal(images, np.rint(expected.images * 255 / 16))
    assert np.array_equal(labels, expected.target)
    digits._load.cache_clear()


def test_scikit_learn_is_not_imported() -> None:
    code = (
        "import sys; from cnncli.data.digits import open_digits; "
        "open_digits(val_fraction=0.1, test_fraction=0.2); print([m for m in ('sklearn', 'scipy', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_where_scikit_learn_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a file of that name nor nothing at all is taken for it."""
    spec = find_spec("json.decoder")
    for given in (spec, None):
        monkeypatch.setattr(digits, "find_spec", lambda name, given=given: given)
        assert digits._table() is None
