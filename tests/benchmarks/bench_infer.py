"""Images a second of the forward pass of `cnn eval`, in each precision, against the plain one: evaluation mode, float32, no gradients.

Photos (the flowers of the test data, else noise) give the share of images whose label is that of the plain pass: with the trained
SqueezeNet of the test data, and with nets whose weights are random, whose batch norms have seen photos, and whose last layer is fitted to
the photos by least squares.

The last lines are of the whole loop of `cnn eval`: reading batches from memory, normalising, scoring and judging, against the forward
pass alone on one fixed batch.

    python tests/benchmarks/bench_infer.py [ROUNDS] [PHOTOS] [compile] [busy] [NET...]

busy: for a machine on which others compute: one thread, the processor's seconds instead of the clock's, and small batches.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads collapse where others run too

import torch
from timing import interleaved, machine, spread
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample, open_source
from cnncli.engine.config import InferConfig
from cnncli.engine.infer import Forward, prepare, scores
from cnncli.engine.metrics import judge
from cnncli.models.assemble import assemble
from cnncli.models.weights import load_published

NUMBERS = [argument for argument in sys.argv[1:] if argument.isdigit()]
ROUNDS, PHOTOS = (int(number) for number in (*NUMBERS, *("5", "200")[len(NUMBERS) :]))
BUSY = "busy" in sys.argv
TEST_DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
WEIGHTS = TEST_DATA / "weights" / "squeezenet1_1_imagenet.pth"
BATCH = 16 if BUSY else 64
LONG = 1_000_000  # images: as for a job that is worth trying out what is fastest
CPU = torch.device("cpu")
now = time.process_time if BUSY else time.perf_counter
NETS = {"resnet18": 224, "mobilenet_v2": 224, "resnet20": 32, "squeezenet1_1": 224}
WANTED_AGREEMENT, WANTED_LOOP = 0.995, 0.95


def photos(side: int) -> Pixels:
    """Those of the test data, shuffled; else noise."""
    preprocess = preprocessing(side)
    if not (TEST_DATA / "flowers").is_dir():
        images = torch.randint(0, 256, (256, 3, side, side), dtype=torch.uint8)
        return Pixels(images, torch.arange(256) % 5, tuple(Sample(str(number), number % 5) for number in range(256)))
    source = open_source(str(TEST_DATA / "flowers"))
    samples = list(source.samples("all"))
    samples = random.Random(0).sample(samples, PHOTOS)
    images = torch.stack([torch.from_numpy(preprocess.pixels(source.read(sample))) for sample in samples])
    return Pixels(images, torch.tensor([sample.label for sample in samples]), tuple(samples))


def preprocessing(side: int) -> Preprocess:
    return Preprocess(3, side, side, crop_fraction=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def opened(name: str, side: int, images: Tensor, labels: Tensor) -> nn.Module:
    """Trained weights where there are any; else random ones, the batch norms and the last layer made to fit the photos."""
    if name == "squeezenet1_1" and WEIGHTS.is_file():
        return load_published(name, str(WEIGHTS), tell=lambda _: None)[0]
    torch.manual_seed(0)
    model = assemble(build(name, input=(3, side, side), classes=5)).train()
    with torch.no_grad():
        for _ in range(20 if side < 64 else 3):
            model(images[:BATCH])
    model.eval()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if last:
        fit_last(model, last[-1], images, labels)
    return model


@torch.no_grad()
def fit_last(model: nn.Module, last: nn.Linear, images: Tensor, labels: Tensor) -> None:
    """Least squares with a ridge: 10 for the right class, 0 for the others."""
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    for part in images.split(BATCH):
        model(part)
    handle.remove()
    features = torch.cat(seen).double()
    mean = features.mean(0)
    centred = features - mean
    wanted = 10 * nn.functional.one_hot(labels, 5).double()
    gram = centred.T @ centred
    weight = torch.linalg.solve(
        gram + 1e-2 * gram.trace() / len(gram) * torch.eye(len(gram)).double(), centred.T @ (wanted - wanted.mean(0))
    )
    last.weight.copy_(weight.T)
    last.bias.copy_(wanted.mean(0) - mean @ weight)


def ready(model: nn.Module, images: Tensor, precision: str, *, compiled: bool = False) -> Forward:
    return prepare(model, lambda: images[:BATCH], InferConfig(precision, compiled), device=CPU, images=LONG)


def rate(run: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Images a second."""
    with torch.inference_mode():
        began = now()
        run(images)
        return len(images) / (now() - began)


def labels_of(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([run(part).argmax(1) for part in images.split(BATCH)])


def forwards(name: str, side: int, pixels: Pixels) -> None:
    images = preprocessing(side).normalise(pixels.images)
    model = opened(name, side, images, pixels.labels)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"plain fp32": model}
    for precision in ("fp32", "bf16", "auto"):
        ways[precision] = ready(model, images, precision)
    if "compile" in sys.argv:
        ways["fp32 --compile"] = ready(model, images, "fp32", compiled=True)
    part = images[:BATCH]
    for run in ways.values():
        rate(run, part)  # kernels are chosen at the first use of a shape
    measured = interleaved({way: partial(rate, run, part) for way, run in ways.items()}, ROUNDS)
    expected = labels_of(model, images)
    for way, run in ways.items():
        speed = statistics.median(a / b for a, b in zip(measured[way], measured["plain fp32"], strict=True))
        agreement = (labels_of(run, images) == expected).float().mean().item()
        mark = "" if agreement >= WANTED_AGREEMENT else f"  below {WANTED_AGREEMENT:.1%}"
        print(f"{f'{name}, {side}: {way}':<34} {spread(measured[way], 1):>28}  {speed:5.2f}  {agreement:7.2%}{mark}", flush=True)
        if isinstance(run, Forward):
            print(f"    {run.how}")


def loop(name: str, side: int, pixels: Pixels) -> None:
    """The loop of `cnn eval` against the bare forward pass."""
    images = preprocessing(side).normalise(pixels.images[:BATCH])
    forward = ready(opened(name, side, images, pixels.labels[:BATCH]), images, "fp32")
    loader = Loader(pixels, preprocessing(side), batch_size=BATCH)
    count = len(pixels.labels) // BATCH * BATCH

    def whole() -> float:
        labels: list[Tensor] = []
        began = now()

        def batches():
            for batch in loader.epoch(0):
                labels.append(batch.labels)
                yield batch.images

        found = torch.cat(list(scores(forward, batches())))
        judge(found, torch.cat(labels), tuple(str(number) for number in range(found.shape[1])))
        return len(found) / (now() - began)

    def bare() -> float:
        began = now()
        for _ in range(count // BATCH):
            forward(images)
        return count / (now() - began)

    whole(), bare()
    measured = interleaved({"whole": whole, "bare": bare}, ROUNDS)
    found = statistics.median(a / b for a, b in zip(measured["whole"], measured["bare"], strict=True))
    mark = "" if found >= WANTED_LOOP else f"  below {WANTED_LOOP:.2f}"
    print(f"{f'{name}, {side}: whole loop / bare':<34} {spread(measured['whole'], 1):>28}  {found:5.2f}{mark}", flush=True)


def main() -> None:
    print(f"{'':<34} {'images/s':>28}  ratio  same labels as plain fp32")
    if BUSY:
        torch.set_num_threads(1)
    nets = {name: side for name, side in NETS.items() if name in sys.argv or not set(NETS) & set(sys.argv)}
    kept = {side: photos(side) for side in sorted(set(nets.values()))}
    for name, side in nets.items():
        forwards(name, side, kept[side])
    for name in nets.keys() & {"resnet18", "resnet20"}:
        loop(name, nets[name], kept[nets[name]])
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), batch {BATCH}; {machine()}, torch {torch.__version__}")
    print(
        f"bf16 in hardware: {torch.cpu.get_capabilities().get('avx512_bf16', False)}; load {os.getloadavg()[0]:.1f}"
        + ("; seconds of the processor, one thread" if BUSY else "")
    )


if __name__ == "__main__":
    main()
