"""NASNet, PNASNet and AmoebaNet against timm, against sums over their authors' encodings, and against what their papers print."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType

import pytest
import slow_nasnet
import torch
from randomweights import randomise
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cnncli.arch.genotype import Edge, Node
from cnncli.arch.net import Net, totals, walk
from cnncli.arch.operations import OPERATIONS
from cnncli.arch.zoo import nasnet
from cnncli.arch.zoo.table import ZOO, build
from cnncli.models.assemble import assemble


def counted(net: Net) -> tuple[int, int]:
    """(parameters, MACs)."""
    sums = totals(walk(net), net.input)
    return sums.params, sums.macs


# NASNet and PNASNet against timm, where it is installed.


def timm_module(name: str) -> ModuleType:
    module: ModuleType = pytest.importorskip(f"timm.models.{name}", reason="timm, an optional extra, is not installed")
    return module


@pytest.mark.parametrize(
    ("name", "module", "twin"), [("nasnet-a-large", "nasnet", "nasnetalarge"), ("pnasnet-5-large", "pnasnet", "pnasnet5large")]
)
def test_large_nets_have_timm_s_parameters_and_macs(name: str, module: str, twin: str) -> None:
    maker = getattr(timm_module(module), twin)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = maker().eval()
        model(torch.empty(1, 3, 331, 331))
    assert counted(build(name)) == (sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


TIMM_NAMES = (  # a pattern in timm's names, ours
    (r"^conv_?0\.", r"stem."),
    (r"^last_linear\.", r"fc."),
    (r"\.conv_prev_1x1\.(?=path|final)", r"."),
    (r"\.path_1\.conv\.", r".project_before.pixels.even."),
    (r"\.path_2\.conv\.", r".project_before.pixels.odd.conv."),
    (r"\.final_path_bn\.", r".project_before.bn."),
    (r"\.conv_prev_1x1\.", r".project_before."),
    (r"\.conv_1x1\.", r".project_last."),
    (r"\.separable_(\d)\.(depthwise|pointwise)_conv2d\.", r".sep\1.\2."),
    (r"\.bn_sep_(\d)\.", r".sep\1.bn."),
)


def our_name(key: str, cell: Callable[[int], int]) -> str:
    """Our name for a tensor of timm's. cell: the number of our cell for that of timm's `cell_N`."""
    for pattern, ours in TIMM_NAMES:
        key = re.sub(pattern, ours, key)
    key = re.sub(r"\.comb_iter_(\d)_", lambda found: f".node{int(found[1]) + 1}.", key)
    key = re.sub(r"^cell_stem_(\d)", lambda found: f"stem_cell{int(found[1]) + 1}", key)
    key = re.sub(r"^reduction_cell_(\d)", lambda found: f"cell{7 * int(found[1]) + 7}", key)
    return re.sub(r"^cell_(\d+)", lambda found: f"cell{cell(int(found[1]))}", key)


def check_against_timm(net: Net, theirs: nn.Module, cell: Callable[[int], int]) -> None:
    """Equal outputs for equal weights, by name, in float64."""
    theirs = theirs.double().eval()
    randomise(theirs)
    ours = assemble(net).double().eval()
    ours.load_state_dict({our_name(key, cell): tensor for key, tensor in theirs.state_dict().items()})
    images = torch.randn(2, *net.input, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores = theirs(images)
        assert scores.std() > 1e-3  # the images arrive: random weights can drown them
        torch.testing.assert_close(ours(images), scores, rtol=1e-9, atol=1e-9)


# timm with the usual padding, alike on all sides; with TensorFlow's, timm counts it in its averages, which TensorFlow does not.
# 66 pixels are 32 behind the first convolution, 67 are 33: the one is halved evenly all the way down, the other never.


@pytest.mark.parametrize("side", [66, 67])
def test_nasnet_computes_what_timm_s_does(side: int) -> None:
    theirs = timm_module("nasnet").NASNetALarge(num_classes=5, stem_size=6, num_features=24 * 8, pad_type="")
    net = small_net("nasnet-a", side, cells=20, past_reduction=True)
    check_against_timm(net, theirs, lambda number: number + number // 6 + 1)  # timm counts the normal cells alone


@pytest.mark.parametrize("side", [66, 67])
def test_pnasnet_computes_what_timm_s_cells_do(side: int) -> None:
    theirs = SmallPNASNet(timm_module("pnasnet"), stem=6, filters=8, cells=6, classes=5)
    check_against_timm(small_net("pnasnet-5", side, cells=6, past_reduction=False), theirs, lambda number: number + 1)


def small_net(genotype: str, side: int, *, cells: int, past_reduction: bool) -> Net:
    return nasnet.nasnet_imagenet(
        name="small",
        genotype=genotype,
        filters=8,
        cells=cells,
        stem_filters=6,
        past_reduction=past_reduction,
        classes=5,
        input=(3, side, side),
    )


class SmallPNASNet(nn.Module):
    """timm's PNASNet with other widths, of timm's own cells."""

    def __init__(self, timm: ModuleType, stem: int, filters: int, cells: int, classes: int) -> None:
        super().__init__()
        self.conv_0 = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, stem, 3, 2, bias=False), bn=nn.BatchNorm2d(stem, eps=1e-3)))
        self.cell_stem_0 = timm.CellStem0(stem, filters // 4, stem, filters // 4, pad_type="")
        plan = [("cell_stem_1", filters // 2, True)]
        for number in range(cells):
            filters *= 2 if number in (2, 4) else 1
            plan.append((f"cell_{number}", filters, number in (2, 4)))
        before, last, larger = stem, 5 * (plan[0][1] // 2), True
        for name, width, reduces in plan:
            self.add_module(name, timm.Cell(before, width, last, width, pad_type="", is_reduction=reduces, match_prev_layer_dims=larger))
            before, last, larger = last, 5 * width, reduces
        self.names = [name for name, _, _ in plan]
        self.last_linear = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.conv_0(x)
        last = self.cell_stem_0(before)
        for name in self.names:
            before, last = last, self.get_submodule(name)(before, last)
        scores: torch.Tensor = self.last_linear(last.relu().mean((2, 3)))
        return scores


# The whole search space of NASNet against sums over its authors' encodings, and against what their papers print.

ENCODINGS = {
    "nasnet-a": (slow_nasnet.NASNET_NORMAL, slow_nasnet.NASNET_REDUCE),
    "pnasnet-5": (slow_nasnet.PNASNET, slow_nasnet.PNASNET),
    "amoebanet-a": (slow_nasnet.AMOEBA_NORMAL, slow_nasnet.AMOEBA_REDUCE),
}


OPERATION_NAMES = {
    "none": "skip",
    "avg": "avg3x3",
    "max": "max3x3",
    "sep3": "sep3x3",
    "sep5": "sep5x5",
    "sep7": "sep7x7",
    "1x7": "conv1x7_7x1",
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_genotypes_are_the_authors_encodings(name: str) -> None:
    for encoding, ours in zip(ENCODINGS[name], (nasnet.GENOTYPES[name].normal, nasnet.GENOTYPES[name].reduce), strict=True):
        states = ("last", "before", *(f"node{number}" for number in range(1, 6)))
        edges = [
            Edge(OPERATION_NAMES[kind], states[state]) for kind, state in zip(encoding.operations.split(), encoding.reads, strict=True)
        ]
        assert ours.nodes == tuple(Node(edges[i], edges[i + 1]) for i in range(0, 10, 2))
        assert ours.output == tuple(state for state, out in zip(states, encoding.left_out, strict=True) if not out)


@pytest.mark.parametrize("stride", [1, 2])
def test_row_and_column_convolution(stride: int) -> None:
    """ReLU and 1x1 to a quarter, ReLU and 1x7 that strides across, ReLU and 7x1 that strides down, ReLU and 1x1 back."""
    part = OPERATIONS["conv1x7_7x1"](8, 8, stride, nasnet.IMAGENET_CONVENTIONS)
    assert part is not None
    module = assemble(Net("n", part, (8, 9, 10), 1)).double().eval()
    randomise(module)
    weights = module.state_dict()
    image = torch.randn(2, 8, 9, 10, dtype=torch.float64)
    x = image
    steps = (("squeeze", (1, 1), (0, 0)), ("row", (1, stride), (0, 3)), ("column", (stride, 1), (3, 0)), ("expand", (1, 1), (0, 0)))
    for number, (name, strides, padding) in enumerate(steps, start=1):
        x = functional.conv2d(x.clamp(min=0), weights[f"{name}.weight"], stride=strides, padding=padding)
        mean, variance, scale, shift = (
            weights[f"bn{number}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (variance + 1e-3).sqrt() * scale + shift
    assert x.shape[2:] == (-(-9 // stride), -(-10 // stride))
    torch.testing.assert_close(module(image), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].builder.startswith("nasnet:")])
def test_counts_are_the_sums_over_the_authors_encodings(name: str) -> None:
    net, arguments = build(name), dict(ZOO[name].arguments)
    filters, cells = arguments["filters"], arguments["cells"]
    stem = arguments.get("stem_filters", 3 * filters)  # type: ignore[operator]  # a table of mixed arguments
    plans = ENCODINGS[str(arguments["genotype"])]
    assert counted(net) == slow_nasnet.count(*plans, filters, cells, stem, net.input[1], net.classes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("filters", "cells", "side", "params", "macs"),
    [(32, 20, 32, "2.6M", ""), (36, 20, 32, "3.2M", ""), (50, 14, 224, "5.1M", "555M"), (190, 20, 331, "86.7M", "23.1B")],
)
def test_amoebanet_sizes_of_the_paper(filters: int, cells: int, side: int, params: str, macs: str) -> None:
    """Real et al. 2018, tables of CIFAR-10 and ImageNet results."""
    size = {"name": "n", "genotype": "amoebanet-a", "filters": filters, "cells": cells}
    if side == 32:
        net = nasnet.nasnet_cifar(**size)  # type: ignore[arg-type]  # a table of mixed arguments
    else:
        net = nasnet.nasnet_imagenet(**size, input=(3, side, side), stem_filters=32, past_reduction=False)  # type: ignore[arg-type]
    for number, printed in zip(counted(net), (params, macs), strict=True):
        if printed:
            digits, unit = printed[:-1], {"M": 1e6, "B": 1e9}[printed[-1]]
            assert f"{number / unit:.{len(digits.partition('.')[2])}f}" == digits


def test_the_first_cell_of_cifar_reads_the_stem_as_it_is() -> None:
    rows = {row.name: row for row in walk(build("nasnet-a"))}
    assert rows["cell1.node2.left.sep1.depthwise"].inputs == ((96, 32, 32),)
    assert rows["cell1.node3.right.conv"].inputs == ((96, 32, 32),)  # a skip from 96 to 32 channels
    assert [name for name in rows if name.startswith("cell1.fit_before")] == ["cell1.fit_before.conv", "cell1.fit_before.bn"]
    assert rows["cell1.concat"].inputs == ((32, 32, 32),) * 6
