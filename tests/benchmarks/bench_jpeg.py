"""Milliseconds an image from JPEG files to training tensors of 3x224x224, on one core: ours, streamed and from the cache, against
torchvision's Pillow path (decode, RandomResizedCrop, flip, ToTensor, Normalize).

argument: a folder of class folders of JPEGs (default: the test data's flowers).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["CNN_CACHE"] = tempfile.mkdtemp(prefix="cnn-bench-")

import torch
from PIL import Image
from timing import interleaved, machine, spread
from torchvision import transforms

from cnncli.data.augment import Augment
from cnncli.data.config import DataConfig
from cnncli.data.loader import Loader
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import open_source
from cnncli.data.store import open_pixels

ROUNDS = 5
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
WANTED = {"cnn, streamed": 1.5, "cnn, from the cache": 4.0}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TEST_DATA / "flowers"
    if not folder.is_dir():
        print(f"no folder of photos: {folder}")
        return
    source = open_source(str(folder))
    count = len(source.samples("train"))
    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize([0.5] * 3, [0.25] * 3)])
    preprocess, augment = Preprocess(3, 224, 224), Augment(flip=True, shift=0, crop_scale=0.08)

    def peer() -> float:
        began = time.perf_counter()
        batch = []
        for sample in source.samples("train"):
            with Image.open(folder / sample.path) as image:
                batch.append(transform(image.convert("RGB")))
            if len(batch) == 64:
                torch.stack(batch)
                batch = []
        return 1000 * (time.perf_counter() - began) / count

    def ours(store: str):
        pixels = open_pixels(source, "train", preprocess, DataConfig(store=store, workers=1), whole=True)
        loader = Loader(pixels, preprocess, batch_size=64, augment=augment, shuffle=True, threads=1)
        epoch = iter(range(10**6))

        def run() -> float:
            began = time.perf_counter()
            taken = sum(len(batch.labels) for batch in loader.epoch(next(epoch)))
            return 1000 * (time.perf_counter() - began) / taken

        return run

    rivals = {"torchvision, Pillow": peer, "cnn, streamed": ours("stream"), "cnn, from the cache": ours("disk")}
    measured = interleaved(rivals, ROUNDS)
    theirs = measured["torchvision, Pillow"]
    print(f"{'path':<22} {'ms an image':>28} {'times':>6} {'wanted':>7}")
    for name, values in measured.items():
        ratio = statistics.median(other / own for other, own in zip(theirs, values, strict=True))
        print(f"{name:<22} {spread(values, 2):>28} {ratio:>6.2f} {WANTED.get(name, 1.0):>7.1f}")
    print(f"{count} photos, median of {ROUNDS} interleaved rounds (least to greatest), one thread; {machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
