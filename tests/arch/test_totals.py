"""Totals without rows are the totals of the rows."""

from __future__ import annotations

import pytest
from randomnets import random_net

from cnncli.arch.blocks import Add, Chain, Graph, chain
from cnncli.arch.layers import Conv, Pool, ShapeError
from cnncli.arch.net import Net, totals, walk
from cnncli.arch.pointwise import Activation
from cnncli.arch.totals import totals_of
from cnncli.arch.zoo.table import ZOO, build


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str) -> None:
    net = build(name)
    assert totals_of(net) == totals(walk(net), net.input)


@pytest.mark.parametrize("seed", range(200))
def test_random_nets(seed: int) -> None:
    net = random_net(seed)
    assert totals_of(net) == totals(walk(net), net.input)


def test_a_branch_that_nothing_reads_counts_as_it_does_in_the_rows() -> None:
    conv = Conv(3, kernel=1)
    deep = Chain(tuple((f"conv{i}", conv) for i in range(5)))
    nodes = (("unread", deep, ("old",)), ("one", conv, ("new",)), ("sum", Add(), ("one", "old")))
    cell = Graph(nodes, inputs=("old", "new"))
    root = Graph((("stem", conv, ("input",)), ("cell", cell, ("input", "stem")), ("again", cell, ("cell", "stem"))))
    net = Net("cells", root, (3, 8, 8), 3)
    assert totals_of(net) == totals(walk(net), net.input)
    assert totals_of(net).depth == 7, "stem, one (through cell), then the five of the unread branch"


@pytest.mark.parametrize("root", [Chain(), chain(relu=Activation("relu")), Activation("relu"), Conv(2, kernel=3)])
def test_small_roots(root: object) -> None:
    net = Net("small", root, (1, 5, 5), 2)  # type: ignore[arg-type]
    assert totals_of(net) == totals(walk(net), net.input)


def test_an_input_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ShapeError, match="max pool"):
        totals_of(Net("small", chain(pool=Pool("max", kernel=5)), (1, 3, 3), 2))
