"""The zoo: every named net, as a table. Listing it imports no family; `build` imports the one it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from cnncli.arch.checks import LARGEST_NUMBER
from cnncli.arch.net import Net
from cnncli.errors import UsageError, near_miss


@dataclass(frozen=True)
class Entry:
    """One named net: `builder` is family file and function, called with `arguments` and its name."""

    builder: str
    summary: str
    year: int
    arguments: Mapping[str, object] = field(default_factory=dict)


def _vgg(column: str) -> Entry:
    return Entry("vgg:vgg", f"VGG, column {column} of the paper's table", 2014, {"column": column})


def _cifar(n: int, *, residual: bool) -> Entry:
    kind = "ResNet" if residual else "net without shortcuts"
    return Entry("resnet_cifar:resnet_cifar", f"CIFAR {kind}, {6 * n + 2} layers", 2015, {"n": n, "residual": residual})


_CIFAR_DEPTHS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}  # layers: blocks per stage

ZOO: dict[str, Entry] = {
    "mlp": Entry("mlp:mlp", "one hidden layer on stretched pixels", 1986),
    "lenet5": Entry("lenet:lenet5", "LeNet-5: digits, tanh, average pooling", 1998),
    "alexnet": Entry("alexnet:alexnet", "AlexNet as one tower, 227x227", 2012),
    "alexnet-two-tower": Entry("alexnet:alexnet", "AlexNet as published, on two GPUs", 2012, {"towers": 2}),
    "convnetjs-cifar10": Entry("convnetjs:convnetjs_cifar10", "CIFAR-10 demo in the browser", 2014),
    "vgg11": _vgg("A"),
    "vgg11-lrn": _vgg("A-LRN"),
    "vgg13": _vgg("B"),
    "vgg16-c": _vgg("C"),
    "vgg16": _vgg("D"),
    "vgg19": _vgg("E"),
    **{f"resnet{layers}": _cifar(n, residual=True) for layers, n in _CIFAR_DEPTHS.items()},
    **{f"plain{layers}": _cifar(n, residual=False) for layers, n in _CIFAR_DEPTHS.items()},
}


def build(name: str, *, input: tuple[int, int, int] | None = None, classes: int | None = None) -> Net:
    """The named net, with its own input size and number of classes unless told otherwise. UsageError for an unknown name."""
    entry = ZOO.get(name)
    if entry is None:
        raise UsageError(f"unknown net {name!r}", near_miss(name, list(ZOO)) or "`cnn models` lists all")
    module, function = entry.builder.split(":")
    if classes is not None and not 1 <= classes <= LARGEST_NUMBER:
        raise UsageError(f"--classes {classes} should be a whole number from 1 to {LARGEST_NUMBER}", path="--classes")
    arguments = {"name": name, **entry.arguments}
    if input is not None:
        arguments["input"] = input
    if classes is not None:
        arguments["classes"] = classes
    net: Net = getattr(import_module(f"cnncli.arch.zoo.{module}"), function)(**arguments)
    return net
