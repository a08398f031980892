"""Nets of cells: any genotype is what torch does, DARTS is what slow modules do, and names, sharing and fields are right."""

from __future__ import annotations

from random import Random
from time import perf_counter

import pytest
import torch
from randomweights import randomise
from slow_darts import FIRST_ORDER, SECOND_ORDER, Plan, SlowDarts
from test_receptive import SIDES, check
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnncli.arch.blocks import INPUT, Graph
from cnncli.arch.cells import State, Stem, build_cell, cell_net
from cnncli.arch.genotype import Cell, Edge, Genotype, Node, readable
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net, totals, walk
from cnncli.arch.operations import OPERATIONS, Conventions
from cnncli.arch.serial import net_from_json, net_to_json
from cnncli.arch.zoo import darts
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble

CELL_NETS = [name for name in ZOO if ZOO[name].builder.startswith(("darts:", "nasnet:"))]


# What a search can write: every operation, on every kind of state, is what torch does.


def random_genotype(rng: Random) -> Genotype:
    def plan() -> Cell:
        nodes = []
        for number in range(1, rng.randint(1, 5) + 1):
            left, right = (Edge(rng.choice(tuple(OPERATIONS)), rng.choice(readable(number))) for _ in range(2))
            nodes.append(Node(left, right))
        states = readable(len(nodes) + 1)
        return Cell(tuple(nodes), tuple(rng.sample(states, rng.randint(1, len(states)))))

    return Genotype(plan(), plan())


@pytest.mark.parametrize("seed", range(20))
def test_random_genotypes_are_what_the_model_does(seed: int) -> None:
    rng = Random(seed)
    conventions = Conventions(factorized_skip=rng.random() < 0.5, raw_start=rng.random() < 0.5, final_relu=rng.random() < 0.5)
    start = State("stem", 6, 0)
    stem = Stem((("stem", Conv(6, kernel=3, padding=1)),), start, start)
    root = cell_net(
        random_genotype(rng),
        conventions,
        stem,
        filters=rng.choice((8, 9)),
        cells=rng.randint(3, 6),
        classes=3,
        stem_cells=rng.choice((0, 2)),
    )
    net = Net("random", root, (3, rng.randint(20, 33), rng.randint(20, 33)), 3)
    rows = walk(net)
    with torch.device("meta"):
        model = assemble(net).eval()
    sums = totals(rows, net.input)
    seen: dict[str, tuple[int, ...]] = {}
    for row in rows:
        hook = model.get_submodule(row.name).register_forward_hook
        hook(lambda module, read, wrote, name=row.name: seen.update({name: tuple(wrote.shape[1:])}))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *net.input, device="meta"))
    assert seen == {row.name: row.output for row in rows}
    assert (sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2) == (sums.params, sums.macs)
    assert net_from_json(net_to_json(net)) == net


def test_too_few_cells_or_filters_are_refused() -> None:
    for name, cells, filters in (("cells", 2, 4), ("filters", 5, 1)):
        with pytest.raises(UsageError, match=name):
            darts.darts_cifar(name="n", genotype="v2", cells=cells, filters=filters)


# DARTS against slow modules.


@pytest.mark.parametrize(("version", "plans"), [("v1", FIRST_ORDER), ("v2", SECOND_ORDER)])
@pytest.mark.parametrize("imagenet", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_darts_computes_what_the_slow_net_does(version: str, plans: tuple[Plan, Plan], imagenet: bool, training: bool) -> None:
    make = darts.darts_imagenet if imagenet else darts.darts_cifar
    side = 64 if imagenet else 16
    net = make(name="small", genotype=version, filters=4, cells=5, input=(3, side, side), classes=6)
    ours = assemble(net).double().train(training)
    slow = SlowDarts(plans, 4, 5, 6, imagenet=imagenet).double().train(training)
    randomise(ours)
    copy_by_order(ours, slow)
    images = torch.randn(3, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), slow(images), rtol=1e-9, atol=1e-9)


def copy_by_order(source: nn.Module, target: nn.Module) -> None:
    wanted, given = target.state_dict(), source.state_dict()
    assert [tensor.shape for tensor in wanted.values()] == [tensor.shape for tensor in given.values()]
    target.load_state_dict(dict(zip(wanted, given.values(), strict=True)))


# Names, sharing, speed.


def test_names_are_the_keys_of_saved_weights() -> None:
    """A renamed part breaks every saved model."""
    names = [row.name for row in walk(build("darts-v2"))]
    assert names[:2] == ["stem.conv", "stem.bn"]
    assert names[-3:] == ["pool", "flatten", "fc"]
    assert [name.removeprefix("cell8.project_before.") for name in names if name.startswith("cell8.project_before")] == [
        *("relu", "pixels.even", "pixels.odd.shift", "pixels.odd.conv", "pixels.concat", "bn")
    ]
    inside = [name.removeprefix("cell2.") for name in names if name.startswith(("cell2.project_last", "cell2.node4", "cell2.concat"))]
    assert inside == [
        *("project_last.relu", "project_last.conv", "project_last.bn"),
        *("node4.right.relu", "node4.right.depthwise", "node4.right.pointwise", "node4.right.bn", "node4.add", "concat"),
    ]
    assert "cell3.node2.left.sep1.depthwise" in names
    assert [name for name in names if name.startswith("cell7.")][6:9] == ["cell7.node1.left", "cell7.node1.right", "cell7.node1.add"]


@pytest.mark.parametrize("name", CELL_NETS)
def test_equal_cells_are_one_object(name: str) -> None:
    root = build(name).root
    assert isinstance(root, Graph)
    found = [part for label, part, _ in root.nodes if label.startswith("cell")]
    assert len({id(part) for part in found}) == len(set(found)) < len(found)


@pytest.mark.parametrize("name", CELL_NETS)
def test_building_and_walking_take_no_time(name: str) -> None:
    seconds = []
    for _ in range(5):
        build_cell.cache_clear()
        began = perf_counter()
        walk(build(name))
        seconds.append(perf_counter() - began)
    assert min(seconds) < 0.06


# Receptive fields against gradients.


@pytest.mark.parametrize("genotype", ["v1", "v2"])
def test_fields_of_cells_behind_a_factorized_reduction(genotype: str) -> None:
    """`before` is twice as large as `last`, so its odd pixels arrive through a shift."""
    found = darts.GENOTYPES[genotype]
    nodes = (
        ("stem", Conv(2, kernel=3, padding=1), (INPUT,)),
        ("down", Conv(2, kernel=3, stride=2, padding=1), ("stem",)),
        ("cell1", build_cell(found.normal, darts.CONVENTIONS, filters=2, stride=1, larger=True), ("stem", "down")),
        ("cell2", build_cell(found.reduce, darts.CONVENTIONS, filters=2, stride=2, larger=False), ("down", "cell1")),
    )
    check(Net("n", Graph(nodes), (2, *SIDES), 1))
