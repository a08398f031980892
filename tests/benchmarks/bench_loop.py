"""Images a second of a whole epoch of `cnn train`, against the same model stepping on one fixed batch.

The loop does everything that `cnn train` does in an epoch: reading, decoding where that is still to be done, shuffling, crops or
flips and shifts, normalisation, events, running means. Small images lie in memory; the photos are JPEG files, decoded into a cache
on the disk in the first epoch, which is measured with the decoding in it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads collapse where others run too

import numpy as np
import torch
from timing import interleaved, machine, spread

from cnncli.arch.net import Net
from cnncli.arch.zoo.table import build
from cnncli.data.augment import Augment
from cnncli.data.config import DataConfig
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, open_source
from cnncli.data.store import open_pixels
from cnncli.engine.config import TrainConfig
from cnncli.engine.events import EpochDone
from cnncli.engine.fit import fit, train_step
from cnncli.engine.optim import make_optimizer
from cnncli.models.assemble import assemble

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
PHOTO_ROUNDS = 3  # a step of resnet18 at 224 takes seconds
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
BATCH = 64
SMALL = {"lenet5": ("1x32x32", 12_800, 0.85), "resnet20": ("3x32x32", 1_280, 0.90), "resnet18": ("3x32x32", 640, 0.90)}


def epoch_of(net: Net, loader: Loader) -> float:
    """Seconds of one epoch."""
    config = TrainConfig(epochs=1, batch_size=loader.batch_size)
    return next(event for event in fit(assemble(net), loader, None, config) if isinstance(event, EpochDone)).seconds


def bare(net: Net, batch: int, steps: int) -> Callable[[], float]:
    """Images a second of that many steps on one batch."""
    config = TrainConfig(epochs=1, batch_size=batch)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *net.input, generator=generator)
    labels = torch.randint(0, net.classes, (batch,), generator=generator)

    def run() -> float:
        model = assemble(net).train()
        optimizer = make_optimizer(model, config)
        began = time.perf_counter()
        for _ in range(steps):
            train_step(model, optimizer, images, labels, 0.01, clip_grad=config.clip_grad)
        return steps * batch / (time.perf_counter() - began)

    return run


def small(name: str, size: str, count: int) -> dict[str, Callable[[], float]]:
    channels, height, width = map(int, size.split("x"))
    net = build(name, input=(channels, height, width), classes=10)
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (count, channels, height, width), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, 10, count))
    pixels = Pixels(images, labels, tuple(Sample(str(i), int(label)) for i, label in enumerate(labels)))

    def loop() -> float:
        preprocess, augment = Preprocess(channels, height, width), Augment(flip=True, shift=4)
        return count / epoch_of(net, Loader(pixels, preprocess, batch_size=BATCH, augment=augment, shuffle=True))

    return {"bare": bare(net, BATCH, count // BATCH), "epoch": loop}


def photos(folder: Path) -> dict[str, Callable[[], float]]:
    source, net, batch = open_source(str(folder)), build("resnet18", classes=5), 32
    preprocess, augment = Preprocess(*net.input), Augment(flip=True, shift=0, crop_scale=0.35)

    def loop() -> float:
        pixels = open_pixels(source, "train", preprocess, DataConfig(store="disk"), whole=True)
        loader = Loader(pixels, preprocess, batch_size=batch, augment=augment, shuffle=True)
        return epoch_of(net, loader)

    def first() -> float:
        shutil.rmtree(os.environ["CNN_CACHE"], ignore_errors=True)
        began = time.perf_counter()
        loop()
        return len(source.samples("train")) / (time.perf_counter() - began)

    def later() -> float:
        return len(source.samples("train")) / loop()

    return {"bare": bare(net, batch, 8), "first epoch": first, "later epochs": later}


def main() -> None:
    print(f"{'net':<50} {'bare step, images/s':>28} {'epoch, images/s':>28}  ratio  wanted")
    for name, (size, count, wanted) in SMALL.items():
        show(f"{name}, {size}", interleaved(small(name, size, count), ROUNDS), {"epoch": wanted})
    if (TEST_DATA / "flowers").is_dir():
        os.environ["CNN_CACHE"] = tempfile.mkdtemp(prefix="cnn-bench-")
        measured = interleaved(photos(TEST_DATA / "flowers"), PHOTO_ROUNDS)
        show("resnet18, 3x224x224 from JPEG files", measured, {"first epoch": 0.75, "later epochs": 0.90})
        shutil.rmtree(os.environ["CNN_CACHE"])
    rounds = f"{ROUNDS} interleaved rounds ({PHOTO_ROUNDS} of photos; least to greatest)"
    print(f"median of {rounds}, float32; {machine()}, torch {torch.__version__}")


def show(name: str, measured: dict[str, list[float]], wanted: dict[str, float]) -> None:
    for loop, least in wanted.items():
        own = measured[loop]
        ratio = statistics.median(a / b for a, b in zip(own, measured["bare"], strict=True))
        words = name if loop == "epoch" else f"{name}, {loop}"
        print(f"{words:<50} {spread(measured['bare'], 1):>28} {spread(own, 1):>28}  {ratio:5.2f}  {least:.2f}", flush=True)


if __name__ == "__main__":
    main()
