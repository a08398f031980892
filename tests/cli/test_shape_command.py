"""`cnn shape`: the documented JSON, and the text of AlexNet as a whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import run

from cnncli.models.modelfile import read_info

MODEL_KEYS = ["path", "name", "spec", "classes", "data", "val_fraction", "test_fraction", "metrics", "preprocess", "cnncli"]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.parametrize("columns", ["80", "140"])
def test_golden_alexnet(columns: str, here: Path) -> None:
    """CNNCLI_WRITE_GOLDEN=1 (`make golden`) rewrites the file; read its diff."""
    done = run("shape", "alexnet", cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    path = GOLDEN / f"shape-alexnet-{columns}.txt"
    if os.environ.get("CNNCLI_WRITE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(done.out)
    assert done.out == path.read_text()
    assert max(map(len, done.out.splitlines())) <= int(columns)


def test_golden_text_agrees_with_itself() -> None:
    """What does not come from this program's own output: the table adds up to its totals, and to the published 62,378,344."""
    text = (GOLDEN / "shape-alexnet-140.txt").read_text()
    table, rest = text.split("─\n", 1)[1].split("\n\n", 1)
    parameters = [int(row.split()[-5].replace(",", "")) for row in table.splitlines() if row.split()[-5] != "-"]
    macs = [int(row.split()[-4].replace(",", "")) for row in table.splitlines() if row.split()[-4] != "-"]
    told = {words[0]: int(words[1].replace(",", "")) for line in rest.splitlines()[:3] if (words := line.split())}
    assert told["parameters"] == sum(parameters) == 62_378_344
    assert told["MACs"] == sum(macs)


def test_json_keys(here: Path) -> None:
    done = run("shape", "alexnet", "--json", cwd=here)
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert list(found) == ["net", "input", "classes", "layers", "totals"]
    assert (found["net"], found["input"], found["classes"]) == ("alexnet", [3, 227, 227], 1000)
    for layer in found["layers"]:
        assert list(layer) == ["name", "operation", "output", "params", "macs", "receptive_field", "jump", "start"]
        assert all(type(n) is int for n in (layer["params"], layer["macs"], *layer["output"]))
    assert list(found["totals"]) == ["params", "macs", "flops", "weight_bytes", "activation_bytes", "depth"]
    assert found["totals"]["params"] == sum(layer["params"] for layer in found["layers"])
    assert found["totals"]["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert found["totals"]["flops"] == 2 * found["totals"]["macs"]
    assert found["totals"]["weight_bytes"] == 4 * found["totals"]["params"]
    conv1 = found["layers"][0]
    assert conv1 == {
        "name": "conv1",
        "operation": "conv 11x11, 96, /4",
        "output": [96, 55, 55],
        "params": 34_944,
        "macs": 105_415_200,
        "receptive_field": 11,
        "jump": 4,
        "start": 5,
    }


def test_json_of_a_window_that_is_not_square(here: Path) -> None:
    found = run("shape", "resnet20", "--input", "3x32x64", "--json", cwd=here).json
    last = found["layers"][-1]
    assert isinstance(last["receptive_field"], list | int)
    assert any(isinstance(layer["receptive_field"], list) for layer in found["layers"]), "global pooling sees height and width"


def test_text_and_json_tell_the_same(here: Path) -> None:
    text = run("shape", "alexnet", cwd=here, COLUMNS="140").out
    for layer in run("shape", "alexnet", "--json", cwd=here).json["layers"]:
        row = next(line for line in text.splitlines() if line.startswith(layer["name"] + " "))
        assert "x".join(map(str, layer["output"])) in row.split()
        assert (f"{layer['params']:,}" if layer["params"] else "-") in row.split()
        assert (f"{layer['macs']:,}" if layer["macs"] else "-") in row.split()


def test_layout_hwc_turns_sizes_alone(here: Path) -> None:
    chw = run("shape", "alexnet", cwd=here).out
    hwc = run("shape", "alexnet", "--layout", "hwc", cwd=here).out
    assert "input 227x227x3" in hwc
    turned = re.sub(r"\b(\d+)x(\d+)x(\d+)\b", r"\2x\3x\1", chw)
    assert hwc.split() == turned.split()
    both = [run("shape", "alexnet", "--layout", layout, "--json", cwd=here).out for layout in ("hwc", "chw")]
    assert both[0] == both[1], "JSON has one order"


@pytest.mark.parametrize("net", ["resnet20", "alexnet", "vgg16"])
def test_depth_folds_and_totals_stay(net: str, here: Path) -> None:
    full = run("shape", net, "--json", cwd=here).json
    sizes = []
    for depth in range(1, 6):
        found = run("shape", net, "--json", "--depth", str(depth), cwd=here).json
        assert found["totals"] == full["totals"]
        assert sum(layer["params"] for layer in found["layers"]) == full["totals"]["params"]
        assert sum(layer["macs"] for layer in found["layers"]) == full["totals"]["macs"]
        assert found["layers"][-1]["output"] == full["layers"][-1]["output"]
        assert all(layer["name"].count(".") < depth for layer in found["layers"])
        sizes.append(len(found["layers"]))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(full["layers"])


def test_long_nets_are_folded_and_say_so(here: Path) -> None:
    out = run("shape", "resnet110", cwd=here).out
    assert "--depth" in out
    assert len(out.splitlines()) < 80
    opened = run("shape", "resnet110", "--depth", "9", cwd=here).out
    assert len(opened.splitlines()) > 200
    assert "--depth" not in opened


def test_classes_and_input(here: Path) -> None:
    found = run("shape", "lenet5", "--classes", "7", "--input", "3x40x40", "--json", cwd=here).json
    assert found["classes"] == 7
    assert found["input"] == [3, 40, 40]
    assert found["layers"][-1]["output"] == [7]


@pytest.mark.slow
def test_shape_of_a_trained_model(here: Path, digits_run) -> None:
    fresh = run("shape", "lenet5", "--json", cwd=here).json
    for model in (digits_run.folder, digits_run.best):
        found = run("shape", model, "--json", cwd=here).json
        told = found.pop("model")
        assert found == fresh
        assert list(told) == MODEL_KEYS
        assert told["path"] == str(digits_run.best)
        assert (told["name"], told["spec"], told["data"]) == ("lenet5", None, "digits")
        assert told["classes"] == list("0123456789")
        assert told["preprocess"] == read_info(digits_run.best).preprocess.to_json()
        assert 0 < told["metrics"]["val_accuracy"] <= 1
    assert run("shape", digits_run.folder, "--explain", "--json", cwd=here).json["model"] == told
    done = run("shape", digits_run.folder, "--classes", "3", cwd=here)
    assert done.code == 2
    assert "--classes 3" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["80", "140"])
def test_what_a_trained_model_says_of_itself(columns: str, here: Path, digits_run) -> None:
    done = run("shape", digits_run.folder, cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= max(int(columns), len(str(digits_run.best)) + 14)
    told = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.out.split("\n\n")[0].splitlines() if not line.startswith(" "))
    assert told["model"] == "lenet5"
    assert told["classes"] == "10: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert told["images"].startswith("grey, ")
    assert told["trained on"].startswith("digits")
    assert done.out.split("\n\n", 1)[1] == run("shape", "lenet5", cwd=here, COLUMNS=columns).out


def test_what_a_model_file_says_needs_no_torch(here: Path) -> None:
    """The tiny net that is saved here is read by a process in which importing torch fails."""
    import torch

    from cnncli.arch.zoo.table import build
    from cnncli.data.preprocess import Preprocess
    from cnncli.models.assemble import assemble
    from cnncli.models.modelfile import ModelInfo, save

    net = build("lenet5", classes=2)
    torch.manual_seed(0)
    info = ModelInfo(net, ("ca\x1bt", "dog"), Preprocess(1, 32, 32, crop_fraction=0.8), "photos", 0.25, None, {"epoch": 3.0})
    save(here / "m.safetensors", assemble(net), info)
    (here / "shadow").mkdir()
    for name in ("torch", "torchvision"):
        (here / "shadow" / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    done = run("shape", "m.safetensors", cwd=here, PYTHONPATH=os.pathsep.join((str(here / "shadow"), os.environ.get("PYTHONPATH", ""))))
    assert (done.code, done.err) == (0, "")
    for line in ("classes     2: ca\\x1bt, dog", "trained on  photos, split by hash: 25% validation", "metrics     epoch 3"):
        assert line in done.out
    assert "images      grey, resize 40, crop 32, bilinear; mean 0.5, std 0.5" in done.out
    assert run("shape", "m.safetensors", "--depth", "1", "--json", cwd=here).json["model"]["classes"] == ["ca\x1bt", "dog"]
    assert "model" not in run("shape", "lenet5", "--json", cwd=here).json
    for flag in ("--notation", "--equivalent-mlp"):
        assert "model file" not in run("shape", "m.safetensors", flag, cwd=here).out
