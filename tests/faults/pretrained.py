"""What tests of `cnn finetune` begin with: a small net that has learned the digits, and folders of images of a few of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Done, run, scratch
from PIL import Image

NET = "conv3-4 bn relu maxpool conv3-6 bn relu conv3-8 bn relu maxpool dropout-0.2 FC-10"
BLOCKS = ("conv1_1", "conv2_1", "conv2_2")  # before the classifier, with their batch norms
HEAD = "fc3"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VALIDATION_FROM = 60  # of the images of each digit, so that no image is in two splits
THREE = {"train/one": 14, "train/two": 14, "train/zero": 14, "val/one": 8, "val/two": 8, "val/zero": 8}


@cache
def pretrained_digits() -> harness.Trained:
    """A net of three blocks after four epochs on the digits. Tests must leave it as it is."""
    home = scratch() / "pretrained"
    home.mkdir()
    done = run("train", NET, "--input", "1x8x8", "--epochs", "4", "-o", "source", cwd=home, warm=True)
    assert done.code == 0, done.err
    return harness.Trained(home / "source", done, harness.tree(home / "source"))


def digit_images(root: Path, counts: dict[str, int], *, size: int = 8, colours: bool = False) -> Path:
    """Images of handwritten digits as PNG files: {"train/one": 5}. colours: the digit in each channel is turned by another angle."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        split, _, name = folder.rpartition("/")
        own = digits.images[digits.target == NAMES.index(name)][VALIDATION_FROM if split == "val" else 0 :][:count]
        for number, values in enumerate(own):
            image = Image.fromarray((values * 15.9).astype(np.uint8)).resize((size, size))
            if colours:
                image = Image.merge("RGB", (image, image.rotate(90), image.rotate(180)))
            image.save(root / folder / f"{number:03d}.png")
    return root


def finetuned(*words: str | Path, cwd: Path, out: str = "run", code: int = 0, **options: Any) -> Done:
    """`cnn finetune` to its end, into a new run folder."""
    done = run("finetune", *words, "-o", out, cwd=cwd, warm=True, **options)
    assert done.code == code, f"{done.out}{done.err}"
    return done


def tensors(path: Path) -> dict[str, Any]:
    """The tensors of a model file, or of the best model of a run folder, by name."""
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path / "best.safetensors" if path.is_dir() else path)
    return found


def changed_tensors(one: Path, other: Path) -> set[str]:
    """The names of tensors, buffers included, that are not the same to the bit."""
    import torch

    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    return {name for name in a if a[name].shape != b[name].shape or not torch.equal(a[name], b[name])}


def owners(names: set[str]) -> set[str]:
    """The layers that hold these tensors."""
    return {name.rpartition(".")[0] for name in names}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run, but for their times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in found]


def assert_same_end(one: Path, other: Path) -> None:
    """The weights to the bit, and the rows but for their times; none twice, none missing."""
    assert rows(one) == rows(other)
    assert [row["epoch"] for row in rows(one)] == list(range(1, len(rows(one)) + 1))
    for name in ("best.safetensors", "last.safetensors"):
        assert not changed_tensors(one / name, other / name), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    assert results[0]["best"]["epoch"] == results[1]["best"]["epoch"]
