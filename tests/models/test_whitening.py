"""Whitening filters and identities as first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncli.errors import UsageError
from cnncli.models.whitening import SMALLEST, pass_on, whiten


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 3, 12, 12, generator=generator)
    mixed = torch.einsum("dc,nchw->ndhw", torch.tensor([[3.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 0.3]]), noise)
    return functional.avg_pool2d(mixed, 3, stride=1, padding=1) + 0.7


def test_outputs_have_unit_variance_and_no_correlation() -> None:
    net = nn.Sequential(nn.Conv2d(3, 24, 2), nn.ReLU())
    whiten(net, images())
    out = net[0](images()).detach().double().transpose(0, 1).flatten(1)
    half = out[:12]
    assert torch.allclose(out[12:], -half, atol=1e-5), "each filter has its negative"
    covariance = torch.cov(half)
    patches = functional.unfold(images(), 2).transpose(1, 2).reshape(-1, 12).double()
    variances = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0)).flip(0)
    assert torch.allclose(covariance.diagonal(), variances / (variances + SMALLEST), rtol=1e-3)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3
    assert half.mean(1).abs().max() < 1e-3


def test_it_is_frozen() -> None:
    net = nn.Sequential(nn.Conv2d(3, 24, 2))
    whiten(net, images())
    assert not net[0].weight.requires_grad
    assert not net[0].bias.requires_grad
    before = net[0].weight.clone()
    pass_on(net)
    assert torch.equal(net[0].weight, before)


def test_the_same_filters_whatever_sign_the_decomposition_has(monkeypatch) -> None:
    one, other = (nn.Sequential(nn.Conv2d(3, 24, 2)) for _ in range(2))
    whiten(one, images())
    plain = torch.linalg.eigh

    def mirrored(matrix):
        values, vectors = plain(matrix)
        return values, -vectors

    monkeypatch.setattr(torch.linalg, "eigh", mirrored)
    whiten(other, images())
    assert torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize(
    "net", [nn.Sequential(nn.Conv2d(3, 23, 2)), nn.Sequential(nn.Conv2d(3, 24, 2, groups=3)), nn.Sequential(nn.Linear(2, 2))]
)
def test_nets_it_does_not_fit(net) -> None:
    with pytest.raises(UsageError, match="--whiten needs"):
        whiten(net, images())


def test_passing_on() -> None:
    parts = (nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Conv2d(5, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 2))
    net = nn.Sequential(*parts, nn.Flatten(), nn.Linear(400, 64), nn.Linear(64, 1000))
    before = [parameter.clone() for parameter in net.parameters()]
    pass_on(net)
    x = torch.randn(2, 3, 6, 6)
    assert torch.allclose(net[0](x)[:, :3], x)
    y = torch.randn(2, 5, 6, 6)
    assert torch.allclose(net[1](y), y[:, :2])
    assert torch.equal(net[2].weight, before[2]), "an even kernel has no middle"
    assert torch.equal(net[4].weight, before[4]), "only the last layer starts small"
    assert net[5].weight.std().item() == pytest.approx(1 / 64, rel=0.02)


def test_what_is_random_is_outweighed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 200, 3, padding=1, bias=False))
    with torch.no_grad():
        net[0].weight.mul_(100)
    pass_on(net)
    norms = net[0].weight.flatten(1).norm(dim=1)
    assert torch.equal(norms[:3], torch.ones(3))
    assert norms[3:].mean().item() == pytest.approx(3**-0.5, rel=0.05)
