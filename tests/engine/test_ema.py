"""The moving average against its recursion written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncli.engine.ema import Average
from cnncli.engine.fit import fit


@pytest.mark.parametrize("limit", [0.5, 0.999])
def test_the_recursion(limit: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).double()
    average = Average(model, limit)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert not any(p.requires_grad for p in average.model.parameters())
    for step in range(1, 30):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
            model(torch.randn(4, 2, 5, 5, dtype=torch.float64))  # moves the statistics
        average.update(model, step)
        decay = min(limit, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()
            torch.testing.assert_close(average.model.get_parameter(name), expected[name], rtol=1e-12, atol=1e-12)
        for name, buffer in model.named_buffers():
            assert torch.equal(average.model.get_buffer(name), buffer), "statistics are averages already"
    assert not average.model.training
    assert not torch.equal(average.model[0].weight, model[0].weight)


def test_it_is_what_is_judged_and_kept(model, make_loader, make_training) -> None:
    train, val = make_loader(30, batch_size=5, shuffle=True), make_loader(9, batch_size=9, key=1)
    training = make_training(model, train, epochs=2, ema=0.99)
    events = list(fit(training, train, val))
    assert training.judged is training.average.model
    batch = next(val.epoch(0))
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(training.average.model(batch.images), batch.labels).item()
    assert events[-2].val_loss == pytest.approx(loss, rel=1e-6)
    assert all(torch.equal(tensor, training.average.model.state_dict()[name]) for name, tensor in training.weights().items())
    assert not torch.equal(training.weights()["0.weight"], model[0].weight)


def test_training_is_the_same_with_and_without(make_model, make_loader, make_training) -> None:
    weights = []
    for ema in (0.0, 0.9):
        model, train = make_model(), make_loader(20, batch_size=8, shuffle=True)
        list(fit(make_training(model, train, epochs=2, ema=ema), train, None))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
