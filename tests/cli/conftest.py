"""The tests of the commands run `cnn` as the fault tests do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))

import harness
import pytest


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that `cnn` runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def digits_run() -> harness.Trained:
    """LeNet-5 after two epochs on the digits. Tests must leave it as it is."""
    made = harness.trained_digits()
    yield made
    assert harness.tree(made.folder) == made.hashes, "a test changed the shared run folder"


@pytest.fixture(scope="session")
def folder_run() -> tuple[harness.Trained, Path]:
    """A small net trained on a folder with the classes bus, cat and dog; and that folder."""
    return harness.trained_folder()
