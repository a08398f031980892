"""What is not finite: a step is left out whole, a few in a row end the training, and no such epoch is the best."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncli.engine import fit as fit_module
from cnncli.engine.events import EpochDone, Progress
from cnncli.engine.fit import NotFinite, fit
from cnncli.errors import CnnError, ExitCode


class Spoilt:
    """A loader with images that are not finite in some batches of the first epoch, counted from 0."""

    def __init__(self, loader, batches: set[int], value: float = float("inf")) -> None:
        self.loader, self.batches, self.value, self.count = loader, batches, value, loader.count
        self.given: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, start: int = 0):
        for place, batch in enumerate(self.loader.epoch(number, start), start=start):
            self.given.append(batch.indices.tolist())
            if number == 1 and place in self.batches:
                batch.images[0, 0, 0, 0] = self.value
            yield batch


def tensors(training) -> dict[str, torch.Tensor]:
    """All that a step may change."""
    return {name: tensor.clone() for name, tensor in training.state()[1].items() if not name.startswith(("sums.", "random."))}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adamw", "clip_grad": 0.0}, {"optimizer": "muon", "ema": 0.9}, {"accumulate": 2}], ids=str
)
def test_a_bad_step_changes_nothing_and_is_counted(settings, value: float, model, make_loader, make_training) -> None:
    """Not the weights, nor what the optimizer remembers, nor the statistics of batch norm, which the forward pass changes."""
    loader = Spoilt(make_loader(24, batch_size=8, shuffle=True), {1}, value)
    training = make_training(model, loader, epochs=1, **settings)
    model.train()
    batches = list(loader.epoch(1))
    training.step(batches[0])
    before = tensors(training)
    loss = float(training.sums.loss)
    training.step(batches[1])
    after = tensors(training)
    for name, tensor in before.items():
        if not name.endswith("num_batches_tracked") and not name.startswith("average."):
            assert torch.equal(tensor, after[name]), name
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    sums = training.sums
    assert (int(sums.skipped), int(sums.in_a_row), int(sums.counted), sums.images) == (1, 1, 8, 16)
    assert float(sums.loss) == loss
    training.step(batches[2])
    assert (int(sums.skipped), int(sums.in_a_row), int(sums.counted), sums.images) == (1, 0, 16, 24)
    assert any(not torch.equal(tensor, tensors(training)[name]) for name, tensor in before.items())


def test_a_single_one_is_survived(model, make_loader, make_training) -> None:
    train = Spoilt(make_loader(40, batch_size=4, shuffle=True), {1, 2, 5, 6})
    events = list(fit(make_training(model, train, epochs=2), train, make_loader(9, batch_size=4, key=1)))
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [done.skipped for done in epochs] == [4, 0]
    assert [done.step for done in epochs] == [10, 20]


@pytest.mark.parametrize("first", [0, 4, 7])
def test_three_in_a_row_end_it(first: int, model, make_loader, make_training) -> None:
    train = Spoilt(make_loader(40, batch_size=4, shuffle=True), {first, first + 1, first + 2})
    found = []
    with pytest.raises(NotFinite, match=rf"^loss or gradient is not finite at epoch 1 step {first + 3} \(lr ") as caught:
        found.extend(fit(make_training(model, train, epochs=2), train, None))
    assert caught.value.indices.tolist() == train.given[first + 2]
    assert caught.value.code == ExitCode.FAILED
    assert "--lr" in caught.value.hint
    assert not [event for event in found if isinstance(event, EpochDone)]


def test_keep_going_skips_and_counts(model, make_loader, make_training) -> None:
    train = Spoilt(make_loader(40, batch_size=4, shuffle=True), {3, 4, 5, 6})
    events = list(fit(make_training(model, train, epochs=1, keep_going=True), train, make_loader(9, batch_size=4, key=1)))
    assert events[-2].skipped == 4
    assert [event for event in events if isinstance(event, Progress)][-1].skipped == 4
    assert events[-1].best.val_loss is not None


@pytest.mark.parametrize("monitor", ["val_accuracy", "train_loss"])
def test_an_epoch_without_a_good_step_is_no_epoch(monitor: str, model, make_loader, make_training) -> None:
    """Its mean loss would be 0, the best of all."""
    train = Spoilt(make_loader(12, batch_size=4, shuffle=True), {0, 1, 2})
    with pytest.raises(CnnError, match="loss or gradient of every step was not finite after epoch 1"):
        list(fit(make_training(model, train, epochs=2, keep_going=True, monitor=monitor), train, None))


def test_a_rate_far_too_high_ends_it(model, make_loader, make_training) -> None:
    train = make_loader(40, batch_size=2, shuffle=True)
    found = []
    with pytest.raises(CnnError, match=r"at epoch 1 step \d+ \(lr |not finite after epoch 1") as caught:
        found.extend(fit(make_training(model, train, epochs=5, lr=1e9, warmup=0.0), train, None))
    assert caught.value.code == ExitCode.FAILED
    assert "--lr" in caught.value.hint
    assert not [event for event in found if isinstance(event, EpochDone)], "no epoch is called done, so nothing is saved"


def test_a_loss_that_grows_without_end(make_loader, make_training, monkeypatch) -> None:
    monkeypatch.setattr(fit_module, "SECONDS_BETWEEN_PROGRESS", 0.0)
    torch.manual_seed(0)
    train = make_loader(40, batch_size=4, shuffle=True)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    training = make_training(net, train, epochs=3, lr=1e4, warmup=0.0, schedule="constant")
    with pytest.raises(NotFinite, match=r"^loss is [\d.e+]+, [\d.e+]+ times that of guessing, at epoch 1 step \d+ \(lr 1e\+04\)") as caught:
        list(fit(training, train, None))
    assert len(caught.value.indices) == 4


class SpoiltInEvaluation(nn.Module):
    """Finite in training, not in evaluation, from the second epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.judged = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.judged += not self.training
        spoil = float("nan") if self.judged > 1 else 1.0
        return self.weight.expand(len(images), 3) * (1.0 if self.training else spoil)


def test_not_finite_in_validation_alone(make_loader, make_training) -> None:
    train, found = make_loader(6, batch_size=3), []
    training = make_training(SpoiltInEvaluation(), train, epochs=5)
    with pytest.raises(CnnError, match=r"validation loss is not finite after epoch 2") as caught:
        for event in fit(training, train, make_loader(3, batch_size=3, key=1)):
            found.append(event)
    assert caught.value.code == ExitCode.FAILED
    assert [event.epoch for event in found if isinstance(event, EpochDone)] == [1]
    assert training.best().epoch == 1


@pytest.mark.parametrize("with_val", [False, True])
def test_weights_spoilt_by_the_last_step(with_val: bool, make_loader, make_training) -> None:
    """One step an epoch: the loss was finite before it, the weights are not after it. No such model may be called the best."""

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = self.weight.expand(len(images), 3)
            return scores + (scores - scores.detach()) * 1e30  # the same scores with a gradient of 1e30

    val = make_loader(3, batch_size=3, key=1) if with_val else None
    train, found = make_loader(4, batch_size=4), []
    training = make_training(Steep(), train, epochs=1, lr=1e9, warmup=0.0, clip_grad=0.0, momentum=0.0)
    with pytest.raises(CnnError, match=r"weights are not finite after epoch 1|every step"):
        for event in fit(training, train, val):
            found.append(event)
    assert not [event for event in found if isinstance(event, EpochDone)]
