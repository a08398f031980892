"""Processor milliseconds to turn a JPEG file's bytes into pixels: `decode_array` against Pillow and torchvision.

Real photos (CNNCLI_TEST_DATA/flowers, 240 to 500 pixels a side), and one of them blown up to 12 megapixels as a phone saves it, decoded
whole and by `at_least`; with the PSNR between what the two give for an input of 224.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import interleaved, machine, spread
from torchvision.io import ImageReadMode, decode_jpeg

from cnncli.data.jpeg import decode_array

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
FOLDER = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[2] / "../shared/data")) / "flowers"
PHOTOS = 100
INPUT = 224


def pillow(data: bytes, channels: int = 3) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L" if channels == 1 else "RGB"))


def ours(data: bytes, channels: int = 3) -> np.ndarray:
    return decode_array(data, channels=channels)


def torchvision(data: bytes, channels: int = 3) -> torch.Tensor:
    mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode)


def cpu_seconds(run: Callable[[], object]) -> Callable[[], float]:
    """A rival that returns the processor time of `run`: everything here is one thread, and other work must not count."""

    def timed() -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    return timed


def compare(title: str, rivals: dict, count: int) -> None:
    """Milliseconds an image of each, and how much faster the first is."""
    timed = interleaved({name: cpu_seconds(run) for name, run in rivals.items()}, ROUNDS)
    first = statistics.median(next(iter(timed.values())))
    print(title)
    for name, values in timed.items():
        milliseconds = [1000 * value / count for value in values]
        print(f"  {name:40}{spread(milliseconds, 2):>26} ms   {statistics.median(values) / first:5.2f}")


def photos() -> list[bytes]:
    paths = sorted(FOLDER.glob("*/*"))
    data = [path.read_bytes() for path in paths[:: len(paths) // PHOTOS][:PHOTOS]]
    for each in data:
        assert (ours(each) == pillow(each)).all()
        assert (ours(each, 1)[..., 0] == pillow(each, 1)).all()
    return data


def large() -> bytes:
    """12 megapixels with the detail of a photo: a small one enlarged, and noise of a sensor."""
    with Image.open(sorted(FOLDER.glob("*/*"))[40]) as image:
        values = np.asarray(image.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = np.clip(values + np.random.default_rng(0).normal(0, 4, values.shape).astype(np.int16), 0, 255)
    stream = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels between the two, resized to the input."""
    small = [np.asarray(Image.fromarray(x).resize((INPUT, INPUT), Image.Resampling.BILINEAR), np.float64) for x in (a, b)]
    return float(10 * np.log10(255**2 / np.mean((small[0] - small[1]) ** 2)))


def draft(data: bytes, side: int) -> np.ndarray:
    """Pillow's own reduction, to a size of at least side x side."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        return np.asarray(image)


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    small = photos()
    for channels in (3, 1):
        rivals = {
            f"{name}, {channels} channel{'s' * (channels > 1)}": lambda run=run, c=channels: [run(each, c) for each in small]
            for name, run in (("decode_array", ours), ("Pillow and np.asarray", pillow), ("torchvision.io.decode_jpeg", torchvision))
        }
        compare(f"\n{len(small)} photos, {sum(map(len, small)) / len(small) / 1000:.0f} KB", rivals, len(small))
    data = large()
    sides = (INPUT, 2 * INPUT)
    rivals = {f"decode_array, at_least {s}": lambda s=s: decode_array(data, at_least=(s, s)) for s in sides}
    rivals |= {f"Pillow's draft, {sides[-1]}": lambda: draft(data, sides[-1]), "decode_array": lambda: ours(data)}
    rivals |= {"Pillow and np.asarray": lambda: pillow(data), "torchvision.io.decode_jpeg": lambda: torchvision(data)}
    compare(f"\none photo of 4000 x 3000, {len(data) / 1e6:.1f} MB", rivals, 1)
    whole = ours(data)
    for side in sides:
        part = decode_array(data, at_least=(side, side))
        print(f"  at_least {side}: {part.shape[1]} x {part.shape[0]}, {psnr(whole, part):.1f} dB from the whole, both resized to {INPUT}")
    print(f"\n{ROUNDS} rounds, processor time: median (least to greatest), and in times of the first; {machine()}, one thread")


if __name__ == "__main__":
    main()
