"""Published accuracies against torchvision's own metadata, and the challenge's depths against the zoo."""

from __future__ import annotations

import pytest
from torchvision.models import get_model_weights

from cnncli.arch.totals import totals_of
from cnncli.arch.zoo.accuracy import CIFAR10, DATA_SETS, IMAGENET, ONE_CROP, PUBLISHED, TORCHVISION, data_set_of, is_searched
from cnncli.arch.zoo.ilsvrc import ENTRIES, HUMAN_ERROR
from cnncli.arch.zoo.table import ZOO, build

TWINS = {
    "alexnet-owt": "alexnet",
    **{f"vgg{layers}": f"vgg{layers}" for layers in (11, 13, 16, 19)},
    **{f"vgg{layers}-bn": f"vgg{layers}_bn" for layers in (11, 13, 16, 19)},
    **{f"resnet{layers}": f"resnet{layers}" for layers in (18, 34, 50, 101, 152)},
    **{f"densenet{layers}": f"densenet{layers}" for layers in (121, 169, 201)},
    **{name: name for name in ("googlenet", "squeezenet1_1", "mobilenet_v2")},
}


@pytest.mark.parametrize("name", TWINS)
def test_torchvision_s_figures_are_its_own(name: str) -> None:
    meta = get_model_weights(TWINS[name])["IMAGENET1K_V1"].meta
    published, figures = PUBLISHED[name], meta["_metrics"]["ImageNet-1K"]
    assert (published.top1, published.top5) == (figures["acc@1"], figures["acc@5"])
    assert (published.data, published.source) == (IMAGENET, TORCHVISION)
    assert meta["num_params"] == totals_of(build(name)).params, "the figures are another net's"


def test_torchvision_is_the_source_of_its_twins_alone() -> None:
    assert {name for name, accuracy in PUBLISHED.items() if accuracy.source is TORCHVISION} == set(TWINS)


def test_every_fact_is_about_a_net_of_the_zoo() -> None:
    assert set(PUBLISHED) <= set(ZOO)


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_are_of_the_data_that_the_net_is_made_for(name: str) -> None:
    accuracy = PUBLISHED[name]
    assert accuracy.data == data_set_of(build(name))
    figures = [figure for figure in (accuracy.top1, accuracy.top5) if figure is not None]
    assert figures == sorted(figures), "a class that comes first is among the first five"
    # Far below the worst of them and above the best, where an error typed as an accuracy, or the reverse, would lie.
    assert all(55 < figure < 99.9 for figure in figures)
    assert figures
    assert accuracy.source.url.startswith(("https://", "http://"))
    assert accuracy.source.view == ONE_CROP or accuracy.source.view in accuracy.source.text


@pytest.mark.parametrize(
    ("name", "top1_error", "top5_error"),
    [
        ("alexnet-two-tower", 40.7, 18.2),
        ("resnet50-v1", 24.7, 7.8),
        ("darts-v2-imagenet", 26.7, 8.7),
        ("resnet1202", 7.93, None),
        ("darts-v2", 2.76, None),
        ("lenet5", 0.95, None),
    ],
)
def test_errors_are_what_accuracies_leave(name: str, top1_error: float, top5_error: float | None) -> None:
    accuracy = PUBLISHED[name]
    assert accuracy.top1 is not None
    assert accuracy.top1 + top1_error == pytest.approx(100, abs=1e-9)
    assert (accuracy.top5 is None) == (top5_error is None)
    assert accuracy.top5 is None or accuracy.top5 + top5_error == pytest.approx(100, abs=1e-9)


def test_he_et_al_s_cifar_nets_in_the_order_of_their_table() -> None:
    """Deeper is better up to 110 layers, and worse at 1202 (section 4.2 of the paper)."""
    figures = [PUBLISHED[f"resnet{layers}"].top1 for layers in (20, 32, 44, 56, 110)]
    assert figures == sorted(figures)
    assert PUBLISHED["resnet1202"].top1 < PUBLISHED["resnet110"].top1


@pytest.mark.parametrize("name", ZOO)
def test_every_net_is_made_for_a_known_data_set(name: str) -> None:
    assert data_set_of(build(name)) in DATA_SETS


def test_another_number_of_classes_is_another_data_set() -> None:
    assert data_set_of(build("resnet20")) == CIFAR10
    assert data_set_of(build("resnet20", classes=7)) is None


@pytest.mark.parametrize("name", ZOO)
def test_searched_nets_are_those_of_the_families_of_cells(name: str) -> None:
    assert is_searched(name) == (ZOO[name].builder.split(":")[0] in ("nasnet", "darts"))


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.net], ids=lambda entry: entry.name)
def test_the_challenge_s_depths_are_those_of_the_zoo_s_nets(entry: object) -> None:
    assert entry.layers == totals_of(build(entry.net)).depth


def test_the_challenge_went_on_year_by_year() -> None:
    winners = [entry for entry in ENTRIES if entry.place == 1]
    assert [entry.year for entry in winners] == list(range(2010, 2018))
    errors = [entry.error for entry in ENTRIES]
    assert errors == sorted(errors, reverse=True)
    assert next(entry.year for entry in winners if entry.error < HUMAN_ERROR) == 2015
    assert all((entry.layers is None) == bool(entry.kind) for entry in ENTRIES), "a depth, or why there is none"
