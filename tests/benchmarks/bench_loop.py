"""Images a second of an epoch of `cnn train`: against the bare step on one fixed batch, and against the loop that tutorials show.

Ours does everything that `cnn train` does in an epoch: shuffling, crops and flips, normalisation, events, running means, in the numbers
that `cnn train` chooses here. The bare step computes in the same numbers and does nothing else. The tutorial's loop computes in float32
and reads through torch's DataLoader, with torchvision's transforms on PIL images, without workers and with two: the faster one counts.

    python tests/benchmarks/bench_loop.py [ROUNDS] [photos]

photos: also the flowers of the test data as JPEG files, resnet18 at 224; decoded into a cache on the disk in the first epoch, which is
measured with the decoding in it. That takes some minutes more.
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
from PIL import Image
from timing import interleaved, machine, spread
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from cnncli.arch.net import Net
from cnncli.arch.zoo.table import build
from cnncli.data.augment import Augment
from cnncli.data.config import DataConfig
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, open_source
from cnncli.data.store import open_pixels
from cnncli.engine.auto import choose_numbers
from cnncli.engine.config import ComputeConfig, OptimConfig, TrainConfig
from cnncli.engine.events import EpochDone
from cnncli.engine.fit import fit
from cnncli.engine.precision import Numbers
from cnncli.engine.training import Plan, Training
from cnncli.models.assemble import assemble

NUMBERS = [argument for argument in sys.argv[1:] if argument.isdigit()]
ROUNDS = int(NUMBERS[0]) if NUMBERS else 5
PHOTO_ROUNDS = 3  # a step of resnet18 at 224 takes seconds
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
BATCH = 64
SIDE = 32
COUNTS = {"resnet20": 512, "resnet18": 512}  # images of an epoch
WANTED_OF_BARE, WANTED_OF_PLAIN = 0.95, 2.0
LONG = 1e6  # steps: as for a training that is worth trying out what is fastest


def epoch_of(net: Net, loader: Loader, numbers: Numbers) -> float:
    """Seconds of one epoch of ours."""
    plan = Plan(TrainConfig(epochs=1, batch_size=loader.batch_size), OptimConfig(), len(loader), net.classes, numbers)
    return next(event for event in fit(Training(assemble(net), plan), loader, None) if isinstance(event, EpochDone)).seconds


def chosen_numbers(net: Net, loader: Loader) -> Numbers:
    """What `cnn train` computes in here."""
    numbers, told = choose_numbers(
        assemble(net),
        lambda: next(loader.epoch(0)),
        ComputeConfig(),
        OptimConfig(),
        device=torch.device("cpu"),
        steps=LONG,
        deterministic=False,
    )
    print(f"{net.name}: {told or f'computing in {numbers}'}", flush=True)
    return numbers


def bare(net: Net, batch: int, steps: int, numbers: Numbers) -> Callable[[], float]:
    """Images a second of that many steps on one batch, written out: forward, backward, clipping, SGD in one kernel."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *net.input, generator=generator)
    labels = torch.randint(0, net.classes, (batch,), generator=generator)

    def run() -> float:
        model = numbers.lay_out(assemble(net)).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
        own = images.contiguous(memory_format=torch.channels_last) if numbers.channels_last else images
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=numbers.precision == "bf16"):
                scores = model(own)
            functional.cross_entropy(scores.float(), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
        return steps * batch / (time.perf_counter() - began)

    return run


class Pictures(Dataset):
    """PIL images and a transform, as in torchvision's data sets."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        from torchvision.transforms import v2

        self.images, self.labels = images, labels
        self.transform = v2.Compose([
            v2.RandomCrop(SIDE, padding=4),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def plain(net: Net, pictures: Pictures, workers: int) -> Callable[[], float]:
    """Images a second of an epoch of the tutorial's loop. Workers stay between epochs: starting them would weigh little in a real one."""
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def run() -> float:
        model = assemble(net).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        began = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        return len(pictures) / (time.perf_counter() - began)

    return run


def rivals(name: str, count: int) -> dict[str, Callable[[], float]]:
    net = build(name, input=(3, SIDE, SIDE), classes=10)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, count)
    samples = tuple(Sample(str(number), int(label)) for number, label in enumerate(labels))
    pixels = Pixels(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels), samples)
    loader = Loader(pixels, Preprocess(3, SIDE, SIDE), batch_size=BATCH, augment=Augment(flip=True, shift=4), shuffle=True)
    numbers = chosen_numbers(net, loader)
    pictures = Pictures(images, labels)
    return {
        "bare": bare(net, BATCH, count // BATCH, numbers),
        "ours": lambda: count / epoch_of(net, loader, numbers),
        "plain, no workers": plain(net, pictures, 0),
        "plain, 2 workers": plain(net, pictures, 2),
    }


def photos(folder: Path) -> dict[str, Callable[[], float]]:
    source, net, batch = open_source(str(folder)), build("resnet18", classes=5), 32
    preprocess, augment, numbers = Preprocess(*net.input), Augment(flip=True, shift=0, crop_scale=0.35), Numbers()

    def loop() -> float:
        pixels = open_pixels(source, "train", preprocess, DataConfig(store="disk"), whole=True)
        loader = Loader(pixels, preprocess, batch_size=batch, augment=augment, shuffle=True)
        return epoch_of(net, loader, numbers)

    def first() -> float:
        shutil.rmtree(os.environ["CNN_CACHE"], ignore_errors=True)
        began = time.perf_counter()
        loop()
        return len(source.samples("train")) / (time.perf_counter() - began)

    def later() -> float:
        return len(source.samples("train")) / loop()

    return {"bare": bare(net, batch, 8, numbers), "first epoch": first, "later epochs": later}


def ratio(measured: dict[str, list[float]], own: str, other: str) -> float:
    """The median over the rounds: within one, a busy neighbour disturbs both."""
    return statistics.median(a / b for a, b in zip(measured[own], measured[other], strict=True))


def show(words: str, measured: dict[str, list[float]], own: str, other: str, wanted: float) -> None:
    found = ratio(measured, own, other)
    print(f"{words:<42} {spread(measured[own], 1):>28} {spread(measured[other], 1):>28}  {found:5.2f}  {wanted:.2f}", flush=True)


def main() -> None:
    print(f"{'ours against':<42} {'ours, images/s':>28} {'other, images/s':>28}  ratio  wanted")
    for name, count in COUNTS.items():
        running = rivals(name, count)
        running["ours"]()  # kernels are chosen at the first use of a shape
        measured = interleaved(running, ROUNDS)
        fastest = max(("plain, no workers", "plain, 2 workers"), key=lambda rival: statistics.median(measured[rival]))
        size = f"{name}, 3x{SIDE}x{SIDE}"
        show(f"{size}: bare step", measured, "ours", "bare", WANTED_OF_BARE)
        show(f"{size}: {fastest}", measured, "ours", fastest, WANTED_OF_PLAIN)
    if "photos" in sys.argv and (TEST_DATA / "flowers").is_dir():
        os.environ["CNN_CACHE"] = tempfile.mkdtemp(prefix="cnn-bench-")
        measured = interleaved(photos(TEST_DATA / "flowers"), PHOTO_ROUNDS)
        show("resnet18 at 224, JPEG, first epoch: bare", measured, "first epoch", "bare", 0.75)
        show("resnet18 at 224, JPEG, later ones: bare", measured, "later epochs", "bare", 0.90)
        shutil.rmtree(os.environ["CNN_CACHE"])
    rounds = f"{ROUNDS} interleaved rounds (least to greatest), batch {BATCH}"
    print(f"median of {rounds}; {machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
