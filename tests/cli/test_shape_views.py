"""What `cnn shape` shows beside the table: explanations, misfits, equivalents, comparisons, and how it folds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import run


@pytest.mark.parametrize("columns", ["40", "80", "140"])
def test_explain(columns: str, here: Path) -> None:
    done = run("shape", "alexnet", "--explain", cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.split())
    assert "(227 - 11 + 2*0)/4 + 1 = 55" in text
    assert "11*11*3*96 + 96 = 34,944" in text
    assert "9216*4096 + 4096 = 37,752,832" in text
    assert max(map(len, done.out.splitlines())) <= int(columns)


def test_explain_as_json(here: Path) -> None:
    found = run("shape", "vgg16", "--explain", "--json", cwd=here).json
    plain = run("shape", "vgg16", "--json", cwd=here).json
    explained = {layer["name"]: dict(layer.pop("explanation")) for layer in found["layers"]}
    assert explained["conv1_1"]["weights"] == "3*3*3*64 + 64 = 1,792"
    stack = found.pop("stacks")[2]
    assert found == plain
    assert stack["layers"] == ["conv3_1", "conv3_2", "conv3_3"]
    assert (stack["kernel"], stack["sees"], stack["weights"]) == (3, 7, 9 * (128 * 256 + 2 * 256 * 256))
    assert stack["single_weights"] == 49 * 128 * 256
    assert (stack["activations"], stack["single_activations"]) == (3, 1)


def test_stacks_are_told_with_their_activations(here: Path) -> None:
    told = " ".join(run("shape", "vgg11", "--explain", cwd=here).out.split())
    assert "3_2: 2 convolutions of 3x3 in series see 5x5 of their input with 884,736 weights and 2 activations; one 5x5 would need" in told
    assert "819,200 weights (0.93 times as many) and have 1 activation. Biases are left out." in told
    told = " ".join(run("shape", "conv3-64 relu conv3-64", "--input", "64x9x9", "--explain", cwd=here).out.split())
    assert "73,728 weights and 1 activation; one 5x5 would need 102,400 weights (1.39 times as many) and have no activations." in told
    assert "= 1 channel " in " ".join(run("shape", "conv3-64/g64", "--input", "64x9x9", "--explain", cwd=here).out.split())


def test_a_misfit_is_marked_and_told(here: Path) -> None:
    out = run("shape", "alexnet", "--input", "3x224x224", cwd=here, COLUMNS="140").out
    marked = [line.split()[0] for line in out.splitlines() if re.search(r"x[0-9]+ ! ", line)]
    assert marked == ["conv1", "pool1", "pool2", "pool3"]
    assert "(224 - 11 + 2*0)/4 + 1 = 54.25, rounded down to 54; the last pixel of height and width is never seen" in out
    assert "!" not in run("shape", "alexnet", cwd=here).out
    found = run("shape", "alexnet", "--input", "3x224x224", "--json", cwd=here).json
    (misfit,) = found["layers"][0]["misfits"]
    assert misfit["exact"] == 54.25
    assert (misfit["input"], misfit["output"], misfit["dropped"], misfit["unseen_padding"]) == (224, 54, 1, 0)
    assert misfit["fitting"] == {"stride": [3], "pad": [], "input": [223, 227]}


def test_strict_refuses_what_does_not_tile(here: Path) -> None:
    done = run("shape", "alexnet", "--input", "3x224x224", "--strict", cwd=here)
    assert (done.code, done.out) == (2, "")
    assert "layer conv1" in done.err
    assert "= 54.25" in done.err
    assert "input 223 or 227" in done.err
    assert run("shape", "alexnet", "--strict", cwd=here).code == 0


def test_equivalent_mlp(here: Path) -> None:
    done = run("shape", "alexnet", "--equivalent-mlp", cwd=here, COLUMNS="80")
    row = next(line for line in done.out.splitlines() if line.startswith("conv1"))
    assert row.split()[:6] == ["conv1", "3x227x227", "0", "96x55x55", "34,848", "44,892,064,800"]
    found = run("shape", "alexnet", "--equivalent-mlp", "--json", cwd=here).json
    assert found["convolutions"][0] == {
        "name": "conv1",
        "input": [3, 227, 227],
        "pad": 0,
        "output": [96, 55, 55],
        "conv_weights": 34_848,
        "connected_weights": 44_892_064_800,
    }
    assert "no convolutions" in run("shape", "mlp", "--equivalent-mlp", cwd=here).out


@pytest.mark.parametrize("columns", ["50", "80", "140"])
def test_compare(columns: str, here: Path) -> None:
    done = run("shape", "--compare", "vgg16", "alexnet", cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    assert ("138 M" if columns == "50" else "138,357,544") in done.out
    assert ("62.4 M (0.45x)" if columns == "50" else "62,378,344 (0.45x)") in done.out
    assert max(map(len, done.out.splitlines())) <= int(columns)
    found = run("shape", "--compare", "vgg16", "alexnet", "--json", cwd=here).json
    assert [net["net"] for net in found["nets"]] == ["vgg16", "alexnet"]
    for net in found["nets"]:
        single = run("shape", net["net"], "--json", cwd=here).json
        assert {key: net[key] for key in single["totals"]} == single["totals"]
    assert (found["nets"][0]["depth"], found["nets"][0]["convolutions"], found["nets"][0]["fully_connected"]) == (16, 13, 3)


def test_compare_with_much_less_and_with_nothing(here: Path) -> None:
    out = run("shape", "--compare", "vgg16", "lenet5", cwd=here, COLUMNS="140").out
    assert "416,520 (2.7e-05x)" in out
    assert "In brackets" in out
    assert "In brackets" not in run("shape", "--compare", "vgg16", cwd=here).out


@pytest.mark.parametrize("net", ["darts-v2", "nasnet-a"])
def test_long_names_are_broken_at_dots_and_dashes(net: str, here: Path) -> None:
    """At 80 columns it is still a table; no piece of a name is lost."""
    out = run("shape", net, cwd=here, COLUMNS="80").out
    assert "layer: " not in out
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"^  project_before-  2 x 3 layers .*\n    project_last *$", out, re.MULTILINE) or net != "darts-v2"


def test_a_few_bytes_are_bytes(here: Path) -> None:
    assert "40 bytes of weights in float32" in run("shape", "conv1-1", "--input", "9x2x2", cwd=here).out


def test_repeats_are_folded_unless_asked(here: Path) -> None:
    folded = run("shape", "resnet110", cwd=here, COLUMNS="140").out
    assert "stage1.block1-18" in folded
    assert "18 x 7 layers" in folded
    everything = run("shape", "resnet110", "--all", cwd=here, COLUMNS="140").out
    assert "stage1.block7.conv2" in everything
    assert "folded" not in everything
    assert len(everything.splitlines()) > 380


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["vgg16", "alexnet"], "cnn shape --compare vgg16 alexnet"),
        (["vgg16", "--explain", "--equivalent-mlp"], "--explain and --equivalent-mlp exclude each other"),
        (["vgg16", "lenet5", "--compare", "--diagram", "x.png"], "--compare and --diagram exclude each other"),
        (["vgg16", "--depth", "2", "--all"], "--depth and --all exclude each other"),
        (["mlp", "--set", "hidden"], "--set hidden=40000"),
        (["vgg16", "--layout", "whc"], "--layout 'whc' should be chw or hwc"),
        (["vgg16", "--depth", "0"], "--depth 0 should be 1 or more"),
    ],
)
def test_refusals(arguments: list[str], told: str, here: Path) -> None:
    done = run("shape", *arguments, cwd=here)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1
