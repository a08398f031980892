"""How much of the net's own speed `cnn predict` keeps where decoding is not the limit, and what many images cost in time and memory.

The bare loop calls the prepared forward on one normalised batch again and again. The pipeline gets tiny images, which decode in some ten
microseconds and are enlarged to what the net takes, or images that are decoded already; the difference is what names, threads, stacking,
normalising, sorting and writing take. With COUNT, that many tiny PNG files are predicted by the command itself, which shows its memory.

    python tests/benchmarks/bench_predict.py [ROUNDS] [COUNT]
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import numpy as np
import torch
from PIL import Image
from timing import interleaved, machine, spread

from cnncli.arch.zoo.table import build
from cnncli.cli.predicting import predict
from cnncli.cli.prediction_output import Output
from cnncli.data.decode import Decoding
from cnncli.data.inputs import Input
from cnncli.data.preprocess import Preprocess
from cnncli.engine.config import InferConfig
from cnncli.engine.infer import Forward, prepare
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, save

ROUNDS, COUNT = (int(given) for given in (*sys.argv[1:3], *("7", "5000")[len(sys.argv) - 1 :]))
BATCH, WANTED = 64, 0.95
CPU = torch.device("cpu")
NETS = {"resnet18": 128, "mobilenet_v2": 128, "squeezenet1_1": 192, "resnet20": 2560}  # images a round


class Held(Input):
    """An image that is decoded already."""

    def read(self, how: Decoding, channels: int = 3) -> Image.Image:
        return HELD[channels]


NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
HELD = {3: Image.fromarray(NOISE), 1: Image.fromarray(NOISE[..., 0])}


def tiny() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(NOISE[:16, :16]).save(stream, "JPEG")
    return stream.getvalue()


def rivals(name: str, count: int) -> dict[str, Callable[[], float]]:
    """Images a second of: the bare loop, and the pipeline with its output, on tiny and on decoded images."""
    torch.manual_seed(0)
    net = build(name)
    model, preprocess = assemble(net).eval(), Preprocess(*net.input)
    classes = tuple(map(str, range(net.classes)))
    held = HELD[net.input[0]].resize((net.input[2], net.input[1]))
    HELD[net.input[0]] = held
    batch = preprocess.normalise(torch.from_numpy(np.stack([preprocess.pixels(held)] * BATCH)))
    forward: Forward = prepare(model, lambda: batch, InferConfig(precision="fp32"), device=CPU)
    data = tiny()

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(count // BATCH):
            forward(batch)
        return count / (time.perf_counter() - began)

    def pipeline(inputs: Callable[[], Iterator[Input]]) -> float:
        output = Output(classes, "json", top=5, threshold=None, copy_to=None, bars=False, seen=True)
        began = time.perf_counter()
        found = predict(
            *(model, preprocess, classes, inputs()), top=5, batch_size=BATCH, max_pixels=2**26, prepared=lambda example: forward
        )
        with open(os.devnull, "w") as nowhere:
            output.give(found, nowhere.write)
        return count / (time.perf_counter() - began)

    return {
        "bare": bare,
        "decoded": partial(pipeline, lambda: (Held(f"{number}.jpg") for number in range(count))),
        "tiny": partial(pipeline, lambda: (Input(f"{number}.jpg", data) for number in range(count))),
    }


def speeds() -> None:
    print(f"{'net':<14} {'bare loop, images/s':>24} {'of it, decoded':>26} {'of it, 16x16 JPEGs':>26}")
    for name, count in NETS.items():
        of = rivals(name, count)
        interleaved(of, 1)
        measured = interleaved(of, ROUNDS)
        shares = {rival: [own / best for own, best in zip(measured[rival], measured["bare"], strict=True)] for rival in ("decoded", "tiny")}
        told = [f"{statistics.median(values):.1%} ({min(values):.1%} to {max(values):.1%})" for values in shares.values()]
        print(f"{name:<14} {spread(measured['bare']):>24} {told[0]:>26} {told[1]:>26}")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), batch {BATCH}; wanted: {WANTED:.0%}")


# A child's peak begins at the memory of the process that starts it, so a small one does.
PEAK = """
import os, sys
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet), 0)
assert status == 0
print(usage.ru_maxrss)
"""


def peak_of(line: list[str]) -> float:
    """MiB."""
    done = subprocess.run([sys.executable, "-S", "-c", PEAK, *line], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return int(done.stdout) / 1024


def memory() -> None:
    """Time and peak memory of the command on COUNT tiny files, and on a hundredth of them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        net = build("lenet5")
        save(folder / "m.safetensors", assemble(net), ModelInfo(net=net, classes=tuple("0123456789"), preprocess=Preprocess(*net.input)))
        stream = io.BytesIO()
        Image.fromarray(NOISE[:28, :28, 0]).save(stream, "PNG")
        for some, count in (("few", COUNT // 100), ("many", COUNT)):
            for number in range(count):
                path = folder / some / f"{number % 100:02d}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.getvalue())
        cnn = str(Path(sys.executable).parent / "cnn")
        for some, count in (("few", COUNT // 100), ("many", COUNT)):
            began = time.perf_counter()
            peak = peak_of([cnn, "predict", str(folder / "m.safetensors"), str(folder / some), "-o", str(folder / f"{some}.jsonl")])
            took = time.perf_counter() - began
            lines = (folder / f"{some}.jsonl").read_text().splitlines()
            assert len(lines) == count
            assert "predictions" in json.loads(lines[-1])
            print(f"{count:>7,} files of 28x28: {took:6.1f} s with its start, peak memory {peak:,.0f} MiB")


def main() -> None:
    speeds()
    memory()
    print(f"{machine()}, torch {torch.__version__} with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
