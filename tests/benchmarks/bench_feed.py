"""Images a second of our loader on CIFAR-sized images (random crop, flip, normalise), against torchvision's transforms in a DataLoader.

The peer does what its tutorials do: a data set of Pillow images, RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor,
Normalize, in process and with two workers. Nothing is trained; batches are only taken.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads collapse where others run too

import numpy as np
import torch
from PIL import Image
from timing import interleaved, machine, spread
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cnncli.data.augment import Augment
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
COUNT, BATCH = 20_000, 128
WANTED = 8  # times the best DataLoader


class PillowImages(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize([0.5] * 3, [0.25] * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def main() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, COUNT)
    pixels = Pixels(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels),
        tuple(Sample(str(i), int(label)) for i, label in enumerate(labels)),
    )
    loader = Loader(pixels, Preprocess(3, 32, 32), batch_size=BATCH, augment=Augment(flip=True, shift=4), shuffle=True)
    epoch = iter(range(10**6))

    def ours() -> float:
        began = time.perf_counter()
        for _ in range(5):
            taken = sum(len(batch.labels) for batch in loader.epoch(next(epoch)))
        return 5 * taken / (time.perf_counter() - began)

    def peer(workers: int):
        data = DataLoader(PillowImages(images, labels), batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

        def run() -> float:
            began, taken = time.perf_counter(), 0
            for batch, _ in data:
                taken += len(batch)
            return taken / (time.perf_counter() - began)

        run()  # starts the workers
        return run

    measured = interleaved({"cnn": ours, "DataLoader, in process": peer(0), "DataLoader, 2 workers": peer(2)}, ROUNDS)
    print(f"{'loader':<24} {'images/s':>34}")
    for name, values in measured.items():
        print(f"{name:<24} {spread(values):>34}")
    best = [max(rates) for rates in zip(*(values for name, values in measured.items() if name != "cnn"), strict=True)]
    ratio = statistics.median(own / other for own, other in zip(measured["cnn"], best, strict=True))
    print(f"cnn against the better DataLoader of each round: {ratio:.1f} times (wanted: {WANTED})")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), batch {BATCH}; {machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
