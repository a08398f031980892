"""Nets as JSON: nothing is lost on the way, and nothing hostile gets in."""

from __future__ import annotations

import copy
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from cnncli.arch.blocks import Chain, Concat, Dense, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation
from cnncli.arch.serial import PARTS, net_from_json, net_to_json
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import InputError

GOLDEN = Path(__file__).parent.parent / "golden" / "lenet5.json"


def round_trip(net: Net) -> Net:
    return net_from_json(json.loads(json.dumps(net_to_json(net))))


@pytest.mark.parametrize("name", ZOO)
def test_zoo_nets_come_back(name: str) -> None:
    assert round_trip(build(name, classes=7)) == build(name, classes=7)


def test_every_kind_of_part_comes_back() -> None:
    branches = Concat((("a", Conv(2, kernel=(1, 3), padding=(0, 1))), ("b", chain(c=Conv(3, kernel=3, stride=2, dilation=2)))))
    dense = Dense((("l1", Pool("average", kernel=2, ceil=True, count_padding=False)), ("l2", chain())))
    net = Net(
        "ä", chain(a=branches, b=dense, c=Chain(), d=AdaptivePool("max", size=(2, 3)), e=Flatten(), f=Linear(3, bias=False)), (3, 9, 9), 3
    )
    assert round_trip(net) == net


def test_golden_json_of_lenet5() -> None:
    """Stored models are read by every later version: this text stays readable, and stays the same."""
    if os.environ.get("CNNCLI_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(net_to_json(build("lenet5")), indent=1) + "\n")
    stored = json.loads(GOLDEN.read_text())
    assert net_to_json(build("lenet5")) == stored
    assert net_from_json(stored) == build("lenet5")


def valid() -> dict[str, Any]:
    return net_to_json(Net("n", chain(conv=Conv(4, kernel=3), relu=Activation("relu"), flatten=Flatten(), fc=Linear(2)), (1, 5, 5), 2))


def deep(levels: int) -> dict[str, Any]:
    part: dict[str, Any] = {"part": "Flatten"}
    for _ in range(levels):
        part = {"part": "Chain", "parts": [["a", part]]}
    return part


CONV = {"part": "Conv", "filters": 4, "kernel": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True}
HOSTILE_ROOTS: dict[str, Any] = {
    "no part": {},
    "a text": "Conv",
    "a list": [],
    "nothing": None,
    "unknown part": {"part": "System"},
    "a part that is a list": {"part": ["Conv"]},
    "too many filters": CONV | {"filters": 10**12},
    "a negative stride": CONV | {"stride": -1},
    "bool for a number": CONV | {"filters": True},
    "a text for a number": CONV | {"filters": "4"},
    "a float for a number": CONV | {"kernel": 3.0},
    "a triple": CONV | {"kernel": [3, 3, 3]},
    "a part for a number": CONV | {"kernel": CONV},
    "a number for a flag": CONV | {"bias": 1},
    "an unknown field": CONV | {"__class__": "x"},
    "a missing field": {"part": "Conv", "filters": 4},
    "groups that do not divide": CONV | {"groups": 3},
    "an unknown activation": {"part": "Activation", "kind": "os.system"},
    "a list for an activation": {"part": "Activation", "kind": ["relu"]},
    "not a number": {"part": "Dropout", "p": float("nan")},
    "a merge alone": {"part": "Chain", "parts": [["add", {"part": "Add"}]]},
    "a chain of texts": {"part": "Chain", "parts": ["abc"]},
    "a chain of numbers": {"part": "Chain", "parts": [[1, 2]]},
    "a chain that is a number": {"part": "Chain", "parts": 3},
    "a name with a dot": {"part": "Chain", "parts": [["a.b", CONV]]},
    "a name with a slash": {"part": "Chain", "parts": [["../x", CONV]]},
    "a name twice": {"part": "Chain", "parts": [["a", CONV], ["a", CONV]]},
    "the last name twice among very many": {"part": "Chain", "parts": [[f"a{min(i, 49_998)}", {"part": "Flatten"}] for i in range(50_000)]},
    "a name of many letters over many parts": {"part": "Chain", "parts": [["A" * 10**7, {"part": "Chain", "parts": [["a", CONV]] * 5000}]]},
    "a name of two lines": {"part": "Chain", "parts": [["a\nb", {"part": "Linear"}]]},
    "a long text for a number": CONV | {"filters": "4" * 10**6},
    "a long text for a kind": {"part": "Activation", "kind": "r" * 10**6},
    "a merge as the whole net": {"part": "Add"},
    "no branches": {"part": "Concat", "branches": []},
    "a body that is no chain": {"part": "Residual", "body": CONV, "shortcut": None, "then": None},
    "a shortcut that is a number": {"part": "Residual", "body": {"part": "Chain", "parts": []}, "shortcut": 3, "then": None},
    "too deep": deep(40),
    "far too deep": deep(400),
    "too many parts": {"part": "Chain", "parts": [[f"a{i}", {"part": "Flatten"}] for i in range(100_001)]},
}


@pytest.mark.parametrize("root", HOSTILE_ROOTS.values(), ids=HOSTILE_ROOTS)
def test_hostile_parts_are_refused(root: Any) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError) as caught:
        net_from_json(valid() | {"root": root})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    "change",
    [
        {"input": [1, 5]},
        {"input": [[[1] * 1000]] * 1000},
        {"input": "1x5x5"},
        {"input": [1, 5, True]},
        {"classes": 0},
        {"classes": None},
        {"name": 3},
        {"paper": "x" * 2000},
    ],
    ids=lambda change: str(change)[:30],
)
def test_hostile_nets_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        net_from_json(valid() | change)
    assert len(str(caught.value)) < 1500


def test_values_that_are_no_nets() -> None:
    for value in (None, 3, "net", [], {}, [valid()]):
        with pytest.raises(InputError):
            net_from_json(value)


def mutate(value: Any, chance: random.Random) -> None:
    """Replace, remove or add something somewhere in a JSON value, in place."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], dict | list) and chance.random() < 0.8:
            value = value[key]
            continue
        junk = [None, -1, 0, 10**30, 1.5, "", "Conv", "Add", [], {}, [[]], [["a", {}]], True, {"part": "Chain", "parts": []}, *PARTS]
        if isinstance(value, dict) and chance.random() < 0.2:
            del value[key]
        else:
            value[key] = copy.deepcopy(chance.choice(junk))
        return


def test_mutated_nets_are_nets_or_refused() -> None:
    chance = random.Random(0)
    starts = [net_to_json(build("lenet5")), net_to_json(build("resnet20")), valid()]
    refused = 0
    for _ in range(1500):
        stored = copy.deepcopy(chance.choice(starts))
        for _ in range(chance.randint(1, 3)):
            mutate(stored, chance)
        try:
            assert round_trip(net_from_json(stored)) == net_from_json(stored)
        except InputError:
            refused += 1
    assert 750 < refused < 1500  # most mutations hurt, some do not
