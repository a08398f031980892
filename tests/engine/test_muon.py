"""Muon against singular value decompositions, torch's own orthogonalisation, and a slow re-implementation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncli.engine.config import OptimConfig
from cnncli.engine.muon import Muon, orthogonalised
from cnncli.engine.optim import make_optimizer, set_rate, update

SHAPES = [(4, 4), (3, 8), (8, 3), (16, 27), (64, 9), (1, 5), (5, 1)]


def spread(rows: int, columns: int) -> torch.Tensor:
    """A random matrix with singular values from 0.05 to 1 times its norm's scale, as momenta have them."""
    torch.manual_seed(rows * 100 + columns)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, dtype=torch.float64), full_matrices=False)
    values = torch.linspace(0.05, 1.0, min(rows, columns), dtype=torch.float64)
    return 17.0 * (left * values) @ right


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_singular_values_become_1_roughly_and_vectors_stay(rows: int, columns: int) -> None:
    matrix = spread(rows, columns)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    assert found.shape == matrix.shape
    assert found.dtype == torch.float64
    values = left.T @ found @ right.T  # diagonal, where the singular vectors are the same
    assert float((values - torch.diag(values.diagonal())).abs().max()) < 1e-12
    assert float(values.diagonal().min()) > 0.65
    assert float(values.diagonal().max()) < 1.25
    exact = left @ right
    assert float((found * exact).sum() / (found.norm() * exact.norm())) > 0.97


def test_scale_does_not_matter_and_zero_stays() -> None:
    matrix = spread(6, 9)
    torch.testing.assert_close(orthogonalised(1e-4 * matrix), orthogonalised(1e4 * matrix), rtol=1e-8, atol=1e-10)
    assert not orthogonalised(torch.zeros(3, 4)).any()


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_it_is_the_iteration_as_written_and_torchs_own(rows: int, columns: int) -> None:
    module = pytest.importorskip("torch.optim._muon")
    matrix = spread(rows, columns)
    kept = matrix.clone()
    torch.testing.assert_close(orthogonalised(matrix), slow_iteration(matrix), rtol=1e-9, atol=1e-10)
    assert torch.equal(matrix, kept)
    found = orthogonalised(matrix.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, slow_iteration(matrix).float(), rtol=1e-3, atol=1e-4)
    theirs = module._zeropower_via_newtonschulz(matrix.float(), (3.4445, -4.7750, 2.0315), 5, 1e-7)  # in bfloat16
    torch.testing.assert_close(found, theirs.float(), rtol=0.1, atol=0.03)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_step_on_matrices_is_torchs_own(nesterov: bool) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch < 2.9 has no Muon")
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    pairs = []
    for rows, columns in ((6, 9), (9, 6)):
        torch.manual_seed(rows)
        start, gradients = torch.randn(rows, columns), torch.randn(4, rows, columns)
        own, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        mine = Muon([{"params": [own], "orthogonal": True}], **settings, nesterov=nesterov)
        theirs = torch.optim.Muon([other], **settings, nesterov=nesterov, adjust_lr_fn="original")
        for gradient in gradients:
            own.grad, other.grad = gradient.clone(), gradient.clone()
            mine.step()
            theirs.step()
        pairs.append((own, other))
    for own, other in pairs:
        # torch adds the momentum up as a mean, (1 - m) g, which orthogonalisation does not see but bfloat16's rounding does.
        torch.testing.assert_close(own, other, rtol=0, atol=4 * 0.02 * 0.05)


def slow_iteration(x: torch.Tensor) -> torch.Tensor:
    """Jordan et al. 2024, as written: X <- a X + b (X X^T) X + c (X X^T)^2 X."""
    x = x / x.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("fixed_norm", [True, False])
def test_whole_steps_against_a_slow_version(nesterov: bool, momentum: float, fixed_norm: bool) -> None:
    def made() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 20, 1), nn.Flatten(), nn.Linear(20, 3)).double()

    config = OptimConfig(
        optimizer="muon", lr=0.03, other_lr=0.2, momentum=momentum, other_momentum=0.5, weight_decay=0.1, bias_lr_factor=2.0,
        nesterov=nesterov, fixed_norm=fixed_norm,
    )  # fmt: skip
    own, twin = made(), made()
    optimizer = make_optimizer(own, config)
    assert isinstance(optimizer, Muon)
    buffers = {name: torch.zeros_like(p) for name, p in twin.named_parameters()}
    for number, share in enumerate((0.5, 1.0, 0.25, 0.75)):
        torch.manual_seed(number)
        images, labels = torch.randn(6, 2, 3, 3, dtype=torch.float64), torch.randint(0, 3, (6,))
        for model in (own, twin):
            model.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
        assert set_rate(optimizer, share) == pytest.approx(0.03 * share)
        update(optimizer)
        with torch.no_grad():
            for name, p in twin.named_parameters():
                filters = p.ndim == 4
                g = p.grad if filters or p.ndim == 1 else p.grad + 0.1 * p
                m = momentum if filters else 0.5
                buffers[name] = m * buffers[name] + g
                u = g + m * buffers[name] if nesterov else buffers[name]
                if filters:
                    rows, columns = len(p), p[0].numel()
                    if fixed_norm:
                        p *= rows**0.5 / p.square().sum().sqrt()
                    p *= 1 - 0.03 * share * 0.1
                    p -= 0.03 * share * max(1, rows / columns) ** 0.5 * slow_iteration(u.reshape(rows, columns)).reshape(p.shape)
                else:
                    p -= (0.4 if name.endswith("bias") else 0.2) * share * u
    for (name, one), two in zip(own.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10, msg=name)


def test_which_weights_are_orthogonal() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(5, 3))
    optimizer = make_optimizer(model, OptimConfig(optimizer="muon"))
    orthogonal = [p for group in optimizer.param_groups if group["orthogonal"] for p in group["params"]]
    assert len(orthogonal) == 1
    assert orthogonal[0] is model[1].weight, "a depthwise filter is no matrix between channels"
    assert [group["peak"] for group in optimizer.param_groups] == [0.05, 0.05, 0.02], "weights, biases, filters"


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_rest_is_torchs_sgd(nesterov: bool) -> None:
    def made() -> nn.Module:
        torch.manual_seed(1)
        return nn.Linear(4, 3).double()

    own, other = made(), made()
    mine = make_optimizer(own, OptimConfig(optimizer="muon", weight_decay=0.2, decay_all=True, nesterov=nesterov))
    theirs = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9, weight_decay=0.2, nesterov=nesterov)
    for number in range(4):
        torch.manual_seed(number)
        images = torch.randn(5, 4, dtype=torch.float64)
        for model, optimizer in ((own, mine), (other, theirs)):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(own.weight, other.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.bias, other.bias, rtol=1e-12, atol=1e-12)
