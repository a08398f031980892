"""Stages: what is frozen in each, at which rate the rest learns, and for how long; rates against their formula."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.errors import UsageError
from cnncli.models.head import Head
from cnncli.transfer.chain import structure_of
from cnncli.transfer.config import FinetuneConfig
from cnncli.transfer.plan import Stage, plan_stages

PEAK = 0.02
TRAIN = TrainConfig(epochs=8)


def named() -> nn.Module:
    """Four convolutions with norms, and a classifier of two layers, of which the last one gives the scores."""
    layers = [nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)) for channels in (3, 4, 4, 4)]
    classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3))
    return sequence(features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(4), flatten=nn.Flatten(), classifier=classifier)


def sequence(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


BLOCKS = ["features.0", "features.1", "features.2", "features.3", "classifier.1"]
HEAD = "classifier.3"


def head_at(model: nn.Module, path: str, others: tuple[str, ...] = ()) -> Head:
    layer = model.get_submodule(path)
    params = sum(p.numel() for one in (path, *others) for p in model.get_submodule(one).parameters())
    return Head(path, "Linear", layer.in_features, 5, 3, params, others)


def planned(
    model: nn.Module | None = None,
    head: str = HEAD,
    *,
    train: TrainConfig = TRAIN,
    size: int = 8,
    others: tuple[str, ...] = (),
    **values: Any,
) -> tuple[Stage, ...]:
    model = model or named()
    structure = structure_of(model, torch.zeros(1, 3, size, size))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return plan_stages(
        structure, head_at(model, head, others), sizes, FinetuneConfig(**values), train=train, optim=OptimConfig(optimizer="adamw", lr=PEAK)
    )


def learns(stage: Stage, known: list[str] = BLOCKS) -> list[str]:
    """Blocks of which weights learn."""
    return [block for block in known if any(name.startswith(f"{block}.") for name in stage.learning)]


def test_by_default_the_classifier_and_then_everything() -> None:
    head, whole = planned()
    assert [(stage.number, stage.name) for stage in (head, whole)] == [(0, "classifier"), (1, "everything")]
    assert set(head.learning) == {f"{HEAD}.weight", f"{HEAD}.bias"}
    assert set(whole.learning) == {name for name, _ in named().named_parameters()}
    assert (head.train.passes, whole.train.passes) == (30, 8)
    assert head.rates == {}
    assert whole.rates == {name: 0.1 for name in whole.learning if not name.startswith(HEAD)}
    assert head.cut is not None
    assert head.cut.path == HEAD
    assert whole.cut is None
    assert [(group.name, group.rate) for group in head.groups] == [("features.0 to classifier.1", None), (HEAD, PEAK)]
    assert [(group.name, group.rate) for group in whole.groups] == [("features.0 to classifier.1", pytest.approx(PEAK / 10)), (HEAD, PEAK)]


@pytest.mark.parametrize(
    ("values", "blocks", "cut"),
    [
        ({"freeze": True}, 0, HEAD),
        ({"unfreeze": 1}, 1, "classifier.1"),
        ({"unfreeze": 2}, 2, "features.3"),
        ({"unfreeze": 5}, 5, None),
        ({"freeze_until": "features.2"}, 3, "features.2"),
        ({"freeze_until": "features.2.1"}, 3, "features.2"),  # a norm in a block: the block
        ({"freeze_until": "features"}, 5, None),  # a sequence of blocks: from its first one
        ({"freeze_until": "features.0"}, 5, None),
        ({"freeze_until": "classifier.1"}, 1, "classifier.1"),
        ({"freeze_until": "classifier"}, 1, "classifier.1"),  # which the head is in, too
        ({"freeze_until": HEAD}, 0, HEAD),
        ({"freeze_until": "pool"}, 1, "classifier.1"),  # without weights: from what follows it
        ({"freeze_until": "features.1.2"}, 3, "features.2"),
        ({"freeze_until": "classifier.2"}, 0, HEAD),
    ],
    ids=str,
)
def test_what_learns_in_the_end(values: dict[str, Any], blocks: int, cut: str | None) -> None:
    stages = planned(**values)
    last = stages[-1]
    assert learns(last) == (BLOCKS[-blocks:] if blocks else [])
    assert len(stages) == (2 if blocks else 1)
    assert (last.cut and last.cut.path) == cut
    assert stages[0].name == "classifier"
    model = named()
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for stage in stages:
        assert len(stage.learning) == len(set(stage.learning))
        assert stage.trained == sum(sizes[name] for name in stage.learning)
        assert stage.frozen == sum(sizes.values()) - stage.trained
    assert last.name == {0: "classifier", 5: "everything"}.get(blocks, f"from {BLOCKS[-blocks]}")


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"unfreeze": 6}, "--unfreeze 6: there are 5 blocks before the classifier, features.0 to classifier.1", "leave it out"),
        ({"freeze_until": "feature.2"}, "there is no layer 'feature.2'", "features.2"),
        ({"freeze_until": "features.2.9"}, "there is no layer 'features.2.9'", "features.2"),
        ({"freeze_until": "zzz"}, "there is no layer 'zzz'", f"its blocks are {', '.join([*BLOCKS, HEAD])}"),
        ({"freeze_until": ""}, "there is no layer ''", "features.0"),
        ({"freeze": True, "head_epochs": 0}, "nothing is left to learn", ""),
        ({"freeze_until": HEAD, "head_epochs": 0}, "nothing is left to learn", ""),
        ({"gradual": 3, "train": TrainConfig(steps=10)}, "--gradual 3 shares out epochs, of which there are none", "--epochs"),
        ({"gradual": 3, "train": TrainConfig(epochs=2)}, "--gradual 3 shares out epochs, of which there are 2", "--epochs"),
    ],
    ids=str,
)
def test_refused(values: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(**values)
    assert message in caught.value.message
    assert hint in caught.value.hint
    words = caught.value.hint.removeprefix("did you mean ").rstrip("?").split(" or ")
    assert len(words) == len(set(words))
    assert caught.value.path in {f"--{name.replace('_', '-')}" for name in values}


def test_without_a_stage_for_the_classifier_alone() -> None:
    (only,) = planned(head_epochs=0)
    assert (only.number, only.name, only.train) == (0, "everything", TRAIN)
    (only,) = planned(head_epochs=0, unfreeze=1)
    assert (only.name, learns(only)) == ("from classifier.1", ["classifier.1"])


@pytest.mark.parametrize(
    ("values", "train", "expected"),
    [
        ({"head_epochs": 3}, TRAIN, [(3, None, None), (8, None, None)]),
        ({}, TrainConfig(steps=50), [(30, None, None), (None, 50, None)]),
        ({"freeze": True}, TrainConfig(steps=50), [(None, 50, None)]),
        ({"freeze": True}, TrainConfig(minutes=2), [(None, None, 2)]),
        ({"freeze": True, "head_epochs": 4}, TRAIN, [(4, None, None)]),
        ({"solver": "lbfgs", "unfreeze": 1}, TRAIN, [(30, None, None), (8, None, None)]),
    ],
    ids=str,
)
def test_how_long(values: dict[str, Any], train: TrainConfig, expected: list[tuple[Any, ...]]) -> None:
    stages = planned(train=train, **values)
    assert [(stage.train.passes, stage.train.steps, stage.train.minutes) for stage in stages] == expected


def test_lbfgs_solves_for_the_classifier_alone() -> None:
    assert [stage.solver for stage in planned(solver="lbfgs")] == ["lbfgs", "sgd"]
    assert [stage.solver for stage in planned(solver="lbfgs", freeze=True)] == ["lbfgs"]
    assert [stage.solver for stage in planned()] == ["sgd", "sgd"]


@settings(max_examples=30, deadline=None)
@given(
    unfreeze=st.integers(1, 5),
    gradual=st.integers(1, 7),
    epochs=st.integers(7, 20),
    decay=st.none() | st.just(1.0) | st.floats(0.3, 0.99),
    factor=st.none() | st.just(0.0) | st.floats(0.01, 2.0),
)
def test_rates_and_epochs_by_their_formulas(unfreeze: int, gradual: int, epochs: int, decay: float | None, factor: float | None) -> None:
    """A block that lies k before the classifier learns with peak x factor x decay^k, in every stage in which it does."""
    stages = planned(
        train=TrainConfig(epochs=epochs), unfreeze=unfreeze, gradual=gradual, layer_decay=decay, backbone_lr_factor=factor, head_epochs=2
    )
    parts = min(gradual, unfreeze)
    assert len(stages) == 1 + parts
    assert [stage.number for stage in stages] == list(range(1 + parts))
    assert sum(stage.train.passes or 0 for stage in stages[1:]) == epochs
    lengths = [stage.train.passes or 0 for stage in stages[1:]]
    assert max(lengths) - min(lengths) <= 1
    counts = [len(learns(stage)) for stage in stages]
    assert counts[0] == 0
    assert counts[-1] == unfreeze
    assert counts[1] == -(-unfreeze // parts), "where parts cannot be equal, the first is not the smaller one"
    assert all(1 <= later - earlier <= -(-unfreeze // parts) for earlier, later in pairwise(counts))
    used = factor if factor is not None else (0.1 if decay is None else 1.0)
    for stage, count in zip(stages, counts, strict=True):
        assert learns(stage) == (BLOCKS[-count:] if count else [])
        assert set(stage.rates) <= set(stage.learning)
        for name in stage.learning:
            distance = next((len(BLOCKS) - place for place, block in enumerate(BLOCKS) if name.startswith(f"{block}.")), 0)
            share = 1.0
            for _ in range(distance):
                share *= 1.0 if decay is None else decay
            assert stage.rates.get(name, 1.0) == pytest.approx(share * (used if distance else 1.0))
        told = [group for group in stage.groups if group.rate is not None]
        assert told[-1].rate == PEAK
        if count and decay is not None and decay < 1 and used:
            assert [group.rate for group in told[:-1]] == pytest.approx([PEAK * used * decay**k for k in range(count, 0, -1)])


class NormedHead(nn.Module):
    """A classifier that begins with a norm, as ConvNeXt's in timm."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 4) if hidden else nn.Identity()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.hidden(self.norm(x.mean((2, 3)))))


def normed(*, hidden: bool) -> nn.Module:
    return sequence(stem=nn.Conv2d(3, 4, 3), stage=nn.Conv2d(4, 4, 3), head=NormedHead(hidden=hidden))


@pytest.mark.parametrize(
    ("values", "learning"),
    [
        ({"freeze": True}, ()),
        ({"freeze_until": "head"}, ()),
        ({"freeze_until": "head.fc"}, ()),
        ({"unfreeze": 1}, ("stage", "head.norm")),
        ({"freeze_until": "head.norm"}, ("stage", "head.norm")),
        ({"freeze_until": "stage"}, ("stage", "head.norm")),
        ({}, ("stem", "stage", "head.norm")),
    ],
    ids=str,
)
def test_a_norm_beside_the_classifier_belongs_to_the_block_before_it(values: dict[str, Any], learning: tuple[str, ...]) -> None:
    stages = planned(normed(hidden=False), "head.fc", **values)
    expected = {f"{path}.{name}" for path in (*learning, "head.fc") for name in ("weight", "bias")}
    assert set(stages[-1].learning) == expected
    assert stages[0].cut is not None
    assert stages[0].cut.path == "head.fc"
    assert stages[0].frozen == 3 * 4 * 9 + 4 + 4 * 4 * 9 + 4 + 8
    if learning:
        assert stages[-1].rates == {name: 0.1 for name in expected if not name.startswith("head.fc")}


def test_a_layer_beside_the_classifier_is_a_block() -> None:
    stages = planned(normed(hidden=True), "head.fc", unfreeze=1)
    assert set(stages[-1].learning) == {f"head.{path}.{name}" for path in ("norm", "hidden", "fc") for name in ("weight", "bias")}
    assert [stage.cut and stage.cut.path for stage in planned(normed(hidden=True), "head.fc", freeze_until="head.fc")] == ["head.fc"]


def test_two_classifiers_and_what_is_not_used() -> None:
    model = named()
    model.classifier.add_module("aside", nn.Identity())
    model.aside = nn.Linear(7, 7)
    model.forward = lambda x: model.classifier(model.flatten(model.pool(model.features(x))))
    stage = planned(model, freeze=True)[0]
    (unused,) = [group for group in stage.groups if group.name == "not used"]
    assert (unused.params, unused.rate) == (56, None)
    assert stage.trained + stage.frozen == sum(p.numel() for p in model.parameters())
    whole = planned(model, head_epochs=0)[0]
    assert not any(name.startswith("aside") for name in whole.learning)
    both = planned(model, others=("aside",), freeze=True)[0]
    assert set(both.learning) == {f"{path}.{name}" for path in (HEAD, "aside") for name in ("weight", "bias")}
    assert both.cut is not None
    assert both.cut.path == HEAD


@pytest.mark.parametrize(
    ("name", "options", "head", "others", "deepest", "cut"),
    [
        pytest.param("convnext_atto", {}, "head.fc", (), ("stages.3.blocks.1.", "head.norm."), "head.fc", marks=pytest.mark.slow),
        ("deit_tiny_distilled_patch16_224", {"img_size": 32, "depth": 2}, "head", ("head_dist",), ("blocks.1.", "norm."), None),
    ],
)
def test_timm(name: str, options: dict[str, Any], head: str, others: tuple[str, ...], deepest: tuple[str, ...], cut: str | None) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=3, **options)
    first, last = planned(model, head, size=32, others=others, unfreeze=1)
    own = tuple(f"{path}." for path in (head, *others))
    assert set(first.learning) == {name for name, _ in model.named_parameters() if name.startswith(own)}
    assert set(last.learning) == {name for name, _ in model.named_parameters() if name.startswith(own + deepest)}
    assert last.cut is not None
    assert last.cut.path == deepest[0].rstrip(".")
    assert first.cut is not None
    assert cut is None or first.cut.path == cut
