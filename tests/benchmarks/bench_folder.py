"""A folder of 100,000 JPEGs: memory of training above that of training on 400 of them, and seconds to open it, once and again.

The images are parts of the photos in the test data. argument: how many (default 100,000).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from timing import machine, peak_mib

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
OPEN = """
import sys, time
from cnncli.data.config import DataConfig
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import open_source
from cnncli.data.store import open_pixels
began = time.perf_counter()
source = open_source(sys.argv[1])
kept = [open_pixels(source, split, Preprocess(3, 64, 64), DataConfig(store="disk")) for split in ("train", "val")]
print(f"{time.perf_counter() - began:.2f}")
"""


def make(folder: Path, photos: list[np.ndarray], count: int) -> None:
    """`count` different JPEGs of 96x72 pixels in ten classes."""

    def one(number: int) -> None:
        rng = np.random.default_rng(number)
        photo = photos[number % len(photos)]
        top, left = rng.integers(0, photo.shape[0] - 72), rng.integers(0, photo.shape[1] - 96)
        Image.fromarray(photo[top : top + 72, left : left + 96]).save(folder / f"{number % 10}" / f"{number:06d}.jpg", quality=85)

    for name in range(10):
        (folder / str(name)).mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))


def main() -> None:
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in sorted((TEST_DATA / "flowers").glob("*/*"))[::8]]
    photos = [photo for photo in photos if photo.shape[0] > 80 and photo.shape[1] > 100]
    if not photos:
        print(f"no photos in {TEST_DATA / 'flowers'}")
        return
    place = Path(tempfile.mkdtemp(prefix="cnn-bench-"))
    os.environ["CNN_CACHE"] = str(place / "cache")
    os.chdir(place)
    try:
        for name, count in (("many", COUNT), ("few", 400)):
            make(place / name, photos, count)
        line = [sys.executable, "-m", "cnncli", "train", "mlp", "--input", "3x64x64", "--epochs", "1", "--overwrite"]
        memory = {name: peak_mib([*line, "--data", name, "--out", f"run-{name}", "--store", "disk"]) for name in ("few", "many")}
        print(f"training on {COUNT:,} JPEGs, decoding included: {memory['many']:,.0f} MiB, on 400 {memory['few']:,.0f} MiB")
        print(f"more: {memory['many'] - memory['few']:,.0f} MiB (wanted: less than 2,048)")
        shutil.rmtree(place / "cache")
        for words in ("decoding all", "the second time"):
            done = subprocess.run([sys.executable, "-c", OPEN, "many"], capture_output=True, text=True, check=True)
            print(f"opened, {words}: {done.stdout.strip()} s" + (" (wanted: less than 3)" if words == "the second time" else ""))
        print(f"imports not counted; {machine()}, {time.strftime('%Y-%m-%d')}")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
