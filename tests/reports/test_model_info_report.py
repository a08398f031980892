"""What a model file says of itself, in words."""

from __future__ import annotations

from typing import Any

import pytest

from cnncli.data.preprocess import Preprocess
from cnncli.reports.model_info import preprocess_text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {
                "channels": 3,
                "height": 224,
                "width": 224,
                "crop_fraction": 0.875,
                "mean": (0.485, 0.456, 0.406),
                "std": (0.229, 0.224, 0.225),
            },
            "RGB, resize 256, crop 224, bilinear; mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        ),
        ({"channels": 1, "height": 32, "width": 32}, "grey, resize and crop to 32, bilinear; mean 0.5, std 0.5"),
        (
            {"channels": 3, "height": 384, "width": 200, "resize": "stretch", "interpolation": "bicubic"},
            "RGB, stretch to 384x200, bicubic; mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        ),
        ({"channels": 1, "height": 10, "width": 20, "crop_fraction": 0.5}, "grey, resize 20x40, crop 10x20, bilinear; mean 0.5, std 0.5"),
        (
            {"channels": 1, "height": 28, "width": 28, "background": (0, 0, 0), "exif": False, "mean": (0.28604,), "std": (1 / 3,)},
            "grey, resize and crop to 28, bilinear, background 0 0 0, not turned as EXIF says; mean 0.286, std 0.3333",
        ),
    ],
)
def test_preprocessing_in_words(fields: dict[str, Any], text: str) -> None:
    assert preprocess_text(Preprocess(**fields).to_json()) == text
