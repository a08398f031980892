"""Assembled models against forward functions written by hand from the papers, in float64."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncli.arch.blocks import Chain, Concat, Dense, Part, Residual, chain
from cnncli.arch.layers import Conv, Pool, SubsamplePad
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm, LocalResponseNorm
from cnncli.arch.zoo.table import build
from cnncli.models.assemble import assemble

GOLDEN = Path(__file__).parent.parent / "golden" / "state-dict-keys.json"
GOLDEN_NETS = (  # one of each way in which a family names its layers
    *("alexnet", "lenet5", "resnet20", "vgg11", "convnetjs-cifar10", "mlp", "alexnet-owt", "zfnet", "vgg11-bn", "googlenet-v1"),
    *("googlenet", "resnet18", "resnet50", "densenet121", "densenet-bc-100-12", "squeezenet1_1", "mobilenet_v2"),
)


def made(root: Part, shape: tuple[int, int, int] = (4, 7, 7)) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = assemble(Net("test", root, shape, 2)).double()
    return model, torch.randn(2, *shape, dtype=torch.float64)


def conv(x: torch.Tensor, model: nn.Module, path: str, **arguments: int) -> torch.Tensor:
    layer = model.get_submodule(path)
    return functional.conv2d(x, layer.weight, layer.bias, **arguments)


BODY = chain(conv1=Conv(4, kernel=3, padding=1), relu1=Activation("relu"), conv2=Conv(4, kernel=3, padding=1))


def test_residual_with_the_identity() -> None:
    model, x = made(Residual(BODY))
    inner = conv(conv(x, model, "conv1", padding=1).relu(), model, "conv2", padding=1)
    assert torch.allclose(model(x), (inner + x).relu(), atol=1e-12)


def test_residual_with_a_projection_and_nothing_after() -> None:
    body = chain(conv1=Conv(6, kernel=3, stride=2, padding=1))
    model, x = made(Residual(body, shortcut=Conv(6, kernel=1, stride=2), then=None))
    want = conv(x, model, "conv1", stride=2, padding=1) + conv(x, model, "shortcut", stride=2)
    assert torch.allclose(model(x), want, atol=1e-12)


def test_subsample_pad_is_option_a() -> None:
    """He et al. 2015, section 4.2: identity mapping, every second pixel, zeros for the new channels."""
    model, x = made(chain(shortcut=SubsamplePad(7, stride=2)))
    want = torch.zeros(2, 7, 4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            want[:, :4, i, j] = x[:, :, 2 * i, 2 * j]
    assert torch.equal(model(x), want)


def test_concat_keeps_the_order_of_its_branches() -> None:
    branches = (
        ("a", Conv(2, kernel=1)),
        ("b", chain(reduce=Conv(1, kernel=1), conv=Conv(3, kernel=3, padding=1))),
        ("c", Pool("max", kernel=3, stride=1, padding=1)),
    )
    model, x = made(Concat(branches))
    b = conv(conv(x, model, "b.reduce"), model, "b.conv", padding=1)
    want = torch.cat([conv(x, model, "a"), b, functional.max_pool2d(x, 3, 1, 1)], 1)
    assert torch.allclose(model(x), want, atol=1e-12)


def test_dense_reads_all_that_came_before() -> None:
    """Huang et al. 2016, equation 2: x_l = H_l([x_0, ..., x_(l-1)])."""
    model, x = made(Dense(tuple((f"layer{i}", Conv(2, kernel=3, padding=1)) for i in (1, 2, 3))))
    features = [x]
    for i in (1, 2, 3):
        features.append(conv(torch.cat(features, 1), model, f"layer{i}", padding=1))
    assert torch.allclose(model(x), torch.cat(features, 1), atol=1e-12)


def test_local_response_norm_is_the_formula_of_the_paper() -> None:
    """Krizhevsky et al. 2012, section 3.3: b_i = a_i / (k + alpha sum_{j=i-n/2}^{i+n/2} a_j^2)^beta."""
    n, alpha, beta, k = 5, 0.3, 0.75, 2.0
    model, x = made(chain(norm=LocalResponseNorm(size=n, alpha=alpha, beta=beta, k=k)), (8, 3, 3))
    want = torch.empty_like(x)
    for i in range(8):
        near = range(max(0, i - n // 2), min(7, i + n // 2) + 1)
        want[:, i] = x[:, i] / (k + alpha * sum(x[:, j] ** 2 for j in near)) ** beta
    assert torch.allclose(model(x), want, atol=1e-12)


MIXED = Chain(
    (
        ("relu0", Activation("relu")),  # reads the block's input, which belongs to the caller
        ("block", Residual(chain(conv1=Conv(4, kernel=3, padding=1), bn1=BatchNorm(), relu1=Activation("relu"), conv2=Conv(4, kernel=1)))),
        ("dense", Dense((("layer1", chain(bn=BatchNorm(), relu=Activation("relu"), conv=Conv(3, kernel=1))),))),
        ("relu2", Activation("relu")),
        ("relu3", Activation("relu")),
    )
)


def test_overwriting_never_changes_a_result_or_a_gradient() -> None:
    """The same weights with every activation out of place give the same output, gradients, and leave the input alone."""
    model, x = made(MIXED)
    inplace = [name for name, module in model.named_modules() if getattr(module, "inplace", False)]
    assert inplace == ["block.relu1", "block.out", "dense.layer1.relu"]
    twin, _ = made(MIXED)
    for module in twin.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    kept = x.clone()
    results = []
    for candidate in (model, twin):
        leaf = x.clone().requires_grad_()
        out = candidate(leaf)
        out.square().sum().backward()
        results.append([out, leaf.grad, *(p.grad for p in candidate.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    model(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("name", "path", "gain"),
    [
        ("vgg11", "conv3_1", math.sqrt(2)),
        ("resnet20", "stage1.block1.conv1", math.sqrt(2)),
        ("lenet5", "c5", 1.0),
        ("mlp", "fc1", math.sqrt(2)),
        ("lenet5", "f6", 1.0),
    ],
)
def test_initial_weights_keep_the_variance(name: str, path: str, gain: float) -> None:
    torch.manual_seed(0)
    layer = assemble(build(name, input=(3, 32, 32) if name == "vgg11" else None, classes=10)).get_submodule(path)
    want = gain / math.sqrt(layer.weight[0].numel())
    assert layer.weight.std().item() == pytest.approx(want, rel=0.06)
    assert layer.bias is None or not layer.bias.any()


def test_deep_plain_convolutions_neither_fade_nor_explode() -> None:
    parts = [
        (f"{kind}{i}", part) for i in range(30) for kind, part in (("conv", Conv(32, kernel=3, padding=1)), ("relu", Activation("relu")))
    ]
    model, _ = made(Chain(tuple(parts)), (32, 12, 12))
    x = torch.randn(8, 32, 12, 12, dtype=torch.float64)
    ratio = (model(x).square().mean() / x.square().mean()).item()
    assert 0.005 < ratio < 5  # zero padding costs a little in each of the thirty; torch's default would leave 1e-20


def test_the_seed_decides() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in assemble(build("lenet5")).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_golden_keys_of_saved_weights() -> None:
    """A renamed part breaks every saved model: these names are for ever."""
    with torch.device("meta"):
        keys = {name: list(assemble(build(name)).state_dict()) for name in GOLDEN_NETS}
    if os.environ.get("CNNCLI_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(keys, indent=1) + "\n")
    assert json.loads(GOLDEN.read_text()) == keys


def test_a_dense_block_does_not_overwrite_what_it_reads_again() -> None:
    """The ReLU's input is concatenated once more with its output, so it has to stay as it is."""
    model, x = made(Dense((("conv", Conv(2, kernel=1)), ("relu", Activation("relu")))))
    features = torch.cat([x, conv(x, model, "conv")], 1)
    assert torch.allclose(model(x), torch.cat([features, features.relu()], 1), atol=1e-12)


@pytest.mark.parametrize("count_padding", [True, False])
def test_average_pooling_counts_padding_when_told_to(count_padding: bool) -> None:
    model, x = made(chain(pool=Pool("average", kernel=3, stride=2, padding=1, count_padding=count_padding)))
    want = torch.empty(2, 4, 4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            window = x[:, :, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2]
            want[:, :, i, j] = window.sum((2, 3)) / (9 if count_padding else window[0, 0].numel())
    assert torch.allclose(model(x), want, atol=1e-12)


def test_batch_norm_is_the_formula_of_the_paper() -> None:
    """Ioffe & Szegedy 2015, algorithm 1, with a large epsilon; the running mean moves by the momentum towards the batch's."""
    eps, momentum = 0.5, 0.3
    model, x = made(chain(norm=BatchNorm(eps=eps, momentum=momentum)))
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    assert torch.allclose(model(x), (x - mean) / (variance + eps).sqrt(), atol=1e-12)
    assert torch.allclose(model.get_submodule("norm").running_mean, momentum * mean.flatten(), atol=1e-12)
