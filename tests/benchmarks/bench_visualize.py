"""What it costs to look inside: signals back to the pixels beside a plain forward and backward pass, the strongest patches of all layers
beside bare inference, Grad-CAM of 1,000 images beside the passes that it needs.

    python tests/benchmarks/bench_visualize.py [ROUNDS] [IMAGES] [NET ...]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import torch
from timing import interleaved, machine, spread
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine.layers import layers_of
from cnncli.engine.relu_rules import RULES
from cnncli.models.assemble import assemble
from cnncli.visualize.backprop import Aim, signals
from cnncli.visualize.gradcam import grad_cam, last_map
from cnncli.visualize.strongest import all_maps, map_of, search

ROUNDS, IMAGES = (int(given) for given in (*sys.argv[1:3], *("5", "256")[len(sys.argv) - 1 :]))
NETS = sys.argv[3:] or ["alexnet-owt", "resnet18", "squeezenet1_1", "vgg11"]
BATCH = 32
MOST, LEAST = 1.3, 0.9  # of the time of a plain pass; of bare inference


def of_signals(model: nn.Module, images: Tensor) -> dict[str, Callable[[], float]]:
    """Images a second."""

    def plain() -> float:
        began = time.perf_counter()
        given = images.clone().requires_grad_()
        torch.autograd.grad(model(given).amax(1).sum(), given)
        return len(images) / (time.perf_counter() - began)

    def by(rule: str) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            signals(model, images, Aim(), rule)  # type: ignore[arg-type] # one of RULES
            return len(images) / (time.perf_counter() - began)

        return run

    return {"plain": plain} | {rule: by(rule) for rule in RULES}


def of_patches(name: str, model: nn.Module) -> dict[str, Callable[[], float]]:
    """Images a second: the net alone on one batch, and the search for the 9 strongest patches of every channel of every layer."""
    net = build(name)
    how = Preprocess(*net.input)
    pixels = torch.randint(0, 256, (IMAGES, *net.input), dtype=torch.uint8)
    samples = tuple(Sample(f"{number}.png", 0) for number in range(IMAGES))
    loader = Loader(Pixels(pixels, torch.zeros(IMAGES, dtype=torch.int64), samples), how, batch_size=BATCH)
    batch = how.normalise(pixels[:BATCH])
    layers = layers_of(model, net.input)
    taps = [map_of(layers, layer) for layer in all_maps(layers)]

    def bare() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for _ in range(IMAGES // BATCH):
                model(batch)
        return IMAGES / (time.perf_counter() - began)

    def patches() -> float:
        began = time.perf_counter()
        search(model, taps, ((own.images, own.indices) for own in loader.epoch(0)), 9, count=IMAGES)
        return IMAGES / (time.perf_counter() - began)

    return {"bare": bare, f"patches, {len(taps)} layers": patches}


def of_cams(model: nn.Module, images: Tensor, size: tuple[int, int, int]) -> dict[str, Callable[[], float]]:
    """Images a second, in batches, as many as there are."""
    layers = layers_of(model, size)
    tap = layers.find(last_map(layers), "before")

    def cam() -> float:
        began = time.perf_counter()
        for batch in images.split(BATCH):
            grad_cam(model, batch, tap)
        return len(images) / (time.perf_counter() - began)

    return {"grad-cam": cam}


def main() -> None:
    """A line a net."""
    print(machine(), f"{ROUNDS} rounds", sep="; ")
    for name in NETS:
        torch.manual_seed(0)
        net = build(name)
        model, images = assemble(net).eval(), torch.randn(BATCH, *net.input)
        found = interleaved(of_signals(model, images), ROUNDS)
        print(f"{name}: plain forward and backward {spread(found['plain'], 1)} images/s")
        for rule in RULES:
            times = [plain / own for plain, own in zip(found["plain"], found[rule], strict=True)]
            print(f"  {rule}: {spread(times, 2)} of its time (at most {MOST})")
        rivals = of_patches(name, model)
        found = interleaved(rivals, ROUNDS)
        last = list(rivals)[-1]
        shares = [own / bare for bare, own in zip(found["bare"], found[last], strict=True)]
        print(f"  {last}: {spread(shares, 2)} of bare inference (at least {LEAST}), {spread(found[last], 1)} images/s")
    net = build("resnet18")
    found = interleaved(of_cams(assemble(net).eval(), torch.randn(1000, *net.input), net.input), 1)
    print(f"grad-cam of 1,000 images by resnet18: {1000 / found['grad-cam'][0]:.1f} s")


if __name__ == "__main__":
    main()
