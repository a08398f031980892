"""One step: split into parts it is the same, where memory does not suffice it is split, and what is loaded is what was stored."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncli.data.augmenting.mixing import Mixed
from cnncli.data.loader import Batch
from cnncli.engine import fit as fit_module
from cnncli.engine.config import OptimConfig
from cnncli.engine.events import EpochDone, Note
from cnncli.engine.fit import fit
from cnncli.engine.loss import Loss
from cnncli.engine.precision import Numbers
from cnncli.engine.training import Training
from cnncli.engine.validation import Validation
from cnncli.errors import CnnError

OUT_OF_MEMORY = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."


def net() -> nn.Module:
    """Without batch norm, whose statistics are those of what goes through at once."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).double()


def batch(*, mixed: bool = False) -> Batch:
    torch.manual_seed(1)
    images, labels = torch.randn(10, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (10,))
    return Batch(images, labels, torch.arange(10), Mixed(labels.flip(0), torch.rand(10, dtype=torch.float64)) if mixed else None)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 10, 64])
def test_parts_are_the_whole(parts: int, mixed: bool, make_loader, make_training) -> None:
    """The gradient and the step of N parts are those of the batch, also where N does not divide it."""
    given, loss = batch(mixed=mixed), Loss(0.1, torch.tensor([1.0, 2.0, 0.3], dtype=torch.float64))
    whole = net()
    (loss.sum(whole(given.images), given.labels, given.mixed) / 10).backward()
    found = []
    for accumulate in (1, parts):
        training = make_training(net(), make_loader(10, batch_size=10), accumulate=accumulate, clip_grad=0.0, loss=loss)
        sizes: list[int] = []
        training.model.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        training.step(given)
        assert len(sizes) == min(accumulate, 10)
        assert max(sizes) - min(sizes) <= 1
        for own, other in zip(training.parameters, [p for g in make_groups(whole) for p in g], strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-10, atol=1e-13)
        found.append(training)
    for name, tensor in found[0].model.state_dict().items():
        torch.testing.assert_close(found[1].model.state_dict()[name], tensor, rtol=1e-10, atol=1e-13)
    assert float(found[0].sums.loss) == pytest.approx(float(found[1].sums.loss), rel=1e-5)
    assert int(found[0].sums.correct) == int(found[1].sums.correct)


def make_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    parameters = list(model.parameters())
    return [[p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]]


def test_a_part_of_a_batch_that_others_share(make_loader, make_training) -> None:
    """`total` images are averaged over, although this process has only some of them."""
    given = batch()
    training = make_training(net(), make_loader(10, batch_size=10), clip_grad=0.0)
    training.step(Batch(given.images, given.labels, given.indices, total=40))
    plain = net()
    (functional.cross_entropy(plain(given.images), given.labels, reduction="sum") / 40).backward()
    torch.testing.assert_close(training.model[0].weight.grad, plain[0].weight.grad, rtol=1e-10, atol=1e-13)


def test_sums_say_what_was_done(make_loader, make_training) -> None:
    given = batch()
    training = make_training(net(), make_loader(10, batch_size=10), lr=0.4, warmup=0.0)
    with torch.no_grad():
        scores = training.model(given.images)
    training.step(given)
    assert float(training.sums.loss) == pytest.approx(functional.cross_entropy(scores, given.labels, reduction="sum").item(), rel=1e-6)
    assert int(training.sums.correct) == int((scores.argmax(1) == given.labels).sum())
    assert training.lr == pytest.approx(0.4)
    assert {group["lr"] for group in training.optimizer.param_groups} == {training.lr}
    assert (training.position.step, training.position.steps) == (1, 1)


@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_clipping(clip: float, make_loader, make_training) -> None:
    given = batch()
    training = make_training(net(), make_loader(10, batch_size=10), clip_grad=clip)
    training.step(given)
    plain = net()
    functional.cross_entropy(plain(given.images), given.labels).backward()
    norm = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()
    factor = min(1.0, clip / float(norm))
    torch.testing.assert_close(training.model[3].weight.grad, factor * plain[3].weight.grad, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("numbers", [Numbers("bf16"), Numbers(channels_last=True), Numbers("bf16", channels_last=True)], ids=str)
def test_numbers(numbers: Numbers, make_model, make_loader, make_training) -> None:
    """Weights and what is remembered of them stay float32; the step is that in float32, up to rounding."""
    train = make_loader(8, batch_size=8)
    given = next(train.epoch(1))
    trained = []
    for chosen in (Numbers(), numbers):
        training = make_training(make_model().eval(), train, numbers=chosen, optimizer="adamw")
        for _ in range(3):
            training.step(given)
        trained.append(training)
    for name, tensor in trained[1].state()[1].items():
        assert tensor.dtype != torch.bfloat16, name
    tolerance = 0.02 if numbers.precision == "bf16" else 1e-4
    assert float(trained[1].sums.loss) == pytest.approx(float(trained[0].sums.loss), rel=tolerance)
    if numbers.channels_last:
        assert trained[1].model[3].weight.is_contiguous(memory_format=torch.channels_last)


class Heavy(nn.Module):
    """Takes too much memory where more than `most` images go through at once."""

    def __init__(self, most: int, message: str = OUT_OF_MEMORY) -> None:
        super().__init__()
        self.linear, self.most, self.message = nn.Linear(36, 3), most, message

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise RuntimeError(self.message)
        return self.linear(images.flatten(1))


def heavy(most: int) -> Heavy:
    torch.manual_seed(0)
    return Heavy(most)


def test_out_of_memory_at_the_first_step_splits_the_batch(make_loader, make_training) -> None:
    weights = []
    for most in (100, 3):
        train = make_loader(24, batch_size=8, shuffle=True)
        training = make_training(heavy(most), train, epochs=1)
        events = list(fit(training, train, make_loader(9, batch_size=3, key=1)))
        notes = [event.text for event in events if isinstance(event, Note)]
        weights.append(training.model.linear.weight.detach())
    assert notes == [
        "out of memory with 8 images at once: batches of 8 go through the net in 2 parts",
        "out of memory with 4 images at once: batches of 8 go through the net in 4 parts",
    ]
    assert training.accumulate == 4
    assert [event.skipped for event in events if isinstance(event, EpochDone)] == [0]
    torch.testing.assert_close(*weights)


def test_a_resumed_run_keeps_the_parts(make_loader, make_training) -> None:
    train = make_loader(24, batch_size=8, shuffle=True)
    training = make_training(heavy(3), train, epochs=1)
    list(fit(training, train, None))
    again = make_training(heavy(3), train, epochs=1)
    again.restore(*copy.deepcopy(training.state()))
    assert again.accumulate == 4


def test_out_of_memory_where_no_split_helps(make_loader, make_training) -> None:
    train = make_loader(24, batch_size=8, shuffle=True)
    with pytest.raises(CnnError, match="out of memory on cpu at batch 8"):
        list(fit(make_training(heavy(0), train, epochs=1, batch_size=8), train, None))


@pytest.mark.parametrize("message", [OUT_OF_MEMORY, "DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."])
def test_out_of_memory_later_is_an_error(message: str, make_loader, make_training) -> None:
    train = make_loader(24, batch_size=8, shuffle=True)
    training = make_training(Heavy(8, message), train, epochs=2, batch_size=8)
    with pytest.raises(CnnError, match="out of memory") as caught:
        for event in fit(training, train, None):
            if isinstance(event, EpochDone):
                training.model.most = 7
    assert caught.value.hint == "--accumulate 2 or --batch-size 4 needs about half of it"
    assert caught.value.path == "--batch-size"


def test_another_error_is_not_taken_for_it(make_loader, make_training) -> None:
    train = make_loader(24, batch_size=8, shuffle=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(fit(make_training(Heavy(0, "mat1 and mat2 shapes cannot be multiplied"), train, epochs=1), train, None))


def test_groups_with_rates_of_their_own(make_loader, make_training) -> None:
    """The plan's shares reach the optimizer, by name; a frozen weight has no group."""
    train = make_loader(10, batch_size=10)
    model = net()
    model[0].bias.requires_grad_(requires_grad=False)
    plain = make_training(model, train, lr=0.1)
    plan = replace(
        plain.plan,
        rates={"0.weight": 0.1, "0.bias": 0.1},
        optim=OptimConfig(lr=0.1, warmup=0.0, momentum=0.0, weight_decay=0.0, clip_grad=0.0),
    )
    training = Training(model, plan)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    training.step(batch())
    assert training.lr == pytest.approx(0.1), "the full rate is told"
    for key, parameter in model.named_parameters():
        if key == "0.bias":
            assert torch.equal(parameter, before[key])
        else:
            torch.testing.assert_close(parameter.detach(), before[key] - (0.01 if key == "0.weight" else 0.1) * parameter.grad)


def done_at(epoch: int, accuracy: float, *, best: bool = False) -> EpochDone:
    return EpochDone(epoch, epoch, 1.0, 0.5, 1.0, accuracy, 1.0, accuracy, accuracy, 0.1, 1.0, 1.0, best, 0)


EARLIER = [done_at(1, 0.5), done_at(2, 0.9, best=True), done_at(3, 0.6), done_at(4, 0.7)]


def test_a_stage_goes_on_counting_epochs(model, make_loader, make_training) -> None:
    train = make_loader(12, batch_size=6, shuffle=True)
    asked: list[int] = []
    epoch = train.epoch
    train.epoch = lambda number, start=0: (asked.append(number), epoch(number, start))[1]
    training = make_training(model, train, epochs=3)
    training.follow(EARLIER)
    events = list(fit(training, train, None))
    started, epochs = events[0], [event for event in events if isinstance(event, EpochDone)]
    assert (started.first, started.epoch, started.step, started.epochs, started.steps) == (5, 5, 0, 7, 6)
    assert started.history == tuple(EARLIER)
    assert [done.epoch for done in epochs] == asked == [5, 6, 7]
    assert training.history == [*EARLIER, *epochs]
    assert len(EARLIER) == 4, "what is handed in stays as it is"


@pytest.mark.parametrize(("accuracies", "patience", "ran"), [([0.1] * 6, 2, 3), ([0.1, 0.2, 0.95, 0.1, 0.2, 0.3], 2, 5), ([0.1] * 6, 6, 6)])
def test_patience_counts_the_epochs_of_its_own_stage(
    accuracies: list[float], patience: int, ran: int, model, make_loader, make_training, monkeypatch
) -> None:
    """Two epochs of the stage before were no better than its best: they are no reason for this one to end at once."""
    rows = iter(accuracies)
    judged = Validation(loss=1.0, accuracy=0.0, top5=1.0, macro_f1=0.0, balanced_accuracy=0.0)
    monkeypatch.setattr(fit_module, "validate", lambda *_, **__: judged_as(judged, next(rows)))
    train = make_loader(12, batch_size=6, shuffle=True)
    training = make_training(model, train, epochs=6, patience=patience)
    training.follow(EARLIER)
    epochs = [event for event in fit(training, train, train) if isinstance(event, EpochDone)]
    assert len(epochs) == ran
    best = 0.9
    for done, accuracy in zip(epochs, accuracies, strict=False):
        assert done.best == (accuracy >= best), "the best is that of all stages"
        best = max(best, accuracy)


def judged_as(judged: Validation, accuracy: float) -> Validation:
    return replace(judged, accuracy=accuracy)


def test_state_of_a_later_stage(make_model, make_loader, make_training) -> None:
    """Restored in the middle of its second epoch, it ends as one that was not interrupted."""
    train = make_loader(18, batch_size=6, shuffle=True)

    def made() -> Training:
        training = make_training(make_model(), train, epochs=2)
        training.plan = replace(training.plan, stage=2)
        training.follow(EARLIER)
        return training

    whole = made()
    list(fit(whole, train, None))
    cut = made()  # which seeds the dropout
    events = fit(cut, train, None)
    for event in events:
        if isinstance(event, EpochDone):
            break
    cut.model.train()
    for given in list(train.epoch(6))[:2]:
        cut.step(given)
    facts, tensors = cut.state()
    facts = json.loads(json.dumps(facts))
    assert (facts["stage"], facts["earlier"], facts["position"]["epoch"], facts["position"]["step"]) == (2, 4, 6, 2)
    restored = make_training(make_model(), train, epochs=2)
    assert restored.earlier == 0
    assert restored.restore(facts, {name: tensor.clone() for name, tensor in tensors.items()}) == []
    assert restored.earlier == 4
    assert [done.epoch for done in restored.history] == [1, 2, 3, 4, 5]
    started, *rest = list(fit(restored, train, None))
    assert (started.first, started.epoch, started.step, started.epochs) == (5, 6, 2, 6)
    assert [event.epoch for event in rest if isinstance(event, EpochDone)] == [6]
    for name, tensor in whole.weights().items():
        assert torch.equal(restored.weights()[name], tensor), name
    del facts["earlier"], facts["stage"]  # as a version before stages wrote it
    old = make_training(make_model(), train, epochs=2)
    old.restore(facts, tensors)
    assert old.earlier == 0
