"""Models of torchvision, made without weights; and libraries that are missing or broken."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from cnncli.arch.net import totals
from cnncli.errors import EnvironmentFault
from cnncli.models import sources
from cnncli.models.hollow import make_hollow
from cnncli.models.installed import version_of, versions_of
from cnncli.models.tracing.trace import trace

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
FEW = ("alexnet", "googlenet", "inception_v3", "maxvit_t", "regnet_y_128gf", "swin_v2_t", "vit_h_14")


def check(name: str) -> None:
    """torchvision publishes the number of parameters of each model; and no parameter may take memory."""
    made = sources.make("torchvision", name, input=None, classes=None)
    assert all(parameter.is_meta for parameter in made.model.parameters())
    assert not made.model.training
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    assert totals(trace(made.model, made.input), made.input).params == published["num_params"]


@pytest.mark.parametrize("name", FEW)
def test_published_parameters(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CLASSIFIERS) - set(FEW)))
def test_published_parameters_of_all(name: str) -> None:
    check(name)


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(EnvironmentFault, match=r"the package timm is missing; pip install 'cnncli\[timm\]'"):
        sources.make("timm", "resnet18", input=None, classes=None)


def test_a_library_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sources, "import_module", broken)
    for library in ("torchvision", "timm"):
        with pytest.raises(EnvironmentFault, match=r"torchvision [0-9.]+\S* does not fit torch [0-9.]+\S*: operator .*; install a pair"):
            sources.make(library, "resnet18", input=None, classes=None)


# ---- without weights ----


class Mixes(nn.Module):
    """Adds numbers to what has none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.width = (self.layer(torch.zeros(2, 3)) + torch.arange(4)).shape[1]
        self.rates = torch.linspace(0, 0.5, 3, device="cpu").tolist()


class Fails(nn.Module):
    times = 0

    def __init__(self) -> None:
        super().__init__()
        Fails.times += 1
        raise ValueError("on purpose")


def test_made_without_numbers() -> None:
    state = torch.random.get_rng_state()
    model = make_hollow(lambda: nn.Linear(10**9, 10**4))  # 40 TB
    assert model.weight.is_meta
    assert [p.is_meta for p in make_hollow(Mixes).parameters()] == [True, True]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not nn.Linear(2, 2).weight.is_meta, "afterwards all is as before"


def test_recorded_by_torch() -> None:
    """torch.jit.trace runs the model, which takes numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it old
        model = make_hollow(lambda: torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 9, 9)))
    assert not any(p.is_meta for p in model.parameters())


def test_its_own_errors_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="on purpose"):
        make_hollow(Fails)
    assert Fails.times == 1


def test_versions_without_importing() -> None:
    """As importlib.metadata, which is slower, finds them."""
    from importlib.metadata import version

    for package in ("torch", "torchvision", "cnncli", "numpy"):
        assert version_of(package) == version(package)
    assert version_of("no-such-package") is None
    assert version_of("torchvisio") is None
    assert versions_of(["torch", "no-such-package"]) is None
