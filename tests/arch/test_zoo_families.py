"""The families of the zoo against sources of their own: torchvision's twins layer by layer, its metadata, the papers' tables."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torchvision
from published import COUNTS, GOOGLENET_TABLE_1, ZFNET_ROWS
from torch import nn

from cnncli.arch.folding import fold
from cnncli.arch.net import walk
from cnncli.arch.zoo.table import ZOO, build
from cnncli.models.assemble import assemble

TWINS = {
    "alexnet-owt": "alexnet",
    **{f"vgg{layers}": f"vgg{layers}" for layers in (11, 13, 16, 19)},
    **{f"vgg{layers}-bn": f"vgg{layers}_bn" for layers in (11, 13, 16, 19)},
    **{f"resnet{layers}": f"resnet{layers}" for layers in (18, 34, 50, 101, 152)},
    **{f"densenet{layers}": f"densenet{layers}" for layers in (121, 169, 201)},
    **{name: name for name in ("googlenet", "squeezenet1_1", "mobilenet_v2")},
}


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """Our net and torchvision's, without memory for their weights."""
    arguments = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        return assemble(build(name)), torchvision.models.get_model(TWINS[name], **arguments)


def test_every_torchvision_model_of_the_same_name_is_a_twin() -> None:
    same = {name for name in ZOO if name.replace("-", "_") in torchvision.models.list_models(module=torchvision.models)}
    assert same - {"alexnet"} <= set(TWINS), "a net of the zoo has torchvision's name: hold it against torchvision's"


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_weights_in_the_same_order(name: str) -> None:
    """Parameters and buffers: published weights are mapped by this order."""
    ours, theirs = ([tuple(t.shape) for t in model.state_dict().values()] for model in both(name))
    assert ours == theirs


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_layers(name: str) -> None:
    """What weights do not show: stride, padding, groups, dilation and epsilon of every layer that has weights."""

    def layers(model: nn.Module) -> list[tuple[object, ...]]:
        attributes = ("kernel_size", "stride", "padding", "dilation", "groups", "eps", "momentum", "in_features", "out_features")
        weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
        return [(type(module), *(getattr(module, attribute, None) for attribute in attributes)) for module in weighted]

    ours, theirs = map(layers, both(name))
    assert len(ours) > 7
    assert ours == theirs


@pytest.mark.parametrize("name", TWINS)
def test_counts_are_torchvision_s(name: str) -> None:
    """Its metadata: parameters, and multiply-adds in units of 1e9 with three digits."""
    meta = torchvision.models.get_model_weights(TWINS[name]).IMAGENET1K_V1.meta
    params, macs = COUNTS[name]
    assert params == meta["num_params"]
    assert macs / 1e9 == pytest.approx(meta["_ops"], abs=0.0006)


def test_the_sizes_of_zfnet_are_those_of_its_figure() -> None:
    rows = {row.name: row for row in walk(build("zfnet"))}
    assert [(name, rows[name].output) for name, _ in ZFNET_ROWS] == list(ZFNET_ROWS)
    assert [name for name in rows if name.startswith(("conv", "pool", "fc"))] == [name for name, _ in ZFNET_ROWS]
    order = [name for name in rows if name.endswith("1")]
    assert order == ["conv1", "relu1", "pool1", "norm1"]  # the caption: pooled, then normalised


def test_the_counts_of_zfnet_by_hand() -> None:
    """Figure 3: kernel side, inputs, filters, side of the output."""
    layers = [(7, 3, 96, 110), (5, 96, 256, 26), (3, 256, 384, 13), (3, 384, 384, 13), (3, 384, 256, 13)]
    layers += [(6, 256, 4096, 1), (1, 4096, 4096, 1), (1, 4096, 1000, 1)]
    params = sum((kernel * kernel * inputs + 1) * filters for kernel, inputs, filters, _ in layers)
    macs = sum(kernel * kernel * inputs * filters * side * side for kernel, inputs, filters, side in layers)
    assert COUNTS["zfnet"] == (params, macs)


def test_googlenet_v1_is_table_1_of_its_paper() -> None:
    rows = {row.name: row for row in fold(walk(build("googlenet-v1")), 1)}
    for name, output, millions in GOOGLENET_TABLE_1:
        assert rows[name].output == output, name
        if millions is not None:
            macs = rows[name].macs + (rows["conv2_reduce"].macs if name == "conv2" else 0)
            assert abs(macs / 1e6 - millions) < 1, name


def test_the_two_googlenets_differ_as_their_docstring_says() -> None:
    published, trained = (walk(build(name)) for name in ("googlenet-v1", "googlenet"))
    operations = {row.name: row.operation for row in published}
    assert operations["inception_4c.5x5"] == "conv 5x5, 64, pad 2"
    assert {row.name: row.operation for row in trained}["inception_4c.5x5"] == "conv 3x3, 64, pad 1"
    assert [row.name for row in published if row.operation.startswith("local response")] == ["norm1", "norm2"]
    assert not any(row.operation == "batch norm" for row in published)
    names = [row.name for row in trained if not row.name.rpartition(".")[2].startswith("bn_")]
    assert sorted(names) == sorted(name for name in operations if name not in ("norm1", "norm2"))


@pytest.mark.parametrize(("name", "n"), [("resnet20", 3), ("resnet110", 18), ("resnet1202", 200)])
def test_the_counts_of_cifar_resnets_by_formula(name: str, n: int) -> None:
    """He et al. 2015, section 4.2: stages of 2n 3x3 convolutions with batch norm on maps of 32, 16, 8 with 16, 32, 64 filters."""
    params, macs = 9 * 3 * 16 + 2 * 16, 9 * 3 * 16 * 32 * 32
    for inputs, filters, side in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        weights = 9 * inputs * filters + (2 * n - 1) * 9 * filters * filters
        params, macs = params + weights + 2 * n * 2 * filters, macs + weights * side * side
    assert COUNTS[name] == (params + 64 * 10 + 10, macs + 64 * 10)


@pytest.mark.parametrize(("layers", "growth", "millions"), [(100, 12, 0.8), (250, 24, 15.3), (190, 40, 25.6)])
def test_the_counts_of_cifar_densenets_by_formula(layers: int, growth: int, millions: float) -> None:
    """Huang et al. 2016, section 3, and the parameters of table 2."""
    channels, side = 2 * growth, 32
    params, macs = 27 * channels, 27 * channels * side * side
    for block in range(3):
        for _ in range((layers - 4) // 6):
            reduce, convolve = channels * 4 * growth, 9 * 4 * growth * growth
            params += 2 * channels + reduce + 2 * 4 * growth + convolve
            macs += (reduce + convolve) * side * side
            channels += growth
        if block < 2:
            params, macs = params + 2 * channels + channels * (channels // 2), macs + channels * (channels // 2) * side * side
            channels, side = channels // 2, side // 2
    params, macs = params + 2 * channels + channels * 10 + 10, macs + channels * 10
    assert COUNTS[f"densenet-bc-{layers}-{growth}"] == (params, macs)
    assert round(params / 1e6, 1) == millions


def test_mobilenet_joins_only_the_ends_that_agree() -> None:
    """Sandler et al. 2018, table 2: a shortcut in all blocks but the first of each row, ten in all; the narrow ends are linear."""
    rows = walk(build("mobilenet_v2"))
    added = [row.name for row in rows if row.name.endswith(".add")]
    want = [(2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (4, 4), (5, 2), (5, 3), (6, 2), (6, 3)]
    assert added == [f"bottleneck{stage}.block{block}.add" for stage, block in want]
    for row, following in pairwise(rows):
        if row.name.endswith("project_bn"):
            assert not following.operation.startswith("relu")


@pytest.mark.parametrize("name", ["resnet152", "resnet1202", "densenet201", "densenet-bc-250-24"])
def test_equal_blocks_are_one_object(name: str) -> None:
    """What makes the deep nets quick to build and to walk: a walk asks each object once for each input shape."""
    rows = walk(build(name))
    assert len(rows) > 500
    assert len({id(row.part) for row in rows if row.operation not in ("add", "concat")}) < 50


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_the_place_of_the_stride_changes_work_and_nothing_else(name: str) -> None:
    trained, published = walk(build(name)), walk(build(f"{name}-v1"))
    assert [(row.name, row.params) for row in trained] == [(row.name, row.params) for row in published]
    moved = [ours.name for ours, theirs in zip(trained, published, strict=True) if ours.macs != theirs.macs]
    assert moved == [f"conv{stage}_x.block1.conv1" for stage in (3, 4, 5)]
