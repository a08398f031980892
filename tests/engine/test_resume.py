"""A training that is stopped anywhere, saved, loaded into new objects and continued ends as if it had not been stopped, to the bit."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnncli.data.augment import Augment
from cnncli.engine import fit as fit_module
from cnncli.engine.events import EpochDone, Event, Finished, Note, Paused, Progress, Started
from cnncli.engine.fit import fit
from cnncli.engine.pause import Pause, Pressed
from cnncli.engine.precision import Numbers
from cnncli.engine.state import State, load_state, save_state
from cnncli.engine.training import Training

CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, average": {"optimizer": "adamw", "ema": 0.9, "clip_grad": 0.5},
    "muon, parts": {"optimizer": "muon", "accumulate": 3, "validate_every": 2},
    "adam, bf16, channels-last": {"optimizer": "adam", "numbers": Numbers("bf16", channels_last=True)},
    "rmsprop": {"optimizer": "rmsprop", "label_smoothing": 0.1},
    "adadelta, channels-last, one cycle": {"optimizer": "adadelta", "schedule": "one-cycle", "numbers": Numbers(channels_last=True)},
}


class Whimsical(nn.Module):
    """Draws from numpy's and Python's global generators, as code of a net may."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * (1 + 0.1 * random.gauss(0, 1) + 0.1 * np.random.standard_normal()) if self.training else images  # noqa: NPY002


@pytest.fixture(autouse=True)
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "SECONDS_BETWEEN_PROGRESS", 0.0)


@pytest.fixture
def fresh(make_model, make_loader, make_training):
    """fresh("sgd"): a new training of its own with its loaders, as another process would make it."""

    def make(case: str):
        train, val = make_loader(30, batch_size=8, shuffle=True), make_loader(11, batch_size=4, key=1)
        train.augment = Augment(flip=True, shift=1, mixup=0.2)
        model = nn.Sequential(Whimsical(), *make_model())
        return make_training(model, train, epochs=2, lr=0.01, **CASES[case]), train, val

    return make


def told(events: list[Event]) -> list[Any]:
    """Events without times, and without what a process says of its start."""
    plain = []
    for event in events:
        if isinstance(event, Progress):
            plain.append(replace(event, images_per_second=0))
        elif isinstance(event, EpochDone):
            plain.append(replace(event, seconds=0, images_per_second=0))
        elif isinstance(event, Finished):
            plain.append(replace(event, best=replace(event.best, seconds=0, images_per_second=0), seconds=0))
    return plain


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    _, tensors = training.state()
    return {name: tensor.clone() for name, tensor in tensors.items()}


def save(folder: Path, training: Training) -> None:
    save_state(folder, State({"train": {"seed": 0}}, {"count": 30}, *training.state()))


def same_end(training: Training, expected: dict[str, torch.Tensor]) -> None:
    found = weights_of(training)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("case", CASES)
def test_stopped_at_every_step(case: str, fresh, tmp_path: Path) -> None:
    whole, train, val = fresh(case)
    expected_events = told(list(fit(whole, train, val)))
    expected = weights_of(whole)
    steps = 2 * len(train)
    for stop in range(steps):
        training, train, val = fresh(case)
        pause, events = Pause(), []
        for event in fit(training, train, val, pause):
            events.append(event)
            if isinstance(event, Paused):
                break
            pause.stop = 15 if training.position.steps == stop else None
        assert isinstance(event, Paused), stop
        assert training.position.steps == stop
        save(tmp_path, training)
        for _ in range(3):  # other work in between draws numbers of its own
            torch.rand(1), random.random(), np.random.random()  # noqa: NPY002
        again, train, val = fresh(case)
        state = load_state(tmp_path)
        assert again.restore(state.facts, state.tensors) == []
        rest = list(fit(again, train, val))
        assert isinstance(rest[0], Started)
        assert (rest[0].epoch, rest[0].step) == (event.epoch, event.step)
        assert [asdict(done) for done in rest[0].history] == [asdict(done) for done in events if isinstance(done, EpochDone)]
        assert told(events) + told(rest) == expected_events, stop
        same_end(again, expected)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("case", ["sgd", "adamw, average"])
def test_stopped_in_a_validation(case: str, epoch: int, fresh, tmp_path: Path) -> None:
    """Also in the last one: its epoch is judged after the resume, and not forgotten."""
    whole, train, val = fresh(case)
    expected_events = told(list(fit(whole, train, val)))
    expected = weights_of(whole)
    training, train, val = fresh(case)
    pause, events = Pause(), []
    batches = val.epoch

    def interrupted(number: int, start: int = 0):
        for place, batch in enumerate(batches(number, start)):
            if place == 1 and training.position.epoch == epoch:
                pause.press(15)
            yield batch

    val.epoch = interrupted
    for event in fit(training, train, val, pause):
        events.append(event)
        if isinstance(event, Paused):
            break
    assert event == Paused(epoch, len(train))
    save(tmp_path, training)
    again, train, val = fresh(case)
    state = load_state(tmp_path)
    again.restore(state.facts, state.tensors)
    rest = list(fit(again, train, val))
    assert told(events) + told(rest) == expected_events
    same_end(again, expected)


def test_after_a_pause_that_only_saves_training_goes_on(fresh) -> None:
    whole, train, val = fresh("sgd")
    expected_events = told(list(fit(whole, train, val)))
    training, train, val = fresh("sgd")
    pause, events = Pause(save_every=0), []  # at every step
    for event in fit(training, train, val, pause):
        events.append(event)
        if isinstance(event, Paused):
            training.state()
            pause.saved()
    assert len([event for event in events if isinstance(event, Paused)]) == 2 * len(train)
    assert told(events) == expected_events
    same_end(training, weights_of(whole))


def test_a_validation_that_is_interrupted_can_be_gone_on_with(fresh) -> None:
    training, train, val = fresh("sgd")
    pause, paused = Pause(), 0
    batches = val.epoch

    def interrupted(number: int, start: int = 0):
        for batch in batches(number, start):
            if not paused:
                pause.press(15)
            yield batch

    val.epoch = interrupted
    events = []
    for event in fit(training, train, val, pause):
        events.append(event)
        if isinstance(event, Paused):
            paused, pause.stop, pause.heard = paused + 1, None, None
    assert paused == 1
    whole, train, val = fresh("sgd")
    assert told(events) == told(list(fit(whole, train, val)))


def test_stopped_while_a_batch_is_waited_for(fresh) -> None:
    training, train, val = fresh("sgd")
    pause = Pause()
    batches = train.epoch

    def interrupted(number: int, start: int = 0):
        for place, batch in enumerate(batches(number, start)):
            if place == 2:
                pause.press(15)
            yield batch

    train.epoch = interrupted
    events = fit(training, train, val, pause)
    found = next(event for event in events if isinstance(event, Paused))
    assert found == Paused(1, 2)
    with pytest.raises(Pressed):
        next(events)  # whoever goes on although a stop was asked for


def test_finished_stays_finished(fresh, tmp_path: Path) -> None:
    training, train, val = fresh("sgd")
    events = list(fit(training, train, val))
    save(tmp_path, training)
    again, train, val = fresh("sgd")
    state = load_state(tmp_path)
    again.restore(state.facts, state.tensors)
    rest = list(fit(again, train, val))
    assert [type(event) for event in rest] == [Started, Finished]
    assert rest[-1].best == events[-1].best
    same_end(again, weights_of(training))


def test_what_differs_is_told(fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    training, *_ = fresh("sgd")
    facts, tensors = training.state()
    assert training.restore(facts | {"threads": 77}, tensors) == [f"77 threads before, {torch.get_num_threads()} now"]
    assert training.restore(facts | {"device": "cuda"}, tensors) == ["computed on cuda before, on cpu now"]


def test_sums_of_several_processes_become_those_of_one(fresh) -> None:
    """What two had seen by then, as gathered, is what the one has seen."""
    training, train, _ = fresh("sgd")
    training.step(next(train.epoch(1)))
    facts, tensors = training.state()
    two = {name: torch.cat([t, t]) if name.startswith(("sums.", "random.")) else t for name, t in tensors.items()}
    again, *_ = fresh("sgd")
    differs = again.restore(facts | {"ranks": 2, "images": [8, 8]}, two)
    assert differs == ["2 processes before, 1 now"]
    assert float(again.sums.loss) == pytest.approx(2 * float(training.sums.loss))
    assert (int(again.sums.counted), again.sums.images) == (16, 16)


def test_no_note_is_lost(fresh) -> None:
    assert not [event for event in fit(*fresh("sgd")) if isinstance(event, Note)]
