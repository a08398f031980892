"""Cascading randomisation: which layers are random at which stage, and Spearman's rank correlation against scipy's and by hand."""

from __future__ import annotations

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import layers_of
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.randomise import cascade, check_fresh, randomised, rank_correlation, stages, weighted


def net_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = assemble(build("resnet20"))
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 32, 32))  # buffers that differ, too
    return model.eval()


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_exactly_the_lower_layers_are_still_the_trained_ones(steps: int) -> None:
    model, fresh = net_of(0), net_of(1)
    before = deepcopy(model.state_dict())
    order = weighted(model, layers_of(model, (3, 32, 32)))
    assert order[0] == "fc"
    assert "conv1" in order[-2:], "its batch norm runs behind it, and so before it from the top"
    at = stages(order, steps)
    assert (at[0].count, at[-1].count, at[-1].name) == (0, len(order), order[-1])
    assert len(at) == min(steps, len(order)) + 1
    for stage, state in zip(at, cascade(model, fresh, order, at), strict=True):
        drawn = set(order[: stage.count])
        assert stage.count == 0 or stage.name == order[stage.count - 1]
        for name, tensor in state.state_dict().items():
            wanted = fresh.state_dict() if name.rpartition(".")[0] in drawn else before
            assert torch.equal(tensor, wanted[name]), f"{name} at {stage}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "the model itself stays"


def test_what_never_runs_is_random_in_the_end_too() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spare, self.first, self.last = nn.Linear(2, 2), nn.Conv2d(1, 2, 1), nn.Linear(2, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.first(images).mean((2, 3)))
            return out

    model = Spare()
    assert weighted(model, layers_of(model, (1, 2, 2))) == ("last", "first", "spare")


def test_models_that_cannot_be_drawn_anew() -> None:
    model = net_of(0)
    with pytest.raises(UsageError, match="same weights when it is made again"):
        check_fresh(model, deepcopy(model))
    with pytest.raises(UsageError, match="its layers are others"):
        check_fresh(model, nn.Linear(2, 2))
    check_fresh(model, net_of(1))


def test_spearman_by_hand() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert rank_correlation(one, one**3).tolist() == [1.0], "ranks alone count"
    assert rank_correlation(one, -one).tolist() == [-1.0]
    swapped = torch.tensor([[[2.0, 1.0], [3.0, 4.0]]])
    assert rank_correlation(one, swapped).tolist() == pytest.approx([1 - 6 * 2 / (4 * 15)])  # 1 - 6 sum d^2 / (n (n^2 - 1))
    flat = torch.zeros(1, 2, 2)
    assert rank_correlation(one, flat).tolist() == [0.0]
    assert rank_correlation(flat, flat).tolist() == [1.0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=30))
def test_scipy_agrees(pairs: list[tuple[int, int]]) -> None:
    one, other = (torch.tensor(values, dtype=torch.float32)[None, None] for values in zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    if np.isfinite(theirs):
        assert rank_correlation(one, other)[0] == pytest.approx(theirs, abs=1e-9)


def test_stages_are_compared_with_the_trained_model() -> None:
    """A method that looks at one layer's weight, and one that looks at the image alone."""
    model, fresh = (nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Linear(6, 2)) for _ in range(2))
    order = weighted(model, layers_of(model, (1, 2, 3)))
    at = stages(order, 2)
    picture = torch.randn(1, 1, 6, 6)
    methods = {"weights": lambda state: state.get_parameter("1.weight")[None, None], "edges": lambda _: picture}
    heard: list[int] = []
    found = randomised(model, fresh, order, at, methods, on_progress=heard.append)
    assert heard == [1, 2, 3, 4, 5, 6]
    assert found.magnitudes["edges"].tolist() == [[1.0], [1.0], [1.0]]
    first, second = (one.get_parameter("1.weight").detach().flatten().numpy() for one in (model, fresh))
    assert found.signed["weights"][:, 0].tolist() == pytest.approx([1, 1, spearmanr(first, second).statistic])
    assert found.magnitudes["weights"][2, 0] == pytest.approx(spearmanr(abs(first), abs(second)).statistic)
    assert np.allclose(found.first["weights"][2], abs(second).reshape(6, 6))
