"""A model file that names a model of a library in the place of a net: what goes in comes out, and a name is only ever looked up."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.models import get_model

from cnncli.data.preprocess import Preprocess
from cnncli.errors import EnvironmentFault, InputError
from cnncli.models.describe import describe
from cnncli.models.hollow import is_hollow
from cnncli.models.modelfile import ModelInfo, info_to_json, load, read_info, save
from cnncli.models.sources import make, with_weights
from cnncli.models.tensorfile import save_tensors

CLASSES = ("cat", "dog", "bird")
INFO = ModelInfo(None, CLASSES, Preprocess(3, 224, 224), "photos", metrics={"epoch": 2.0}, spec="torchvision/mobilenet_v3_small")


def saved(path: Path, model: nn.Module, info: ModelInfo) -> Path:
    save(path, model, info)
    return path


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return get_model("mobilenet_v3_small", weights=None, num_classes=3).eval()


@pytest.fixture
def file(tmp_path: Path, small: nn.Module) -> Path:
    return saved(tmp_path / "small.safetensors", small, INFO)


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        ("torchvision/mobilenet_v3_small", 224),
        ("timm/mobilenetv3_small_050", 96),
        ("timm/mobilenetv3_small_050.a_tag_that_went", 96),
        pytest.param("timm/levit_128s", 224, marks=pytest.mark.slow),  # it computes tables that are not in its state
        pytest.param("torchvision/swin_t", 224, marks=pytest.mark.slow),
        pytest.param("timm/vit_tiny_patch16_224", 64, marks=pytest.mark.slow),  # made for one size of input
        pytest.param("torchvision/inception_v3", 299, marks=pytest.mark.slow),
    ],
)
def test_what_goes_in_comes_out(spec: str, side: int, tmp_path: Path) -> None:
    library, _, name = spec.partition("/")
    name = name.partition(".")[0]
    torch.manual_seed(1)
    if library == "timm":
        model = timm.create_model(name, num_classes=3, **({"img_size": side} if name.startswith("vit") else {}))
    else:
        model = get_model(name, weights=None, num_classes=3, **({"init_weights": False, "aux_logits": False} if "incep" in name else {}))
    x = torch.randn(8, 3, side, side)
    with torch.no_grad():
        model.train()(x)  # running statistics that are not the initial ones
    info = replace(INFO, spec=spec, preprocess=Preprocess(3, side, side))
    loaded, told = load(saved(tmp_path / "a.safetensors", model.eval(), info))
    assert replace(told, cnncli="") == info
    assert read_info(tmp_path / "a.safetensors") == told
    assert told.name == spec
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("spec", ["timm/levit_128s", "torchvision/swin_t"])
def test_tables_that_are_not_in_the_state_are_computed(spec: str) -> None:
    library, _, name = spec.partition("/")
    made = make(library, name, input=None, classes=3, classifies=True)  # type: ignore[arg-type]
    whole = made.again()
    filled = with_weights(made, whole.state_dict())
    assert not is_hollow(filled)
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(filled(x), whole(x))


def test_a_tensor_without_numbers_is_seen_wherever_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    assert not is_hollow(model)
    hollow = torch.empty(2, device="meta")
    for change in (
        lambda m: setattr(m[0], "table", hollow),
        lambda m: setattr(m[0], "tables", [torch.zeros(1), hollow]),
        lambda m: m[0].register_buffer("kept", hollow, persistent=False),
    ):
        model = nn.Sequential(nn.Linear(2, 2))
        change(model)
        assert is_hollow(model)


# ---- what a file may not ask for ----


def rewritten(path: Path, model: nn.Module, **changes: Any) -> Path:
    save_tensors(path, dict(model.state_dict()), info_to_json(INFO) | changes)
    return path


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("torchvision/no_such_model", "torchvision has no model 'no_such_model'"),
        ("timm/no_such_model", "timm has no model 'no_such_model'"),
        ("torchvision/fcn_resnet50", "marks pixels"),
        ("torchvision/quantized_resnet18", "quantised"),
        ("torchvision/resnet18", "tensors do not fit its net, first "),
        ("torchvision/", "it names no model of torchvision or timm"),
        ("torchvision/../evil", "it names no model"),
        ("timm/hf-hub:evil/model", "it names no model"),
        ("timm/local-dir:evil", "it names no model"),
        ("os/system", "it names no model"),
        ("evil.py:Net", "holds weights of evil.py:Net; code runs only when it is named; `cnn eval evil.py:Net --weights "),
        ("evil.py:Net()", "it names no model"),
        ("evil.py:Net\n", "it names no model"),
        ("evil\x1b.py:Net", "it names no model"),
        ("e" * 5000 + ".py:Net", "it names no model"),
        ("torchvision/" + "x" * 10**6, "it names no model"),
        ("", "it names no model"),
        (None, "it names no model"),
        (7, "it names no model"),
        (["torchvision/resnet18"], "it names no model"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_C11_names_that_are_none(spec: object, told: str, tmp_path: Path, small: nn.Module) -> None:
    """Nothing is imported for a name in a file, and no network asked: the name is looked up in the lists of the two libraries."""
    path = rewritten(tmp_path / "x.safetensors", small, spec=spec)
    known = set(sys.modules)
    with pytest.raises(InputError, match=told) as caught:
        load(path)
    assert not {name for name in set(sys.modules) - known if "evil" in name}
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": ["a", "b"]}, "2 tensors do not fit its net, first classifier.3.bias"),
        ({"classes": []}, "0 different classes"),
        ({"classes": ["a", "a", "b"]}, "2 different classes"),
        ({"classes": [str(number) for number in range(10**6)]}, "tensors do not fit its net"),
        ({"preprocess": Preprocess(1, 224, 224).to_json(), "spec": "timm/mobilenetv3_small_050"}, "tensors do not fit its net"),
        ({"spec": "torchvision/vit_h_14"}, "tensors do not fit its net"),
    ],
)
def test_what_does_not_fit_costs_no_memory(changes: dict[str, Any], told: str, tmp_path: Path, small: nn.Module) -> None:
    path = rewritten(tmp_path / "x.safetensors", small, **changes)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(InputError, match=told):
        load(path)
    assert time.perf_counter() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB; the model named is up to 2.5 GB"


def test_a_library_that_is_missing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "timm.safetensors", nn.Linear(2, 2), replace(INFO, spec="timm/resnet18"))
    monkeypatch.setitem(sys.modules, "timm", None)
    assert read_info(path).name == "timm/resnet18"
    with pytest.raises(EnvironmentFault, match=r"the package timm is missing; pip install 'cnncli\[timm\]'"):
        load(path)
    load(file)


def test_its_rows(file: Path) -> None:
    """As of the model that the file names, with the file's classes."""
    found, named = describe(str(file)), describe("torchvision/mobilenet_v3_small", classes=3)
    assert found.rows == named.rows
    assert (found.name, found.classes) == ("torchvision/mobilenet_v3_small", 3)
    with pytest.raises(InputError, match="no model 'nope'"):
        describe(str(rewritten(file.with_name("x.safetensors"), nn.Linear(2, 2), spec="torchvision/nope")))
