"""What tests of several rooms share: `cnn` in a folder of its own, two trained models, and real data.

CNNCLI_TEST_DATA names the folder of the real data. Tests that need it skip with a reason where it is absent.
"""

from __future__ import annotations

import compileall
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", ROOT / "../shared/data"))
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: the commands that tests start are to write no compiled files, and each would compile it anew."""
    if not hasattr(config, "workerinput"):  # once for all workers of pytest-xdist
        compileall.compile_dir(ROOT / "cnncli", quiet=2)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that `cnn` runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def digits_run() -> Iterator[harness.Trained]:
    """LeNet-5 after two epochs on the digits. Tests must leave it as it is."""
    made = harness.trained_digits()
    yield made
    assert harness.tree(made.folder) == made.hashes, "a test changed the shared run folder"


@pytest.fixture(scope="session")
def folder_run() -> Iterator[tuple[harness.Trained, Path]]:
    """A small net trained on a folder with the classes bus, cat and dog; and that folder. Tests must leave both as they are."""
    made, data = harness.trained_folder()
    before = harness.tree(data)
    yield made, data
    assert harness.tree(made.folder) == made.hashes, "a test changed the shared run folder"
    assert harness.tree(data) == before, "a test changed the shared images"


@pytest.fixture(scope="session")
def flowers() -> Path:
    """400 photos, 80 of each of five flowers, in class folders without a split."""
    folder = TEST_DATA / "flowers"
    if not folder.is_dir():
        pytest.skip(f"real photos are absent: {folder} (set CNNCLI_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 training and 1,000 test images of Fashion-MNIST as PNG files in train/CLASS and test/CLASS."""
    raw = TEST_DATA / "FashionMNIST" / "raw"
    if not raw.is_dir():
        pytest.skip(f"Fashion-MNIST is absent: {raw} (set CNNCLI_TEST_DATA)")
    root = tmp_path_factory.mktemp("clothes")
    for split, prefix, count in (("train", "train", 3000), ("test", "t10k", 1000)):
        images = np.frombuffer(gzip.decompress((raw / f"{prefix}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16).reshape(
            -1, 28, 28
        )
        labels = np.frombuffer(gzip.decompress((raw / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        for index in range(count):
            folder = root / split / CLOTHES[labels[index]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(folder / f"{index:05d}.png")
    return root


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all of CIFAR-10, as torchvision lays it out."""
    return _unpacked("cifar10", "cifar10", tmp_path_factory)


@pytest.fixture(scope="session")
def fashion_mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all of Fashion-MNIST, as torchvision lays it out."""
    return _unpacked("fashion-mnist", "FashionMNIST", tmp_path_factory)


def _unpacked(name: str, folder: str, factory: pytest.TempPathFactory) -> Path:
    if not (TEST_DATA / folder).is_dir() or not (TEST_DATA / "unpack.py").is_file():
        pytest.skip(f"{name} is absent: {TEST_DATA / folder} (set CNNCLI_TEST_DATA)")
    root = factory.mktemp(name)
    subprocess.run([sys.executable, str(TEST_DATA / "unpack.py"), str(root), name], check=True, capture_output=True)
    return root
