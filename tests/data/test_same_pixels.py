"""What a model is validated on and what it is asked about later are the same pixels, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import RGBA, png, tiff
from PIL import Image
from torch import nn

from cnncli.cli.predict import predict
from cnncli.data.inputs import expand
from cnncli.data.pixels import load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import open_source

CLASSES = ("a", "b")
PREPROCESSES = {
    "colour": Preprocess(3, 24, 24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    "grey": Preprocess(1, 28, 28),
    "cropped, over black": Preprocess(3, 20, 28, crop_fraction=0.875, interpolation="bicubic", background=(0, 0, 0)),
    "stretched, as it lies": Preprocess(3, 24, 24, resize="stretch", background=(0, 128, 255), exif=False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)).resize((170, 120), Image.Resampling.BICUBIC)
    for name in CLASSES:
        (root / name).mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(root / "a" / f"turned{orientation}.jpg", exif=exif, progressive=orientation % 2 == 0)
    photo.convert("L").save(root / "a" / "grey.jpg")
    photo.convert("CMYK").save(root / "a" / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 30), dtype=np.uint16)).save(root / "b" / "deep.png")
    alpha = photo.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
    alpha.save(root / "b" / "alpha.png")
    alpha.save(root / "b" / "alpha.webp", lossless=True)
    alpha.convert("P").save(root / "b" / "palette.gif", transparency=3)
    (root / "b" / "deep-alpha.png").write_bytes(png(2, 16, RGBA, [bytes(range(100, 116))] * 2))
    (root / "b" / "float.tif").write_bytes(tiff(3, [32], 1, np.array([-5, 0, 9], "<f4").tobytes(), form=3))
    return root


class Recording(nn.Module):
    """Remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.clone())
        return images.flatten(1)[:, :2]


def seen_by_predict(preprocess: Preprocess, files: list[str], **how: int) -> torch.Tensor:
    model = Recording()
    found = list(predict(model, preprocess, CLASSES, expand(files, None), top=1, batch_size=how.get("batch_size", 7), max_pixels=2**26))
    assert not [error for _, error in found if isinstance(error, Exception)]
    return torch.cat(model.seen)


@pytest.mark.parametrize("name", PREPROCESSES)
def test_validation_and_predict_see_the_same(name: str, folder: Path) -> None:
    preprocess = Preprocess.from_json(PREPROCESSES[name].to_json())  # as a model file gives it back
    source = open_source(str(folder), val_fraction=0.4)
    for split in ("train", "val"):
        pixels = load_pixels(source, split, PREPROCESSES[name])
        files = [str(folder / sample.path) for sample in pixels.samples]
        want = preprocess.normalise(pixels.images)
        assert torch.equal(seen_by_predict(preprocess, files), want)
        assert torch.equal(seen_by_predict(preprocess, files, batch_size=1), want)


def test_a_pipe_and_a_path_give_the_same(folder: Path) -> None:
    import io

    preprocess = PREPROCESSES["cropped, over black"]
    for path in sorted(folder.glob("*/*")):
        by_path = seen_by_predict(preprocess, [str(path)])
        model = Recording()
        list(predict(model, preprocess, CLASSES, expand(["-"], io.BytesIO(path.read_bytes())), top=1, batch_size=1, max_pixels=2**26))
        assert torch.equal(torch.cat(model.seen), by_path)


@pytest.mark.slow
def test_photos_too(flowers: Path, tmp_path: Path) -> None:
    for name in ("roses", "daisy"):
        shutil.copytree(flowers / name, tmp_path / name)
    preprocess = Preprocess(3, 224, 224, crop_fraction=0.875)
    pixels = load_pixels(open_source(str(tmp_path), val_fraction=0.3), "val", preprocess)
    files = [str(tmp_path / sample.path) for sample in pixels.samples]
    assert torch.equal(seen_by_predict(preprocess, files), preprocess.normalise(pixels.images))
