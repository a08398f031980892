"""Microseconds an image of each augmentation: ours, torchvision v2 image by image, and torchvision v2 on the whole batch.

Ours includes the drawing, batch by batch; the loader draws an epoch at once, which costs less.
On a whole batch torchvision does the same to every image, which is less than what is asked for; it shows what the arithmetic alone costs.
Mixing it does for batches only. Boxes are the drawing of random resized crops alone.
One thread, and the time that it has a processor: so it matters little what else runs on the machine.

    python tests/benchmarks/bench_augment.py [ROUNDS] [SIDE] [BATCH]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import torch
import torchvision
from timing import interleaved, machine, spread
from torchvision.transforms import v2

from cnncli.data.augment import Augment

ROUNDS, SIDE, BATCH = (int(given) for given in (*sys.argv[1:4], *("15", "32", "256")[len(sys.argv) - 1 :]))
SHIFT = SIDE // 8

OURS = {
    "flip and shift": Augment(flip=True, shift=SHIFT),
    "TrivialAugment": Augment(flip=False, auto_augment="trivial"),
    "RandAugment, 2 operations": Augment(flip=False, auto_augment="rand"),
    "jitter 0.4": Augment(flip=False, jitter=0.4),
    "jitter 0.4, hue 0.1": Augment(flip=False, jitter=0.4, hue=0.1),
    "erase 0.25": Augment(flip=False, erase=0.25),
    "boxes from 0.08": Augment(flip=False, crop_scale=0.08),
    "mixup 0.2": Augment(flip=False, mixup=0.2),
    "CutMix 1.0": Augment(flip=False, cutmix=1.0),
    "mixup and CutMix": Augment(flip=False, mixup=0.8, cutmix=1.0),
}
CROP = v2.RandomResizedCrop(SIDE)
THEIRS = {
    "flip and shift": v2.Compose([v2.RandomCrop(SIDE, padding=SHIFT), v2.RandomHorizontalFlip()]),
    "TrivialAugment": v2.TrivialAugmentWide(),
    "RandAugment, 2 operations": v2.RandAugment(),
    "jitter 0.4": v2.ColorJitter(0.4, 0.4, 0.4),
    "jitter 0.4, hue 0.1": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "erase 0.25": v2.RandomErasing(0.25),
    "boxes from 0.08": lambda image: CROP.make_params([image]),
}
MIXED = {
    "mixup 0.2": v2.MixUp(alpha=0.2, num_classes=10),
    "CutMix 1.0": v2.CutMix(alpha=1.0, num_classes=10),
    "mixup and CutMix": v2.RandomChoice([v2.MixUp(alpha=0.8, num_classes=10), v2.CutMix(alpha=1.0, num_classes=10)]),
}


def busy(run: Callable[[], object]) -> Callable[[], float]:
    """A rival that returns how long `run` has a processor, in seconds."""

    def timed() -> float:
        began = time.thread_time()
        run()
        return time.thread_time() - began

    return timed


def rivals(name: str) -> dict[str, Callable[[], float]]:
    augment, epochs, indices = OURS[name], count(), np.arange(BATCH)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    floats, labels, sizes = images.float() / 255, torch.arange(BATCH) % 10, np.full((BATCH, 2), SIDE)

    def ours() -> object:
        epoch = next(epochs)
        if augment.mixes:
            return augment.mix(floats, labels, 0, epoch, indices)
        return augment.boxes(0, epoch, indices, sizes) if augment.crops else augment.apply(images, augment.draw(0, epoch, indices))

    if name in MIXED:
        return {"ours": busy(ours), "batch": busy(lambda: MIXED[name](floats, labels))}
    theirs = THEIRS[name]
    each = {"ours": busy(ours), "each": busy(lambda: [theirs(image) for image in images])}
    return each if augment.crops else each | {"batch": busy(lambda: theirs(images))}


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'augmentation':<26} {'ours':>24} {'torchvision, each':>27} {'torchvision, all alike':>27}  each/ours")
    for name in OURS:
        of = rivals(name)
        interleaved(of, 1)  # the first calls build tables
        measured = {rival: [1e6 * took / BATCH for took in times] for rival, times in interleaved(of, ROUNDS).items()}
        cells = [spread(measured[rival], 1) if rival in measured else "-" for rival in ("ours", "each", "batch")]
        ratio = statistics.median(measured["each"]) / statistics.median(measured["ours"]) if "each" in measured else None
        print(f"{name:<26} {cells[0]:>24} {cells[1]:>27} {cells[2]:>27}  {'-' if ratio is None else f'{ratio:8.1f}'}")
    print(
        f"microseconds of one core an image, median of {ROUNDS} interleaved rounds (least to greatest), {BATCH} images of 3x{SIDE}x{SIDE}"
    )
    print(f"{machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
