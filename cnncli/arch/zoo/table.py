"""The zoo: every named net, as a table. Listing it imports no family; `build` imports the one it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import FunctionType

from cnncli.arch.checks import LARGEST_NUMBER
from cnncli.arch.net import Net
from cnncli.errors import UsageError, near_miss

Setting = int | float | bool


@dataclass(frozen=True)
class Entry:
    """One named net: `builder` is family file and function, called with `arguments` (what the name stands for) and its name."""

    builder: str
    summary: str
    year: int
    arguments: Mapping[str, object] = field(default_factory=dict)


def _vgg(column: str) -> Entry:
    return Entry("vgg:vgg", f"VGG, column {column} of the paper's table", 2014, {"column": column, "batch_norm": False})


def _vgg_bn(column: str) -> Entry:
    return Entry("vgg:vgg", f"VGG, column {column}, with batch norm", 2015, {"column": column, "batch_norm": True})


def _resnet(layers: int) -> Entry:
    return Entry("resnet:resnet", f"ResNet, {layers} layers, as torchvision trains it", 2015, {"layers": layers, "stride_in_3x3": True})


def _resnet_v1(layers: int) -> Entry:
    return Entry("resnet:resnet", f"ResNet, {layers} layers, as published", 2015, {"layers": layers, "stride_in_3x3": False})


def _densenet(layers: int) -> Entry:
    return Entry("densenet:densenet", f"DenseNet-BC, {layers} layers, growth 32", 2016, {"layers": layers})


def _densenet_cifar(layers: int, growth: int) -> Entry:
    return Entry(
        "densenet:densenet_cifar", f"CIFAR DenseNet-BC, {layers} layers, growth {growth}", 2016, {"layers": layers, "growth": growth}
    )


def _cifar(n: int, *, residual: bool) -> Entry:
    kind = "ResNet" if residual else "net without shortcuts"
    return Entry("resnet_cifar:resnet_cifar", f"CIFAR {kind}, {6 * n + 2} layers", 2015, {"n": n, "residual": residual})


def _nasnet(genotype: str, paper_name: str, year: int, *, filters: int, cells: int) -> Entry:
    arguments = {"genotype": genotype, "filters": filters, "cells": cells}
    return Entry("nasnet:nasnet_cifar", f"CIFAR {paper_name}", year, arguments)


def _nasnet_imagenet(
    genotype: str, paper_name: str, year: int, *, filters: int, cells: int, large: bool = False, past_reduction: bool = False
) -> Entry:
    arguments = {"genotype": genotype, "filters": filters, "cells": cells, "past_reduction": past_reduction}
    arguments |= {"stem_filters": 96, "input": (3, 331, 331)} if large else {"stem_filters": 32}
    return Entry("nasnet:nasnet_imagenet", paper_name, year, arguments)


def _darts(genotype: str) -> Entry:
    summary = f"CIFAR DARTS {genotype}: cells found by gradient descent"
    return Entry("darts:darts_cifar", summary, 2018, {"genotype": genotype, "filters": 36, "cells": 20})


def _darts_imagenet(genotype: str) -> Entry:
    summary = f"DARTS {genotype}: CIFAR's cells, 14 of them"
    return Entry("darts:darts_imagenet", summary, 2018, {"genotype": genotype, "filters": 48, "cells": 14})


_CIFAR_DEPTHS = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}  # layers: blocks per stage

ZOO: dict[str, Entry] = {
    "mlp": Entry("mlp:mlp", "one hidden layer on stretched pixels", 1986),
    "lenet5": Entry("lenet:lenet5", "LeNet-5: digits, tanh, average pooling", 1998),
    "alexnet": Entry("alexnet:alexnet", "AlexNet as one tower, 227x227", 2012, {"towers": 1}),
    "alexnet-two-tower": Entry("alexnet:alexnet", "AlexNet as published, on two GPUs", 2012, {"towers": 2}),
    "alexnet-owt": Entry("alexnet:alexnet_owt", "AlexNet of torchvision, 224x224", 2014),
    "zfnet": Entry("zfnet:zfnet", "AlexNet with a finer first layer", 2013),
    "convnetjs-cifar10": Entry("convnetjs:convnetjs_cifar10", "CIFAR-10 demo in the browser", 2014),
    "cifar-speed": Entry("cifar_speed:cifar_speed", "CIFAR-10 in minutes: whitening, three pairs of convolutions", 2024),
    "vgg11": _vgg("A"),
    "vgg11-lrn": _vgg("A-LRN"),
    "vgg13": _vgg("B"),
    "vgg16-c": _vgg("C"),
    "vgg16": _vgg("D"),
    "vgg19": _vgg("E"),
    "vgg11-bn": _vgg_bn("A"),
    "vgg13-bn": _vgg_bn("B"),
    "vgg16-bn": _vgg_bn("D"),
    "vgg19-bn": _vgg_bn("E"),
    "googlenet": Entry("googlenet:googlenet", "Inception modules with batch norm, as torchvision trains them", 2014),
    "googlenet-v1": Entry("googlenet:googlenet_v1", "Inception modules as published", 2014),
    **{f"resnet{layers}": _resnet(layers) for layers in (18, 34, 50, 101, 152)},
    **{f"resnet{layers}-v1": _resnet_v1(layers) for layers in (50, 101, 152)},
    **{f"resnet{layers}": _cifar(n, residual=True) for layers, n in _CIFAR_DEPTHS.items()},
    "resnet1202": _cifar(200, residual=True),
    **{f"plain{layers}": _cifar(n, residual=False) for layers, n in _CIFAR_DEPTHS.items()},
    **{f"densenet{layers}": _densenet(layers) for layers in (121, 169, 201)},
    **{f"densenet-bc-{layers}-{growth}": _densenet_cifar(layers, growth) for layers, growth in ((100, 12), (250, 24), (190, 40))},
    "squeezenet1_1": Entry("squeezenet:squeezenet1_1", "fire modules: few weights, no fully connected layer", 2016),
    "mobilenet_v2": Entry("mobilenet:mobilenet_v2", "inverted residuals, depthwise convolutions", 2018),
    "nasnet-a": _nasnet("nasnet-a", "NASNet-A (6 @ 768): cells found by reinforcement learning", 2017, filters=32, cells=20),
    "nasnet-a-mobile": _nasnet_imagenet("nasnet-a", "NASNet-A (4 @ 1056), 224x224", 2017, filters=44, cells=14),
    "nasnet-a-large": _nasnet_imagenet(
        "nasnet-a", "NASNet-A (6 @ 4032), 331x331", 2017, filters=168, cells=20, large=True, past_reduction=True
    ),
    "pnasnet-5": _nasnet("pnasnet-5", "PNASNet-5 (N=3, F=48): a cell grown node by node", 2017, filters=48, cells=9),
    "pnasnet-5-mobile": _nasnet_imagenet("pnasnet-5", "PNASNet-5 (N=3, F=54), 224x224", 2017, filters=54, cells=9),
    "pnasnet-5-large": _nasnet_imagenet("pnasnet-5", "PNASNet-5 (N=4, F=216), 331x331", 2017, filters=216, cells=12, large=True),
    "amoebanet-a": _nasnet("amoebanet-a", "AmoebaNet-A (N=6, F=36): cells found by evolution", 2018, filters=36, cells=20),
    "amoebanet-a-mobile": _nasnet_imagenet("amoebanet-a", "AmoebaNet-A (N=4, F=50), 224x224", 2018, filters=50, cells=14),
    "darts-v1": _darts("v1"),
    "darts-v2": _darts("v2"),
    "darts-v1-imagenet": _darts_imagenet("v1"),
    "darts-v2-imagenet": _darts_imagenet("v2"),
}


def build(name: str, *, input: tuple[int, int, int] | None = None, classes: int | None = None, **settings: Setting) -> Net:
    """The named net, with its own input size and number of classes unless told otherwise.

    settings: other arguments of this net, those of `arguments_of`. UsageError for an unknown name, or for a setting that
    the net does not take or that is of another type.
    """
    entry = _entry(name)
    if classes is not None and not 1 <= classes <= LARGEST_NUMBER:
        raise UsageError(f"--classes {classes} should be a whole number from 1 to {LARGEST_NUMBER}", path="--classes")
    _check_settings(name, settings)
    arguments = {"name": name, **entry.arguments, **settings}
    if input is not None:
        arguments["input"] = input
    if classes is not None:
        arguments["classes"] = classes
    net: Net = _builder(entry)(**arguments)
    return net


def arguments_of(name: str) -> dict[str, type[Setting]]:
    """What can be set in the named net beside its input and classes, with its type: {"hidden": int} for `mlp`.

    These are its family's keyword arguments with a number as default, without those that the name itself stands for:
    resnet20 with other than 20 layers would be no resnet20. UsageError for an unknown name.
    """
    entry = _entry(name)
    own = {"input", "classes", "name", *entry.arguments}
    defaults: dict[str, object] = _builder(entry).__kwdefaults__ or {}
    return {key: type(value) for key, value in defaults.items() if isinstance(value, Setting) and key not in own}


def _entry(name: str) -> Entry:
    entry = ZOO.get(name)
    if entry is None:
        raise UsageError(f"unknown net {name!r}", near_miss(name, list(ZOO)) or "`cnn models` lists all")
    return entry


def _builder(entry: Entry) -> FunctionType:
    module, function = entry.builder.split(":")
    builder: FunctionType = getattr(import_module(f"cnncli.arch.zoo.{module}"), function)
    return builder


def _check_settings(name: str, settings: Mapping[str, object]) -> None:
    if not settings:
        return
    known = arguments_of(name)
    takes = f"{name} takes {', '.join(f'{key} ({kind.__name__})' for key, kind in known.items())}" if known else f"{name} takes none"
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"{name} has no setting {key!r}", near_miss(key, list(known)) or takes)
        wanted = (int, float) if known[key] is float else (known[key],)
        if type(value) not in wanted:  # not isinstance: True is an int to Python, and no number of units to us
            raise UsageError(f"{name}: {key}={value!r} should be of type {known[key].__name__}", takes)
