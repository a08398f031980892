"""Nets with another number of outputs: as if they had been built for it, or a word that they cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cnncli.arch.blocks import Add, Chain, Concat, Graph, Residual, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net, walk
from cnncli.arch.notation.language import parse
from cnncli.arch.outputs import with_classes
from cnncli.arch.pointwise import Activation, BatchNorm
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble

SMALL = (3, 8, 8)


@pytest.mark.parametrize("name", ZOO)
def test_as_the_zoo_builds_it(name: str) -> None:
    assert with_classes(build(name), 7) == build(name, classes=7)


def test_layers_before_it_with_as_many_outputs_stay() -> None:
    net = Net("x", chain(conv=Conv(5, kernel=3), flatten=Flatten(), hidden=Linear(5), relu=Activation(), out=Linear(5)), SMALL, 5)
    changed = with_classes(net, 2)
    assert changed == replace(net, root=Chain((*net.root.parts[:-1], ("out", Linear(2)))), classes=2)


def test_one_object_in_two_places_changes_in_the_last_alone() -> None:
    layer = Linear(5)
    changed = with_classes(Net("x", chain(flatten=Flatten(), one=layer, relu=Activation(), two=layer), SMALL, 5), 3)
    assert [row.output for row in walk(changed)] == [(192,), (5,), (5,), (3,)]


@pytest.mark.parametrize(
    "root",
    [
        chain(conv=Conv(5, kernel=1), pool=AdaptivePool("average", size=1), flatten=Flatten()),
        chain(flatten=Flatten(), fc=Linear(5, bias=False), relu=Activation()),
        chain(conv=Conv(5, kernel=8), norm=BatchNorm(), flatten=Flatten()),
        chain(head=chain(flatten=Flatten(), fc=Linear(5))),
    ],
)
def test_what_follows_goes_along(root: Chain) -> None:
    changed = with_classes(Net("x", root, SMALL, 5), 9)
    assert walk(changed)[-1].output == (9,)
    with torch.no_grad():
        assert assemble(changed)(torch.zeros(2, *SMALL)).shape == (2, 9)


def test_notation() -> None:
    net = parse("[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-SOFTMAX", classes=10, input=(3, 16, 16))
    assert walk(with_classes(net, 4))[-1].output == (4,)


@pytest.mark.parametrize(
    "root",
    [
        # Branches that give some classes each; an earlier layer that happens to have as many outputs must not be taken for the classifier.
        chain(
            early=Conv(5, kernel=1),
            both=Concat((("a", Conv(2, kernel=1)), ("b", Conv(3, kernel=1)))),
            pool=AdaptivePool("average", size=1),
            flatten=Flatten(),
        ),
        # A sum of two layers, of which one would change.
        chain(flatten=Flatten(), block=Residual(chain(a=Linear(5)), shortcut=Linear(5))),
        Graph(
            (
                ("flat", Flatten(), ("input",)),
                ("a", Linear(5), ("flat",)),
                ("b", Linear(5), ("flat",)),
                ("add", Add(), ("a", "b")),
            )
        ),
        chain(conv=Conv(6, kernel=1), pool=Pool("average", kernel=8), flatten=Flatten()),
        chain(conv=Conv(5, kernel=1), depthwise=Conv(5, kernel=8, groups=5), flatten=Flatten()),
        chain(flatten=Flatten()),
    ],
)
def test_no_such_layer(root: Chain) -> None:
    with pytest.raises(
        UsageError, match="x: its classifier is not a layer with as many outputs as it has classes, 5; end the net in a fully"
    ):
        with_classes(Net("x", root, SMALL, 5), 7)
