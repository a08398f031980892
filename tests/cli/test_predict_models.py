"""`cnn predict` with models made for the purpose: ten crops, and memory that does not grow with the number of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import png, run
from PIL import Image

pytestmark = pytest.mark.slow


def saved_model(path: Path, name: str, size: tuple[int, int, int], **preparing: float) -> Any:
    """A model of the zoo with random weights, in a file."""
    import torch

    from cnncli.arch.zoo.table import build
    from cnncli.data.preprocess import Preprocess
    from cnncli.models.assemble import assemble
    from cnncli.models.modelfile import ModelInfo, save

    torch.manual_seed(0)
    net = build(name, input=size)
    model = assemble(net).eval()
    save(path, model, ModelInfo(net=net, classes=tuple("0123456789"), preprocess=Preprocess(*size, **preparing)))
    return model


def test_ten_crops(here: Path) -> None:
    """The margin around the central crop is decoded too; the answer is that of torchvision's TenCrop."""
    import torch
    from torchvision import transforms

    model = saved_model(here / "m.safetensors", "lenet5", (1, 32, 32), crop_fraction=0.8)
    Image.effect_noise((90, 60), 90).save(here / "x.png")
    steps = [transforms.Resize(40), transforms.CenterCrop(40), transforms.TenCrop(32)]
    crops = transforms.Compose(steps)(Image.open(here / "x.png"))
    with torch.inference_mode():
        batch = torch.stack([transforms.Normalize([0.5], [0.5])(transforms.ToTensor()(crop)) for crop in crops])
        expected = model(batch).softmax(1).mean(0).sort(descending=True).values[:5]
    done = run("predict", "m.safetensors", "x.png", "--tta", "ten-crop", "--json", cwd=here, warm=True)
    assert (done.code, done.err) == (0, "")
    assert [guess["probability"] for guess in done.json["predictions"]] == pytest.approx(expected.tolist(), rel=1e-4)


PEAK = """
import os, sys
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def peak(here: Path, *arguments: str | Path) -> float:
    """The most memory that a process of its own has, in MB. A small process starts it: a child's peak begins at its parent's."""
    line = [sys.executable, "-S", "-c", PEAK, harness.COMMAND, "predict", *map(str, arguments)]
    done = subprocess.run(line, cwd=here, env=harness.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=True)
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return peak / 1000


def test_memory_does_not_grow_with_the_images(here: Path) -> None:
    """200 images and 5,000, which take 12 KB each once they are decoded: 60 MB, were they kept."""
    saved_model(here / "m.safetensors", "mlp", (3, 64, 64))
    for folder, number in (("few", 200), ("many", 5000)):
        for image in range(number):
            path = here / folder / f"{image % 50:02d}" / f"{image:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    few, many = (peak(here, here / "m.safetensors", folder, "--json", "--precision", "fp32") for folder in ("few", "many"))
    assert many < few + 15
