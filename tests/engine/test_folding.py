"""Folded batch norms: against loops, in every net of the zoo and of two libraries, and where nothing may be folded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cnncli.arch.zoo.table import build
from cnncli.engine.folding import copied, fold, norms
from cnncli.models.assemble import assemble


def living(model: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, its batch norms as after a training: no average is 0 and no variance 1."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean = 0.2 * torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3, generator=generator)
                nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return model.double().eval()


def same(model: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
    """The folded model, its scores equal to those of the model, which is as it was before."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    with torch.no_grad():
        wanted = model(images)
        folded, count = fold(model, images[:1])
        torch.testing.assert_close(folded(images), wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
        assert torch.equal(model(images), wanted)
    assert kinds == [type(module) for module in model.modules()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert norms(folded) == norms(model) - count
    return folded, count


@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_against_a_slow_version(affine: bool, bias: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 2, bias=bias), nn.BatchNorm2d(3, affine=affine, eps=0.1)
    model = living(nn.Sequential(conv, norm)).requires_grad_(False)
    folded, count = same(model, torch.randn(2, 2, 4, 4, dtype=torch.float64))
    assert count == 1
    assert isinstance(folded[1], nn.Identity)
    for f in range(3):
        gamma, beta = (float(norm.weight[f]), float(norm.bias[f])) if affine else (1.0, 0.0)
        deviation = (float(norm.running_var[f]) + 0.1) ** 0.5
        shift = float(conv.bias[f]) if bias else 0.0
        assert float(folded[0].bias[f]) == pytest.approx(beta + gamma * (shift - float(norm.running_mean[f])) / deviation, rel=1e-12)
        for c in range(2):
            for y in range(2):
                for x in range(2):
                    wanted = gamma * float(conv.weight[f, c, y, x]) / deviation
                    assert float(folded[0].weight[f, c, y, x]) == pytest.approx(wanted, rel=1e-12)


# Net: (its input, how many of its batch norms follow the one layer whose output they alone read). The others follow an addition, a
# concatenation, a pooling, or stand before their convolution.
ZOO_NETS = {
    "resnet20": (32, "all"),
    "vgg11-bn": (32, "all"),
    "mobilenet_v2": (32, "all"),
    "resnet18": (32, "all"),
    "googlenet": (64, "all"),
    "densenet121": (32, 59),
    "cifar-speed": (32, 3),
    "lenet5": (32, 0),
    "darts-v2": (32, "some"),
}


@pytest.mark.parametrize("name", [*list(ZOO_NETS)[:-1], pytest.param("darts-v2", marks=pytest.mark.slow)])
def test_the_zoo(name: str) -> None:
    side, expected = ZOO_NETS[name]
    torch.manual_seed(0)
    net = build(name, input=(1 if name == "lenet5" else 3, side, side), classes=5)
    model = living(assemble(net))
    _, count = same(model, torch.randn(2, *net.input, dtype=torch.float64))
    if expected == "some":
        assert 0 < count < norms(model)
    else:
        assert count == (norms(model) if expected == "all" else expected)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = living(models.get_model(name, weights=None, num_classes=5))
    _, count = same(model, torch.randn(2, 3, 64, 64, dtype=torch.float64))
    assert count == norms(model)


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "tf_efficientnet_lite0", "regnetx_002", "resnetv2_18"])
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = living(timm.create_model(name, pretrained=False, num_classes=5))
    _, count = same(model, torch.randn(2, 3, 64, 64, dtype=torch.float64))
    if name == "resnetv2_18":  # norms before the convolutions
        assert 0 < count < norms(model)
    else:
        assert count == norms(model)


class Read(nn.Module):
    """A convolution and a batch norm, run in a way of their own."""

    def __init__(self, run: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.run = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.conv, self.norm, images)


def twice(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    out = conv(x)
    return norm(out) + out


def twice_by_a_method(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    out = conv(x)
    return norm(out) * out.mean((2, 3), keepdim=True)


NEVER = {
    "the output is read twice": twice,
    "read twice, by a method": twice_by_a_method,
    "the convolution runs twice": lambda conv, norm, x: norm(conv(conv(x))),
    "the norm runs twice": lambda conv, norm, x: norm(norm(conv(x))),
    "something is between": lambda conv, norm, x: norm(functional.relu(conv(x))),
    "a view is between": lambda conv, norm, x: norm(conv(x).flip(3)),
    "changed in place": lambda conv, norm, x: norm(conv(x).mul_(2)),
    "the norm comes first": lambda conv, norm, x: conv(norm(x)),
    "a list of two": lambda conv, norm, x: torch.cat([y := conv(x), norm(y)], 1),
}


@pytest.mark.parametrize("run", list(NEVER.values()), ids=list(NEVER))
def test_what_is_never_folded(run: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    _, count = same(living(Read(run)), torch.randn(2, 2, 3, 3, dtype=torch.float64))
    assert count == 0


def test_sizes_may_be_asked_for() -> None:
    def run(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        out = conv(x)
        assert out.shape[1] == 2
        assert (out.dim(), out.size(0), out.dtype) == (4, len(x), torch.float64)
        return norm(out)

    assert same(living(Read(run)), torch.randn(2, 2, 3, 3, dtype=torch.float64))[1] == 1


class Standardised(nn.Conv2d):
    """Computes with other weights than it stores."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


@pytest.mark.parametrize(
    "conv",
    [
        Standardised(2, 2, 1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 1)),
        nn.utils.spectral_norm(nn.Conv2d(2, 2, 1)),
    ],
    ids=["subclass", "weight_norm", "spectral_norm", "old spectral_norm"],
)
def test_weights_that_are_made_anew(conv: nn.Module) -> None:
    """Not seen by a glance at the module's weight."""
    model = nn.Sequential(conv, nn.BatchNorm2d(2)).eval()
    made, count = fold(model, torch.randn(1, 2, 3, 3))
    assert count == 0
    images = torch.randn(2, 2, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(made(images), model(images))


def test_fully_connected() -> None:
    torch.manual_seed(0)
    model = living(nn.Sequential(nn.Flatten(), nn.Linear(8, 3, bias=False), nn.BatchNorm1d(3)))
    assert same(model, torch.randn(2, 2, 2, 2, dtype=torch.float64))[1] == 1
    rows = living(nn.Sequential(nn.Flatten(2), nn.Linear(4, 3), nn.BatchNorm1d(3)))  # normalises the rows, of which there are three, too
    assert same(rows, torch.randn(2, 3, 2, 2, dtype=torch.float64))[1] == 0


def test_statistics_of_the_batch_are_not_fixed() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).double().eval()
    assert same(model, torch.randn(2, 2, 3, 3, dtype=torch.float64))[1] == 0


def test_a_norm_with_two_names() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
            self.names = nn.ModuleDict({"norm": self.norm})

        def forward(self, images: Tensor) -> Tensor:
            return self.names["norm"](self.conv(images))

    folded, count = same(living(Both()), torch.randn(2, 2, 3, 3, dtype=torch.float64))
    assert (count, norms(folded)) == (1, 0)


@given(channels=st.integers(1, 4), kernel=st.integers(1, 3), groups=st.sampled_from([1, 2]), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_any_convolution(channels: int, kernel: int, groups: int, seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(2 * channels, 2 * channels, kernel, groups=groups, padding=1, stride=2, bias=seed % 2 == 0)
    model = living(nn.Sequential(conv, nn.BatchNorm2d(2 * channels), nn.ReLU(inplace=True)))
    assert same(model, torch.randn(2, 2 * channels, 5, 6, dtype=torch.float64))[1] == 1


def test_a_copy_shares_tensors() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).train()
    made = copied(model)
    assert all(a is b for a, b in zip(model.parameters(), made.parameters(), strict=True))
    assert not made.training
    assert model.training
