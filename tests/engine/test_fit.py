"""The training loop: which events, in which order, with which numbers; and what it does not do."""

from __future__ import annotations

import inspect
from math import isfinite

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncli.data.augment import Augment
from cnncli.data.augmenting.mixing import Mixed
from cnncli.engine import fit as fit_module
from cnncli.engine.config import TrainConfig
from cnncli.engine.events import EpochDone, Finished, Progress, Started
from cnncli.engine.fit import fit, mixed_cross_entropy, train_step, validate
from cnncli.engine.optim import make_optimizer
from cnncli.errors import CnnError, ExitCode


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_fit_is_a_generator_that_waits(model, make_loader, capsys) -> None:
    before = state(model)
    events = fit(model, make_loader(20, batch_size=8, shuffle=True), None, TrainConfig(epochs=1))
    assert inspect.isgenerator(events)
    assert same(state(model), before)
    assert next(events) == Started(epochs=1, steps_per_epoch=3, train_images=20, val_images=0)
    assert same(state(model), before), "nothing is trained before the first event has been read"
    events.close()


def test_events_in_order_and_nothing_printed(model, make_loader, capsys, monkeypatch) -> None:
    monkeypatch.setattr(fit_module, "SECONDS_BETWEEN_PROGRESS", 0.0)
    events = list(fit(model, make_loader(20, batch_size=8, shuffle=True), make_loader(9, batch_size=4, key=1), TrainConfig(epochs=3)))
    assert capsys.readouterr() == ("", "")
    assert [type(event) for event in events] == [Started, *(3 * [Progress, Progress, Progress, EpochDone]), Finished]
    assert events[0] == Started(3, 3, 20, 9)
    assert [(event.epoch, event.step) for event in events if isinstance(event, Progress)] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3)]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [1, 2, 3]
    for event in epochs:
        assert isfinite(event.train_loss)
        assert 0 <= event.train_accuracy <= 1
        assert event.seconds > 0
        assert event.images_per_second > 0
    last_progress = [event for event in events if isinstance(event, Progress) and event.epoch == 2][-1]
    assert (last_progress.loss, last_progress.accuracy) == (epochs[1].train_loss, epochs[1].train_accuracy)
    assert events[-1].best in epochs
    assert events[-1].best.best
    assert events[-1].seconds >= sum(event.seconds for event in epochs)


def test_the_numbers_are_those_of_a_plain_loop(model, make_loader) -> None:
    """The loop written out, with torch's own optimizer, gives the same weights and the same means."""
    config = TrainConfig(epochs=2, batch_size=8, lr=0.02, label_smoothing=0.1, clip_grad=1.5, seed=5)
    import copy

    twin = copy.deepcopy(model)
    events = list(fit(model, make_loader(20, batch_size=8, shuffle=True), None, config))
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
    loader = make_loader(20, batch_size=8, shuffle=True)
    from cnncli.engine.optim import learning_rate

    step = clipped = 0
    for epoch in (1, 2):
        twin.train()
        losses, hits = 0.0, 0
        for batch in loader.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 6, config)
            step += 1
            scores = twin(batch.images)
            loss = functional.cross_entropy(scores, batch.labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            norm = sum(float((p.grad**2).sum()) for p in twin.parameters()) ** 0.5
            clipped += norm > config.clip_grad
            for p in twin.parameters():
                p.grad *= min(1.0, config.clip_grad / norm)
            optimizer.step()
            losses += loss.item() * len(batch.labels)
            hits += int((scores.argmax(1) == batch.labels).sum())
        done = [event for event in events if isinstance(event, EpochDone)][epoch - 1]
        assert done.train_loss == pytest.approx(losses / 20, rel=1e-6)
        assert done.train_accuracy == hits / 20
    assert 0 < clipped < step, "only some of the steps are to be clipped"
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(state(model).values(), state(twin).values(), strict=True))


def test_it_learns(model, make_loader) -> None:
    events = list(
        fit(model, make_loader(60, batch_size=10, shuffle=True), make_loader(30, batch_size=7, key=1), TrainConfig(epochs=15, lr=0.01))
    )
    assert events[-1].best.val_accuracy == 1.0


def test_same_seed_same_weights(make_loader) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3))
        list(fit(net, make_loader(20, batch_size=8, shuffle=True, seed=seed), None, TrainConfig(epochs=2, seed=seed)))
        return state(net)

    assert same(trained(1), trained(1))
    assert not same(trained(1), trained(2))


def test_validation_does_not_change_training(make_loader) -> None:
    def trained(val: object) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 3))
        list(fit(net, make_loader(20, batch_size=8, shuffle=True), val, TrainConfig(epochs=2)))
        return state(net)

    assert same(trained(None), trained(make_loader(9, batch_size=4, key=1)))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_validate_is_independent_of_the_batch_size(batch_size: int, model, make_loader) -> None:
    model.train()
    list(fit(model, make_loader(30, batch_size=10, shuffle=True), None, TrainConfig(epochs=1)))
    reference = make_loader(23, batch_size=23, key=2)
    model.eval()
    batch = next(reference.epoch(0))
    with torch.inference_mode():
        scores = model(batch.images)
    loss = functional.cross_entropy(scores.double(), batch.labels).item()
    accuracy = (scores.argmax(1) == batch.labels).double().mean().item()
    model.train()
    before = state(model)
    found = validate(model, make_loader(23, batch_size=batch_size, key=2))
    assert found[0] == pytest.approx(loss, rel=1e-6)
    assert found[1] == accuracy
    assert same(state(model), before), "batch norm's statistics are not touched"


class Scripted(nn.Module):
    """Scores that make validation loss and accuracy follow a list; one entry an epoch."""

    def __init__(self, script: list[list[float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.script = iter(script)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.weight.expand(len(images), 3) * 1.0
        return torch.tensor(next(self.script)).expand(len(images), 3)


def best_epochs(script: list[list[float]], make_loader) -> tuple[list[bool], int]:
    events = list(fit(Scripted(script), make_loader(3, batch_size=3), make_loader(3, batch_size=3, key=1), TrainConfig(epochs=len(script))))
    return [event.best for event in events if isinstance(event, EpochDone)], events[-1].best.epoch


def test_best_is_by_accuracy_then_loss_then_the_later(make_loader) -> None:
    """All three labels once, so each script's accuracy is 1/3; the loss grows with the scores."""
    low, high = [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]
    assert best_epochs([high, low, high], make_loader) == ([True, True, False], 2)
    assert best_epochs([low, high, low], make_loader) == ([True, False, True], 3)
    assert best_epochs([low, low], make_loader) == ([True, True], 2)


def test_best_prefers_accuracy_to_loss(make_loader) -> None:
    class Lucky(Scripted):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                return self.weight.expand(len(images), 3) * 1.0
            right, scale = next(self.script)
            correct = torch.eye(3)[: len(images)] * scale
            wrong = torch.eye(3).roll(1, 1)[: len(images)] * scale
            return torch.cat([correct[: int(right)], wrong[int(right) :]])

    script = [[1.0, 0.1], [2.0, 50.0], [1.0, 0.1]]  # the second is right more often, at a far higher loss
    events = list(fit(Lucky(script), make_loader(3, batch_size=3), make_loader(3, batch_size=3), TrainConfig(epochs=3)))
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert epochs[1].val_loss > epochs[0].val_loss
    assert [event.best for event in epochs] == [True, True, False]


def test_without_validation_the_last_epoch_is_best(model, make_loader) -> None:
    events = list(fit(model, make_loader(20, batch_size=8, shuffle=True), None, TrainConfig(epochs=3)))
    assert [event.best for event in events if isinstance(event, EpochDone)] == [True, True, True]
    assert events[-1].best.epoch == 3
    assert events[-1].best.val_loss is None
    assert events[-1].best.val_accuracy is None


def test_a_loss_that_is_not_finite_stops(model, make_loader) -> None:
    found = []
    with pytest.raises(CnnError, match=r"loss is not finite at epoch 1 step \d+ \(lr .*\)") as caught:
        for event in fit(model, make_loader(20, batch_size=2, shuffle=True), None, TrainConfig(epochs=5, lr=1e9, warmup=0)):
            found.append(event)
    assert caught.value.code == ExitCode.FAILED
    assert "--lr" in caught.value.hint
    assert not [event for event in found if isinstance(event, EpochDone)], "no epoch is called done, so nothing is saved"
    assert all(isfinite(event.loss) for event in found if isinstance(event, Progress))


class Spoilt(nn.Module):
    """Finite in training, not in evaluation, from the second epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.judged = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.judged += not self.training
        spoil = float("nan") if self.judged > 1 else 1.0
        return self.weight.expand(len(images), 3) * (1.0 if self.training else spoil)


def test_not_finite_in_validation_alone(make_loader) -> None:
    found = []
    with pytest.raises(CnnError, match=r"validation loss is not finite after epoch 2") as caught:
        for event in fit(Spoilt(), make_loader(6, batch_size=3), make_loader(3, batch_size=3, key=1), TrainConfig(epochs=5)):
            found.append(event)
    assert caught.value.code == ExitCode.FAILED
    assert [event.epoch for event in found if isinstance(event, EpochDone)] == [1]


@pytest.mark.parametrize("with_val", [False, True])
def test_weights_spoilt_by_the_last_step(with_val: bool, make_loader) -> None:
    """One step an epoch: the loss was finite before it, the weights are not after it. No such model may be called the best."""

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = self.weight.expand(len(images), 3)
            return scores + (scores - scores.detach()) * 1e38  # the same scores with a gradient of 1e38

    val = make_loader(3, batch_size=3, key=1) if with_val else None
    found = []
    with pytest.raises(CnnError, match="not finite after epoch 1"):
        for event in fit(Steep(), make_loader(4, batch_size=4), val, TrainConfig(epochs=1, lr=1e9, warmup=0, clip_grad=0)):
            found.append(event)
    assert not [event for event in found if isinstance(event, EpochDone)]


def test_train_step_says_what_it_did(model) -> None:
    optimizer = make_optimizer(model, TrainConfig())
    images, labels = torch.randn(5, 1, 6, 6), torch.tensor([0, 1, 2, 0, 1])
    model.train()
    torch.manual_seed(1)
    expected = model(images)
    torch.manual_seed(1)
    scores, loss = train_step(model, optimizer, images, labels, 0.123)
    assert torch.equal(scores, expected.detach())
    assert loss.item() == pytest.approx(functional.cross_entropy(expected, labels).item())
    assert not scores.requires_grad
    assert not loss.requires_grad
    assert {group["lr"] for group in optimizer.param_groups} == {0.123}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_loss_is_that_of_the_mixed_label(smoothing: float) -> None:
    """Against -sum(q log p) with q, the two labels by weight, smoothed, written out in float64."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 5, generator=rng)
    labels, partners = torch.randint(0, 5, (2, 7), generator=rng)
    weight = torch.tensor([0.0, 1.0, 0.5, 0.25, 0.9, 0.1, 0.3])
    total = 0.0
    for score, own, partner, share in zip(scores.double(), labels, partners, weight.double(), strict=True):
        wanted = torch.zeros(5, dtype=torch.float64)
        wanted[own] += share
        wanted[partner] += 1 - share
        wanted = wanted * (1 - smoothing) + smoothing / 5
        total -= float((wanted * (score - score.exp().sum().log())).sum())
    loss = mixed_cross_entropy(scores, labels, Mixed(partners, weight), label_smoothing=smoothing)
    assert loss.item() == pytest.approx(total / 7, rel=1e-6)
    plain = functional.cross_entropy(scores, labels, label_smoothing=smoothing)
    assert torch.equal(mixed_cross_entropy(scores, labels, None, label_smoothing=smoothing), plain)
    own_alone = mixed_cross_entropy(scores, labels, Mixed(partners, torch.ones(7)), label_smoothing=smoothing)
    assert own_alone.item() == pytest.approx(plain.item(), rel=1e-6)


def test_training_on_mixed_batches_is_a_plain_loop_on_them(make_loader) -> None:
    """Loss by both labels, accuracy by the image's own."""
    augment = Augment(flip=False, mixup=0.8, cutmix=1.0)

    def made() -> tuple[nn.Module, object]:
        torch.manual_seed(0)
        loader = make_loader(20, batch_size=8, shuffle=True)
        loader.augment = augment
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), loader

    config = TrainConfig(epochs=2, batch_size=8, lr=0.02, label_smoothing=0.1, clip_grad=0)
    model, loader = made()
    events = [event for event in fit(model, loader, None, config) if isinstance(event, EpochDone)]
    twin, loader = made()
    optimizer, step = make_optimizer(twin, config), 0
    from cnncli.engine.optim import learning_rate

    for done in events:
        losses, hits = 0.0, 0
        for batch in loader.epoch(done.epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 6, config)
            step += 1
            assert batch.mixed is not None
            scores = twin(batch.images)
            share = batch.mixed.weight[:, None]
            wanted = share * functional.one_hot(batch.labels, 3) + (1 - share) * functional.one_hot(batch.mixed.labels, 3)
            loss = functional.cross_entropy(scores, wanted, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(batch.labels)
            hits += int((scores.argmax(1) == batch.labels).sum())
        assert done.train_loss == pytest.approx(losses / 20, rel=1e-5)
        assert done.train_accuracy == hits / 20
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_validation_is_never_mixed(model, make_loader) -> None:
    loader = make_loader(9, batch_size=4)
    assert all(batch.mixed is None for batch in loader.epoch(0))
