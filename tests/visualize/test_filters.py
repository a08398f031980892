"""Filters as pictures: which, in what order, and how weights become grey levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import Layers, layers_of
from cnncli.errors import InputError, UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.filters import filters_of, grey_levels, one_scale


@pytest.fixture(scope="module")
def model() -> tuple[nn.Module, Layers]:
    torch.manual_seed(0)
    net = build("resnet20")
    made = assemble(net).eval()
    return made, layers_of(made, net.input)


@pytest.mark.parametrize(
    ("net", "shape"),
    [("alexnet-owt", (64, 3, 11, 11)), ("resnet18", (64, 3, 7, 7)), ("densenet121", (64, 3, 7, 7)), ("lenet5", (6, 1, 5, 5))],
)
def test_the_first_filters_of_the_lecture(net: str, shape: tuple[int, ...]) -> None:
    described = build(net)
    made = assemble(described).eval()
    found = filters_of(made, layers_of(made, described.input))
    assert found.shape == found.pictures.shape == shape
    assert found.show == "colour"
    first = next(module for module in made.modules() if isinstance(module, nn.Conv2d))
    assert np.array_equal(found.pictures, first.weight.detach().numpy())


def test_norms_and_channels_by_hand(model: tuple[nn.Module, Layers]) -> None:
    weights = model[0].get_submodule("stage1.block1.conv1").weight.detach().numpy()
    norms = filters_of(*model, layer="stage1.block1.conv1")
    assert norms.show == "norms"
    assert np.allclose(norms.pictures[5, 0, 1, 2], np.sqrt((weights[5, :, 1, 2] ** 2).sum()))
    assert np.allclose(norms.norms[5], np.linalg.norm(weights[5]))
    channels = filters_of(*model, layer="stage1.block1.conv1", number=3)
    assert channels.show == "channels"
    assert np.array_equal(channels.pictures[:, 0], weights[3])
    assert channels.numbers.tolist() == list(range(weights.shape[1]))


def test_the_strongest_first(model: tuple[nn.Module, Layers]) -> None:
    plain, ordered = (filters_of(*model, sort=sort) for sort in ("none", "norm"))
    assert (np.diff(ordered.norms) <= 0).all()
    assert sorted(ordered.numbers.tolist()) == plain.numbers.tolist()
    assert np.array_equal(ordered.pictures[0], plain.pictures[ordered.numbers[0]])


def test_grey_levels() -> None:
    pictures = np.array([[[[-2.0, 0.0, 1.0]]], [[[0.0, 0.0, 0.0]]]], dtype=np.float32)
    assert grey_levels(pictures, "colour")[:, 0, 0].tolist() == [[0, 128, 191], [128, 128, 128]]
    assert grey_levels(np.abs(pictures), "norms")[:, 0, 0].tolist() == [[255, 0, 128], [0, 0, 0]]


def test_kernels_of_one_position_share_a_scale() -> None:
    pictures = np.array([-2.0, 0.0, 1.0], dtype=np.float32)[:, None, None, None]
    assert grey_levels(pictures, "channels").flatten().tolist() == [0, 128, 191]
    assert grey_levels(np.abs(pictures), "norms").flatten().tolist() == [255, 0, 128]
    assert grey_levels(0 * pictures, "norms").flatten().tolist() == [0, 0, 0]
    assert one_scale(pictures)
    assert not one_scale(pictures.repeat(2, axis=3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"layer": "stage1.block1"}, "is no convolution; for example --layer stage1.block1"),
        ({"layer": "fc"}, "Linear is no convolution; for example --layer conv1"),
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"layer": "stage1.block1.conv1", "show": "colour"}, "16 input channels, which are no colours"),
        ({"layer": "conv1:input"}, "--layer conv1:input: the weights are the layer's, not of what it is given; --layer conv1$"),
        ({"layer": "fc:input"}, "Linear is no convolution; for example --layer conv1"),
        ({"layer": "conv1#9"}, "conv1 runs 1 time, and there is no run '9'; say conv1"),
        ({"show": "channels"}, "--show channels shows one filter; say which filter: --number 0 to 15"),
        ({"number": 16}, "there is no filter 16; --number 0 to 15"),
        ({"show": "norms", "number": 2}, "--number is for the input channels"),
    ],
)
def test_what_is_refused(model: tuple[nn.Module, Layers], words: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        filters_of(*model, **words)  # type: ignore[arg-type]


def test_a_run_names_the_same_weights(model: tuple[nn.Module, Layers]) -> None:
    plain, named = (filters_of(*model, layer=layer) for layer in ("conv1", "conv1#1"))
    assert named.layer == "conv1"
    assert np.array_equal(plain.pictures, named.pictures)


def test_nets_without_convolutions_and_without_numbers(model: tuple[nn.Module, Layers]) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="has no convolution"):
        filters_of(linear, layers_of(linear, (1, 2, 2)))
    net = build("lenet5")
    made = assemble(net)
    with torch.no_grad():
        next(made.parameters())[0] = float("inf")
    with pytest.raises(InputError, match="the weights of c1 are not finite"):
        filters_of(made, layers_of(made, net.input))
