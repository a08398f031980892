"""Folding loses nothing, and only equal blocks share a row."""

from __future__ import annotations

import pytest
from randomnets import random_net

from cnncli.arch.blocks import Chain, chain
from cnncli.arch.folding import fold, fold_repeats
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net, totals, walk
from cnncli.arch.pointwise import Activation
from cnncli.arch.zoo.table import build
from cnncli.errors import UsageError


@pytest.mark.parametrize("folder", [fold, fold_repeats])
@pytest.mark.parametrize(
    "net", [build("resnet110"), build("plain20"), build("alexnet"), *(random_net(seed) for seed in range(10))], ids=str
)
def test_sums_and_ends_stay(folder, net: Net) -> None:
    rows = walk(net)
    for depth in (1, 2, 3, 4):
        folded = folder(rows, depth)
        assert totals(folded, net.input) == totals(rows, net.input)
        assert folded[-1].output == rows[-1].output
        assert folded[-1].field == rows[-1].field
        assert len({row.name for row in folded}) == len(folded)


def test_repeated_blocks_share_a_row() -> None:
    folded = {row.name: row for row in fold_repeats(walk(build("resnet110")), 3)}
    assert folded["stage1.block1-18"].operation == "18 x 7 layers"
    assert folded["stage2.block2-18"].operation == "17 x 7 layers"
    assert "stage2.block1.conv1" in folded  # the block with the shortcut is like no other
    assert folded["stage2.block2-18"].params == 17 * (2 * 9 * 32 * 32 + 4 * 32)


def test_single_layers_never_share_a_row() -> None:
    net = Net("twins", chain(conv1=Conv(4, kernel=3), conv2=Conv(4, kernel=3, padding=1), conv3=Conv(4, kernel=3, padding=1)), (4, 9, 9), 1)
    assert fold_repeats(walk(net), 1) == walk(net)


def test_names_without_numbers() -> None:
    block = chain(conv=Conv(4, kernel=3, padding=1), relu=Activation())
    net = Net("names", Chain((("left", block), ("right", block), ("a1", block), ("b2", block))), (4, 9, 9), 1)
    assert [row.name for row in fold_repeats(walk(net), 2)] == ["left-b2"]
    net = Net(
        "names",
        Chain((("left", block), ("right", block), ("wide", Conv(5, kernel=1)), ("b2", chain(conv=Conv(4, kernel=1))))),
        (4, 9, 9),
        1,
    )
    assert [row.name for row in fold_repeats(walk(net), 2)] == ["left-right", "wide", "b2.conv"]


@pytest.mark.parametrize("folder", [fold, fold_repeats])
def test_a_depth_of_zero_is_refused(folder) -> None:
    with pytest.raises(UsageError, match="--depth 0"):
        folder((), 0)
