"""A trained net that the tests of all methods look into."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import run

RELU_NET = "conv3-6 relu maxpool conv3-8 relu maxpool FC-10"


@pytest.fixture(scope="session")
def relu_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with ReLUs, trained on the digits."""
    home = tmp_path_factory.mktemp("relu")
    done = run("train", RELU_NET, "--input", "1x16x16", "--epochs", "2", "-o", "run", cwd=home, warm=True)
    assert done.code == 0, done.err
    return home / "run"
