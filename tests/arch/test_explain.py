"""Every printed formula is computed anew from its text, and its result is the row's."""

from __future__ import annotations

import re

import pytest
from randomnets import random_net

from cnncli.arch.blocks import chain
from cnncli.arch.explain import equivalents, explain, stacks
from cnncli.arch.layers import Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net, Row, walk
from cnncli.arch.pointwise import Activation
from cnncli.arch.zoo.table import build

EQUATION = re.compile(r"(-?[0-9(][0-9.()*+/ -]*) = (-?[0-9][0-9,.]*)")
NETS = [
    build(name) for name in ("alexnet", "alexnet-two-tower", "lenet5", "vgg16", "resnet20", "convnetjs-cifar10", "googlenet", "darts-v2")
]


def check(row: Row) -> int:
    """Evaluate every equation of a row; how many there were."""
    count = 0
    for _about, arithmetic in explain(row).lines:
        for formula, result in EQUATION.findall(arithmetic.replace(" outputs", "")):
            value = eval(formula, {"__builtins__": {}})
            assert value == pytest.approx(float(result.rstrip(",.").replace(",", "")), abs=0.0051), (row.name, formula, result)
            count += 1
    return count


def last_number(text: str) -> int:
    return int(re.findall(r"= (-?[0-9,]+)", text)[-1].rstrip(",").replace(",", ""))


@pytest.mark.parametrize("net", [*NETS, *(random_net(seed) for seed in range(40))], ids=lambda net: net.name)
def test_every_equation_holds(net: Net) -> None:
    equations = 0
    for row in walk(net):
        equations += check(row)
        lines = dict(explain(row).lines)
        if isinstance(row.part, Conv | Linear):
            assert last_number(lines["weights"].split(":")[0]) == row.params
            assert last_number(lines["cost"]) == row.macs
        if isinstance(row.part, Conv | Pool):
            sizes = [arithmetic for about, arithmetic in explain(row).lines if about in ("size", "height", "width")]
            ends = {int(re.search(r"(\d+)$", arithmetic.split(";")[0])[1]) for arithmetic in sizes}
            assert ends == set(row.output[1:])
        for about, arithmetic in explain(row).lines:
            if about.startswith("field"):
                axes = {"field": row.field.height, "field height": row.field.height, "field width": row.field.width}
                assert f"= {axes[about].size} input pixels" in arithmetic
    assert equations > 10


def test_alexnet_s_first_layer_is_the_lecture_s() -> None:
    lines = dict(explain(walk(build("alexnet"))[0]).lines)
    assert lines["size"] == "(227 - 11 + 2*0)/4 + 1 = 55"
    assert lines["weights"] == "11*11*3*96 + 96 = 34,944"
    assert lines["cost"] == "55*55*96 outputs * 11*11*3 = 105,415,200 MACs"
    assert lines["field"].startswith("1 + (11 - 1)*1 = 11 input pixels, jump 1*4 = 4")


def test_groups_are_explained() -> None:
    row = next(row for row in walk(build("alexnet-two-tower")) if row.name == "conv2")
    assert dict(explain(row).lines)["weights"] == "5*5*48*256 + 256 = 307,456: each filter sees 96/2 = 48 channels"


def test_a_misfit_is_explained_with_what_fits() -> None:
    row = walk(build("alexnet", input=(3, 224, 224)))[0]
    lines = dict(explain(row).lines)
    assert lines["size"] == "(224 - 11 + 2*0)/4 + 1 = 54.25, rounded down to 54"
    assert lines["misfit"].endswith("fits with stride 3, or with input 223 or 227")


def test_three_small_kernels_against_one_large() -> None:
    layers = {}
    for number in range(3):
        layers |= {f"conv{number}": Conv(64, kernel=3, padding=1, bias=False), f"relu{number}": Activation("relu")}
    (stack,) = stacks(walk(Net("three", chain(**layers), (64, 28, 28), 1)))
    assert (stack.side, stack.kernel, stack.activations, stack.behind) == (3, 7, 3, 1)
    (bare,) = stacks(walk(Net("bare", chain(a=Conv(4, kernel=3), b=Activation("relu"), c=Conv(4, kernel=3)), (4, 28, 28), 1)))
    assert (bare.activations, bare.behind) == (1, 0)
    assert stack.weights == 27 * 64**2
    assert stack.single == 49 * 64**2
    three = walk(Net("three", chain(**layers), (64, 28, 28), 1))[-1]
    one = walk(Net("one", chain(conv=Conv(64, kernel=7, padding=3, bias=False)), (64, 28, 28), 1))[-1]
    assert three.receptive_field == one.receptive_field == (7, 7)
    assert stack.single == one.params


def test_stacks_end_at_pools_strides_and_blocks() -> None:
    found = stacks(walk(build("vgg16")))
    assert [stack.names for stack in found][:3] == [("conv1_1", "conv1_2"), ("conv2_1", "conv2_2"), ("conv3_1", "conv3_2", "conv3_3")]
    assert len(found) == 5
    for stack in stacks(walk(build("resnet20"))):
        assert len({name.rpartition(".")[0] for name in stack.names}) == 1
    strided = chain(a=Conv(4, kernel=3), b=Conv(4, kernel=3, stride=2), c=Conv(4, kernel=3))
    assert stacks(walk(Net("strided", strided, (4, 28, 28), 1))) == ()


def test_the_lecture_s_fully_connected_equivalent() -> None:
    first = equivalents(walk(build("alexnet")))[0]
    assert (first.row.name, first.connected, first.weights) == ("conv1", 44_892_064_800, 34_848)
    paper = chain(conv1=Conv(96, kernel=11, stride=4, padding=2))
    (at_224,) = equivalents(walk(Net("paper", paper, (3, 224, 224), 1)))
    assert at_224.connected == 43_713_331_200
    small = chain(conv=Conv(2, kernel=3, padding=1, bias=True), flatten=Flatten(), fc=Linear(2))
    (one,) = equivalents(walk(Net("small", small, (3, 4, 5), 2)))
    dense = walk(Net("dense", chain(flatten=Flatten(), fc=Linear(2 * 4 * 5, bias=False)), (3, 4, 5), 1))[-1]
    assert one.connected == dense.params
