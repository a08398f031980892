"""The training loop: which events, in which order, with which numbers; and what it does not do."""

from __future__ import annotations

import copy
import inspect
from math import isfinite

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncli.data.augment import Augment
from cnncli.engine import fit as fit_module
from cnncli.engine.config import MONITORS
from cnncli.engine.events import EpochDone, Finished, Progress, Started
from cnncli.engine.fit import fit
from cnncli.engine.loss import Loss
from cnncli.engine.schedule import rate
from cnncli.engine.validation import Validation


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def epochs_of(events) -> list[EpochDone]:
    return [event for event in events if isinstance(event, EpochDone)]


def test_fit_is_a_generator_that_waits(model, make_loader, make_training) -> None:
    train = make_loader(20, batch_size=8, shuffle=True)
    training = make_training(model, train, epochs=1)
    before = state(model)
    events = fit(training, train, None)
    assert inspect.isgenerator(events)
    assert next(events) == Started(epochs=1, steps=3, minutes=None, steps_per_epoch=3, train_images=20, val_images=0)
    assert same(state(model), before), "nothing is trained before the first event has been read"
    events.close()


def test_events_in_order_and_nothing_printed(model, make_loader, make_training, capsys, monkeypatch) -> None:
    monkeypatch.setattr(fit_module, "SECONDS_BETWEEN_PROGRESS", 0.0)
    train = make_loader(20, batch_size=8, shuffle=True)
    events = list(fit(make_training(model, train, epochs=3), train, make_loader(9, batch_size=4, key=1)))
    assert capsys.readouterr() == ("", "")
    assert [type(event) for event in events] == [Started, *(3 * [Progress, Progress, Progress, EpochDone]), Finished]
    assert events[0] == Started(3, 9, None, 3, 20, 9)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(event.epoch, event.step) for event in progress] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3)]
    assert [event.done for event in progress] == pytest.approx([n / 9 for n in range(1, 10)])
    epochs = epochs_of(events)
    assert [(event.epoch, event.step) for event in epochs] == [(1, 3), (2, 6), (3, 9)]
    for event in epochs:
        assert isfinite(event.train_loss)
        for value in (event.train_accuracy, event.val_accuracy, event.val_top5, event.val_macro_f1, event.val_balanced_accuracy):
            assert 0 <= value <= 1
        assert event.seconds > 0
        assert event.images_per_second > 0
        assert event.skipped == 0
    last_progress = [event for event in progress if event.epoch == 2][-1]
    assert (last_progress.loss, last_progress.accuracy) == (epochs[1].train_loss, epochs[1].train_accuracy)
    assert last_progress.lr == epochs[1].lr
    assert events[-1].best in epochs
    assert events[-1].best.best
    assert events[-1].reason == ""
    assert events[-1].seconds >= sum(event.seconds for event in epochs)


def test_the_last_step_of_an_epoch_is_always_told(model, make_loader, make_training) -> None:
    train = make_loader(20, batch_size=8, shuffle=True)
    events = list(fit(make_training(model, train, epochs=2), train, None))
    assert [(event.epoch, event.step) for event in events if isinstance(event, Progress)][-1] == (2, 3)
    assert (1, 3) in [(event.epoch, event.step) for event in events if isinstance(event, Progress)]


def test_the_numbers_are_those_of_a_plain_loop(model, make_loader, make_training) -> None:
    """The loop written out, with torch's own optimizer, gives the same weights and the same means."""
    loader = make_loader(20, batch_size=8, shuffle=True)
    twin = copy.deepcopy(model)
    training = make_training(model, loader, epochs=2, batch_size=8, lr=0.02, label_smoothing=0.1, clip_grad=1.0, seed=5)
    training.plan.loss = Loss(0.1)
    events = list(fit(training, loader, None))
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in twin.parameters() if p.ndim > 1], "weight_decay": 5e-4},
            {"params": [p for p in twin.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    step = clipped = 0
    for epoch in (1, 2):
        twin.train()
        losses, hits = 0.0, 0
        for batch in loader.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * rate(step, 6, training.plan.optim)
            step += 1
            scores = twin(batch.images)
            loss = functional.cross_entropy(scores, batch.labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            norm = sum(float((p.grad**2).sum()) for p in twin.parameters()) ** 0.5
            clipped += norm > 1.0
            for p in twin.parameters():
                p.grad *= min(1.0, 1.0 / norm)
            optimizer.step()
            losses += loss.item() * len(batch.labels)
            hits += int((scores.argmax(1) == batch.labels).sum())
        done = epochs_of(events)[epoch - 1]
        assert done.train_loss == pytest.approx(losses / 20, rel=1e-5)
        assert done.train_accuracy == hits / 20
        assert done.lr == pytest.approx(optimizer.param_groups[0]["lr"])
    assert 0 < clipped < step, "only some of the steps are to be clipped"
    for name, tensor in state(model).items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_training_on_mixed_batches_is_a_plain_loop_on_them(make_loader, make_training) -> None:
    """Loss by both labels, accuracy by the image's own."""

    def made() -> tuple[nn.Module, object]:
        torch.manual_seed(0)
        loader = make_loader(20, batch_size=8, shuffle=True)
        loader.augment = Augment(flip=False, mixup=0.8, cutmix=1.0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), loader

    model, loader = made()
    training = make_training(model, loader, epochs=2, lr=0.02, momentum=0.0, weight_decay=0.0, clip_grad=0.0, loss=Loss(0.1))
    events = epochs_of(fit(training, loader, None))
    twin, loader = made()
    step = 0
    for done in events:
        losses, hits = 0.0, 0
        for batch in loader.epoch(done.epoch):
            assert batch.mixed is not None
            scores = twin(batch.images)
            share = batch.mixed.weight[:, None]
            wanted = share * functional.one_hot(batch.labels, 3) + (1 - share) * functional.one_hot(batch.mixed.labels, 3)
            loss = functional.cross_entropy(scores, wanted, label_smoothing=0.1)
            twin.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in twin.parameters():
                    p -= 0.02 * rate(step, 6, training.plan.optim) * p.grad
            step += 1
            losses += loss.item() * len(batch.labels)
            hits += int((scores.argmax(1) == batch.labels).sum())
        assert done.train_loss == pytest.approx(losses / 20, rel=1e-5)
        assert done.train_accuracy == hits / 20
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_it_learns(optimizer: str, model, make_loader, make_training) -> None:
    train = make_loader(60, batch_size=10, shuffle=True)
    events = list(fit(make_training(model, train, epochs=15, optimizer=optimizer, lr=0.02), train, make_loader(30, batch_size=7, key=1)))
    assert events[-1].best.val_accuracy == 1.0


def test_same_seed_same_weights(make_loader, make_training) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3))
        train = make_loader(20, batch_size=8, shuffle=True, seed=seed)
        list(fit(make_training(net, train, epochs=2, seed=seed), train, None))
        return state(net)

    assert same(trained(1), trained(1))
    assert not same(trained(1), trained(2))


@pytest.mark.parametrize("views", ["none", "shifts"])
def test_validation_does_not_change_training(views: str, make_model, make_loader, make_training) -> None:
    def trained(val: object) -> dict[str, torch.Tensor]:
        net, train = make_model(), make_loader(20, batch_size=8, shuffle=True)
        list(fit(make_training(net, train, epochs=2, tta=views), train, val))
        return state(net)

    assert same(trained(None), trained(make_loader(9, batch_size=4, key=1)))


SCRIPT = {"loss": 1.0, "accuracy": 0.5, "top5": 0.5, "macro_f1": 0.5, "balanced_accuracy": 0.5}


@pytest.fixture
def scripted(make_loader, make_training, monkeypatch):
    """scripted([{"accuracy": 0.3}, {}], monitor="val_loss"): the events of a training whose validations give these, an epoch each."""

    def run(script: list[dict[str, float]], **settings):
        rows = iter(script)
        monkeypatch.setattr(fit_module, "validate", lambda *_, **__: Validation(**(SCRIPT | next(rows))))
        train = make_loader(4, batch_size=2, shuffle=True)
        settings = {"epochs": len(script)} | settings
        return list(fit(make_training(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), train, **settings), train, train))

    return run


def test_best_is_by_accuracy_then_loss_then_the_later(scripted) -> None:
    low, high, right = {"loss": 1.0}, {"loss": 2.0}, {"loss": 50.0, "accuracy": 0.6}
    assert [done.best for done in epochs_of(scripted([high, low, high]))] == [True, True, False]
    assert [done.best for done in epochs_of(scripted([low, high, low]))] == [True, False, True]
    assert [done.best for done in epochs_of(scripted([low, low]))] == [True, True]
    events = scripted([low, right, low])
    assert [done.best for done in epochs_of(events)] == [True, True, False]
    assert events[-1].best.epoch == 2


@pytest.mark.parametrize("monitor", [monitor for monitor in MONITORS if monitor.startswith("val_")])
def test_best_is_by_what_is_monitored(monitor: str, scripted) -> None:
    field = monitor.removeprefix("val_")
    worse, better = (0.9, 0.1) if field == "loss" else (0.1, 0.9)
    other = {"loss": 5.0, "accuracy": 0.99, "top5": 0.99, "macro_f1": 0.99, "balanced_accuracy": 0.99}
    events = scripted([{field: better}, other | {field: worse}, {field: worse}], monitor=monitor)
    assert events[-1].best.epoch == 1
    assert [done.best for done in epochs_of(events)] == [True, False, False]


@pytest.mark.parametrize("monitor", ["train_loss", "train_accuracy"])
def test_figures_of_training_need_no_validation(monitor: str, make_loader, make_training) -> None:
    torch.manual_seed(0)
    train = make_loader(30, batch_size=3, shuffle=True)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.7), nn.Linear(36, 3))
    epochs = epochs_of(fit(make_training(net, train, monitor=monitor, epochs=8, lr=1e-6), train, None))  # what differs is by chance
    best = None
    for done in epochs:
        rank = (-done.train_loss,) if monitor == "train_loss" else (done.train_accuracy, -done.train_loss)
        assert done.best == (best is None or rank >= best)
        best = rank if done.best else best
    assert not all(done.best for done in epochs), "some epoch is to be worse than one before it"


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
def test_without_validation_the_last_epoch_is_best(monitor: str, model, make_loader, make_training) -> None:
    train = make_loader(20, batch_size=8, shuffle=True)
    events = list(fit(make_training(model, train, epochs=3, monitor=monitor, patience=1), train, None))
    assert [event.best for event in epochs_of(events)] == [True, True, True]
    assert events[-1].best.epoch == 3
    assert events[-1].best.val_loss is None
    assert events[-1].best.val_accuracy is None


def test_patience(scripted) -> None:
    rows = [{"accuracy": value} for value in (0.3, 0.5, 0.4, 0.45, 0.49, 0.9)]
    events = scripted(rows, patience=3)
    assert [done.epoch for done in epochs_of(events)] == [1, 2, 3, 4, 5]
    assert events[-1].reason == "no better val_accuracy in 3 validations"
    assert events[-1].best.epoch == 2
    assert [done.epoch for done in epochs_of(scripted(rows, patience=4))] == [1, 2, 3, 4, 5, 6]
    assert [done.epoch for done in epochs_of(scripted([{"accuracy": 0.3}, {"accuracy": 0.2}], patience=1))] == [1, 2]


def test_patience_counts_validations(scripted) -> None:
    """Every second epoch has one; the first to be judged is the second."""
    events = scripted([{"accuracy": value} for value in (0.5, 0.4, 0.3, 0.9)], epochs=8, validate_every=2, patience=2)
    assert [done.epoch for done in epochs_of(events)] == [1, 2, 3, 4, 5, 6]
    assert [done.val_accuracy for done in epochs_of(events)] == [None, 0.5, None, 0.4, None, 0.3]
    assert [done.best for done in epochs_of(events)] == [True, True, False, False, False, False]
    assert events[-1].best.epoch == 2


def test_validate_every_and_the_last(scripted) -> None:
    events = scripted([{}, {}, {}], epochs=5, validate_every=2)
    assert [done.val_loss for done in epochs_of(events)] == [None, 1.0, None, 1.0, 1.0]


def test_steps_end_within_an_epoch(model, make_loader, make_training) -> None:
    train, val = make_loader(40, batch_size=8, shuffle=True), make_loader(9, batch_size=4, key=1)
    training = make_training(model, train, steps=7, validate_every=100)
    events = list(fit(training, train, val))
    assert events[0] == Started(2, 7, None, 5, 40, 9)
    assert [(done.epoch, done.step) for done in epochs_of(events)] == [(1, 5), (2, 7)]
    assert [done.val_loss is None for done in epochs_of(events)] == [True, False]
    assert isinstance(events[-1], Finished)
    assert events[-1].best.epoch == 2
    assert epochs_of(events)[1].lr == pytest.approx(0.05 * rate(6, 7, training.plan.optim))


def test_steps_of_whole_epochs_are_the_epochs(make_model, make_loader, make_training) -> None:
    weights = []
    for settings in ({"steps": 6}, {"epochs": 2}):
        model, train = make_model(), make_loader(20, batch_size=8, shuffle=True)
        list(fit(make_training(model, train, **settings), train, None))
        weights.append(state(model))
    assert same(*weights)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


def test_minutes_end_it_and_validation_does_not_count(model, make_loader, make_training, monkeypatch) -> None:
    clock = Clock()
    monkeypatch.setattr(fit_module.time, "perf_counter", clock.perf_counter)
    real = fit_module.validate

    def slow_validation(*args, **settings):
        clock.now += 1000
        return real(*args, **settings)

    monkeypatch.setattr(fit_module, "validate", slow_validation)
    train, val = make_loader(40, batch_size=8, shuffle=True), make_loader(9, batch_size=4, key=1)
    training = make_training(model, train, minutes=1.0, warmup=0.2)
    step, rates = training.step, []

    def slow_step(*args, **settings):
        step(*args, **settings)
        rates.append(training.lr)
        clock.now += 9  # the seventh begins at 54 seconds

    training.step = slow_step
    events = list(fit(training, train, val))
    assert events[0] == Started(None, None, 1.0, 5, 40, 9)
    assert [(done.epoch, done.step) for done in epochs_of(events)] == [(1, 5), (2, 7)]
    assert all(done.val_loss is not None for done in epochs_of(events))
    assert [done.seconds for done in epochs_of(events)] == pytest.approx([45, 18])
    assert training.position.seconds == pytest.approx(63)
    assert rates[-1] < rates[-2] < max(rates), "the rate falls with the time"
    assert events[-1].seconds == pytest.approx(2063)


def test_class_weights_are_in_the_loss_but_not_in_validation(make_loader, make_training) -> None:
    losses = []
    for weights in (None, torch.tensor([1.0, 5.0, 0.2])):
        torch.manual_seed(0)
        net, train = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), make_loader(9, batch_size=9)
        training = make_training(net, train, epochs=1, loss=Loss(weights=weights), lr=1e-12)
        done = epochs_of(fit(training, train, make_loader(9, batch_size=9, key=1)))[0]
        losses.append((done.train_loss, done.val_loss))
    assert losses[0][0] != pytest.approx(losses[1][0])
    assert losses[0][1] == pytest.approx(losses[1][1], rel=1e-6)


def test_batches_that_a_stream_lost_count_as_steps(model, make_loader, make_training) -> None:
    train = make_loader(40, batch_size=8, shuffle=True)
    whole = train.epoch
    train.epoch = lambda number, start=0: (batch for place, batch in enumerate(whole(number, start)) if place < 3)
    epochs = epochs_of(fit(make_training(model, train, epochs=2), train, None))
    assert [(done.epoch, done.step) for done in epochs] == [(1, 5), (2, 10)]
