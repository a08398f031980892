"""Muon: momentum whose matrices are made orthogonal before they are added to the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks": the coefficients of a quintic whose slope at 0 is large,
# so that five applications carry singular values from 0.005 up to between 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal=True` learn by Muon, others by SGD with the same momentum; decay is decoupled in the former.

    With g the gradient and m the momentum's factor: b <- m b + g and, with Nesterov's momentum, u = g + m b, else u = b. A group's
    weights are seen as matrices of a row for each output: u is replaced by `orthogonalised(u)` times sqrt(max(1, rows / columns)), so that
    an update changes what the layer gives by an amount that depends on the rate alone.
    `fixed_norm`: before each step, a group's weights are scaled to the root of their number of filters as norm, which batch norm behind
    them does not see: the rate alone then says by what angle they turn (Jordan 2024, airbench's training with Muon).
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0, *, nesterov: bool = True
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, defaults | {"orthogonal": False, "fixed_norm": False, "differentiable": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change the weights by their gradients."""
        assert closure is None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients: list[Tensor] = [p.grad for p in weights]
            if not group["orthogonal"] and group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))  # noqa: SLF001 - all at once
            updates = self._momentum(group, weights, gradients)
            if group["orthogonal"]:
                if group["fixed_norm"]:
                    torch._foreach_mul_(weights, _to_norm(weights))
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                updates = [_as_step(update) for update in updates]
            torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _momentum(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        if not group["momentum"]:
            return gradients
        for weight, gradient in zip(weights, gradients, strict=True):
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(gradient)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        if not group["nesterov"]:
            return buffers
        return list(torch._foreach_add(gradients, buffers, alpha=group["momentum"]))  # noqa: SLF001 - all at once


def _to_norm(weights: list[Tensor]) -> list[Tensor]:
    """What each is multiplied with to have the root of its number of filters as its norm."""
    return [len(weight) ** 0.5 / norm for weight, norm in zip(weights, torch._foreach_norm(weights), strict=True)]  # noqa: SLF001


def _as_step(update: Tensor) -> Tensor:
    matrix = update.flatten(1)
    rows, columns = matrix.shape
    return orthogonalised(matrix).mul_(max(1.0, rows / columns) ** 0.5).view_as(update)


def orthogonalised(matrix: Tensor) -> Tensor:
    """U V^T for a matrix U S V^T, roughly: its singular values become 0.7 to 1.2, its singular vectors stay.

    [rows, columns] -> the same shape and type. On the matrix divided by its norm, ITERATIONS times x <- C x with C = a + b A + c A^2 and
    A = x x^T. All C and A are polynomials of the first A and commute, so the long x is only multiplied once: A <- C A C, and the product of
    the C is what x is multiplied with. Computed in float32 (float64 for float64): on a CPU without bfloat16 units, the long products in
    that type took up to fourteen times as long.
    """
    a, b, c = COEFFICIENTS
    x = matrix if matrix.dtype == torch.float64 else matrix.float()
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    gram, product = x @ x.T, None
    for number in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if number < ITERATIONS - 1:
            gram = factor @ gram @ factor
    assert product is not None
    x = product @ x
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    result: Tensor = x.to(matrix.dtype)
    return result
