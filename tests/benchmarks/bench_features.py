"""How much of the net's own speed `cnn features extract` keeps, what many images cost in time and memory, and how soon an index is open.

The bare loop calls the prepared forward pass, images to the numbers of one layer, on one normalised batch again and again; the extraction
reads decoded images from memory, normalises them, writes blocks to the disk and puts the file together. With COUNT, features of that many
tiny PNG files are extracted by the command itself, which shows its memory.

    python tests/benchmarks/bench_features.py [ROUNDS] [COUNT]
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import numpy as np
import torch
from bench_predict import peak_of
from PIL import Image
from timing import interleaved, machine, spread

from cnncli.arch.zoo.table import build
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine.layers import layers_of
from cnncli.engine.tapped import Wanted, prepared
from cnncli.features.beside import Content, content_of
from cnncli.features.extract import OfModel, blocks_of, extract
from cnncli.features.feature_set import FeatureSet, Space
from cnncli.features.files import read_features, write_features
from cnncli.features.parts import open_parts
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, save

ROUNDS, COUNT = (int(given) for given in (*sys.argv[1:3], *("7", "5000")[len(sys.argv) - 1 :]))
BATCH, WANTED = 64, 0.95
CPU = torch.device("cpu")
NETS = {"resnet18": ("pool", 256), "squeezenet1_1": ("fire9", 1024), "resnet20": ("pool", 8192)}  # layer, images a round


def rivals(name: str, layer: str, count: int, home: Path) -> dict[str, Callable[[], float]]:
    """Images a second of the bare loop, and of an extraction into a file."""
    torch.manual_seed(0)
    net = build(name)
    model, how = assemble(net).eval(), Preprocess(*net.input)
    images = torch.randint(0, 256, (count, *net.input), dtype=torch.uint8)
    samples = tuple(Sample(f"{number}.png", 0) for number in range(count))
    loader = Loader(Pixels(images, torch.zeros(count, dtype=torch.int64), samples), how, batch_size=BATCH)
    batch = how.normalise(images[:BATCH])
    wanted = Wanted(layer, layers_of(model, net.input).find(layer, "after"), "avg")
    forward = prepared(model, [wanted], batch, "fp32", CPU, count=count)
    embedder = OfModel((Space(layer, "layer", wanted.shape),), forward)

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(count // BATCH):
            forward(batch)
        return count / (time.perf_counter() - began)

    def extraction() -> float:
        began = time.perf_counter()
        out = home / f"{name}.npy"
        parts, _ = open_parts(out, {}, blocks_of(loader), anew=True)
        for number, block in extract([embedder], loader):
            parts.write(number, block)
        labels = np.zeros(count, dtype=np.int64)
        features = FeatureSet({}, embedder.spaces, labels, ("one",), tuple(sample.path for sample in samples), ("",) * count)
        write_features(out, Content(features, parts.chunks))
        parts.remove()
        return count / (time.perf_counter() - began)

    return {"bare": bare, "extraction": extraction}


def speeds() -> None:
    print(f"{'net':<14} {'layer':<6} {'bare loop, images/s':>24} {'of it, extraction':>26}")
    with tempfile.TemporaryDirectory() as home:
        for name, (layer, count) in NETS.items():
            of = rivals(name, layer, count, Path(home))
            interleaved(of, 1)
            measured = interleaved(of, ROUNDS)
            shares = [own / best for own, best in zip(measured["extraction"], measured["bare"], strict=True)]
            told = f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
            print(f"{name:<14} {layer:<6} {spread(measured['bare']):>24} {told:>26}")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), batch {BATCH}; wanted: {WANTED:.0%}")


def memory() -> None:
    """Time and peak memory of the command on COUNT tiny files, and on a hundredth of them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        net = build("lenet5")
        save(folder / "m.safetensors", assemble(net), ModelInfo(net=net, classes=tuple("0123456789"), preprocess=Preprocess(*net.input)))
        stream = io.BytesIO()
        Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save(stream, "PNG")
        cnn = str(Path(sys.executable).parent / "cnn")
        for some, count in (("few", COUNT // 100), ("many", COUNT)):
            for number in range(count):
                path = folder / some / f"{number % 100:02d}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.getvalue())
            out = folder / f"{some}.npy"
            began = time.perf_counter()
            peak = peak_of([cnn, "features", "extract", str(folder / "m.safetensors"), "--data", str(folder / some), "-o", str(out)])
            took = time.perf_counter() - began
            assert len(np.load(out, mmap_mode="r")) == count
            print(f"{count:>7,} files of 28x28: {took:6.1f} s with its start, peak memory {peak:,.0f} MiB")


def opening() -> None:
    """Seconds until a file of 100,000 x 512 is open."""
    count = 100_000
    array = np.zeros((count, 512), dtype=np.float32)
    paths = tuple(f"photos/class {number % 100}/{number:06d}.jpg" for number in range(count))
    labels = np.arange(count, dtype=np.int64) % 100
    features = FeatureSet(
        {"pool": array}, (Space("pool", "layer", (512,)),), labels, tuple(map(str, range(100))), paths, ("train",) * count
    )
    with tempfile.TemporaryDirectory() as home:
        for suffix in (".npz", ".npy", ".safetensors"):
            path = Path(home) / f"index{suffix}"
            write_features(path, content_of(features))
            took = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                read_features(path)
                took.append(time.perf_counter() - began)
            print(f"opening 100,000 x 512 as {suffix:<13} {statistics.median(took):.3f} s")
            path.unlink()


def main() -> None:
    speeds()
    opening()
    memory()
    print(f"{machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
