"""Images a second of the training loop on in-memory data, against the same model stepping on one fixed batch.

The loop does everything that `cnn train` does in an epoch: shuffling, flips and shifts, normalisation, events, running means.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch
from timing import interleaved, machine, spread

from cnncli.arch.zoo.table import build
from cnncli.data.augment import Augment
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine.config import TrainConfig
from cnncli.engine.events import EpochDone
from cnncli.engine.fit import fit, train_step
from cnncli.engine.optim import make_optimizer
from cnncli.models.assemble import assemble

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
BATCH = 64
WANTED = {"lenet5": (0.80, 12_800), "resnet20": (0.90, 1_280)}  # share of the bare step to reach; images in the epoch


def rivals(name: str, count: int):
    net = build(name)
    channels, height, width = net.input
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (count, channels, height, width), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, 10, count))
    pixels = Pixels(images, labels, tuple(Sample(str(i), int(label)) for i, label in enumerate(labels)))
    preprocess = Preprocess(channels, height, width)
    config = TrainConfig(epochs=1, batch_size=BATCH)

    def loop() -> float:
        model = assemble(net)
        loader = Loader(pixels, preprocess, batch_size=BATCH, augment=Augment(flip=True, shift=4), shuffle=True)
        done = next(event for event in fit(model, loader, None, config) if isinstance(event, EpochDone))
        return done.images_per_second

    def bare() -> float:
        model = assemble(net).train()
        optimizer = make_optimizer(model, config)
        batch, target = preprocess.normalise(images[:BATCH]), labels[:BATCH]
        steps = count // BATCH
        began = time.perf_counter()
        for _ in range(steps):
            train_step(model, optimizer, batch, target, 0.01)
        return steps * BATCH / (time.perf_counter() - began)

    return {"bare step": bare, "training loop": loop}


def main() -> None:
    print(f"{'net':<10} {'bare step, images/s':>28} {'training loop, images/s':>28}  ratio  wanted")
    for name, (wanted, count) in WANTED.items():
        measured = interleaved(rivals(name, count), ROUNDS)
        bare, loop = measured["bare step"], measured["training loop"]
        ratio = statistics.median(a / b for a, b in zip(loop, bare, strict=True))
        print(f"{name:<10} {spread(bare):>28} {spread(loop):>28}  {ratio:5.2f}  {wanted:.2f}")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), batch {BATCH}, float32; {machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
