"""What the fault tests share: `cnn` in a folder of its own, and one trained model."""

from __future__ import annotations

from pathlib import Path

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
    """A small net trained on a folder with the classes bus, cat and dog; and that folder. Tests must leave both as they are."""
    made, data = harness.trained_folder()
    before = harness.tree(data)
    yield made, data
    assert harness.tree(made.folder) == made.hashes, "a test changed the shared run folder"
    assert harness.tree(data) == before, "a test changed the shared images"
