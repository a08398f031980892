"""The learning rate range test: what it suggests, and that nothing of the training to come changes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from cnncli.engine.distributed import World
from cnncli.engine.events import EpochDone
from cnncli.engine.fit import fit
from cnncli.engine.range_test import STEPS, range_test, suggested


def test_it_leaves_everything_as_it_was(make_model, make_loader, make_training) -> None:
    ends = []
    for tested in (False, True):
        model, train = make_model(), make_loader(30, batch_size=8, shuffle=True)
        training = make_training(make_model(), train, epochs=2)  # for its plan
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
        before = [tensor.clone() for tensor in model.state_dict().values()]
        if tested:
            found = range_test(model, training.plan, train, World())
            assert len(found.rates) == len(found.losses) == len(found.smoothed) <= STEPS
            assert found.rates[0] == pytest.approx(0.05 * 1e-4)
            assert all(a < b for a, b in zip(found.rates, found.rates[1:], strict=False))
        assert all(torch.equal(*pair) for pair in zip(before, model.state_dict().values(), strict=True))
        drawn = [torch.rand(1).item(), random.random(), np.random.random()]  # noqa: NPY002
        training = make_training(model, train, epochs=2)
        losses = [event.train_loss for event in fit(training, train, None) if isinstance(event, EpochDone)]
        ends.append((drawn, losses, [tensor.tolist() for tensor in model.state_dict().values()]))
    assert ends[0] == ends[1]


def test_it_ends_where_the_loss_explodes_and_suggests_less(model, make_loader, make_training) -> None:
    train = make_loader(60, batch_size=10, shuffle=True)
    plan = make_training(model, train, epochs=2).plan
    found = range_test(model, plan, train, World(), steps=60)
    assert found.suggested is not None
    assert found.rates[0] < found.suggested <= found.limit / 10 + 1e-12
    assert found.suggested <= found.steepest


def curve(rates: np.ndarray, best: float) -> list[float]:
    """Falls around best/30, is smallest at about `best`, and explodes beyond."""
    x = np.log10(rates / best)
    return list(2.3 - 2.0 / (1 + np.exp(-4 * (x + 1.5))) + np.where(x > 0, 10 * x**2, 0.0))


@pytest.mark.parametrize("best", [0.01, 0.3, 10.0])
def test_a_synthetic_curve(best: float) -> None:
    rates = best * np.logspace(-5, 1, 400)
    found = suggested(list(rates), curve(rates, best))
    assert found.limit == pytest.approx(best, rel=0.5)
    assert found.steepest == pytest.approx(best / 10**1.5, rel=0.5)
    assert found.suggested == min(found.steepest, found.limit / 10)


def test_smoothing_is_without_bias() -> None:
    assert suggested([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]).smoothed == pytest.approx((5, 5, 5))
    found = suggested([1.0, 2.0], [1.0, 2.0]).smoothed
    assert found == pytest.approx((1.0, (0.9 * 0.1 * 1 + 0.1 * 2) / (1 - 0.9**2)))


@pytest.mark.parametrize("losses", [[1.0] * 50, list(np.linspace(1, 9, 50)), [1.0] * 5, []])
def test_nothing_to_suggest(losses: list[float]) -> None:
    found = suggested(list(np.logspace(-4, 1, len(losses))), losses)
    assert (found.steepest, found.limit, found.suggested) == (None, None, None)
