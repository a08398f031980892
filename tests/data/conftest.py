"""What the tests of cnncli.data share: folders of small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_images():
    """make_images(root, {"cat": 3, "train/dog": 2}): that many different small PNG files in each folder."""

    def make(root: Path, counts: dict[str, int], size: tuple[int, int] = (6, 5)) -> Path:
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                colour = tuple(int(c) for c in np.random.default_rng([len(folder), index]).integers(0, 256, 3))
                Image.new("RGB", size, colour).save(root / folder / f"{index:03d}.png")
        return root

    return make
