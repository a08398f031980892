"""Judgements for the reports to show, and a browser to show them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from browser import Chromium, chromium_session

from cnncli.engine.metrics import Judgement, judge


@dataclass(frozen=True)
class Given:
    """What a model said of images, and nothing else of a judged model; see `Scored`."""

    scores: torch.Tensor
    labels: torch.Tensor
    names: tuple[str, ...]
    classes: tuple[str, ...]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A session for all tests of a file."""
    with chromium_session(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="session")
def given_scores() -> type[Given]:
    """The class `Given`."""
    return Given


def judged_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str], *, margin: float = 2.0) -> Judgement:
    """The judgement of a model with that confusion matrix, the class it says being ahead of all others by `margin`."""
    labels, guesses = [], []
    for true, row in enumerate(confusion):
        for guess, count in enumerate(row):
            labels += [true] * count
            guesses += [guess] * count
    scores = torch.zeros(len(labels), len(names))
    scores[torch.arange(len(labels)), torch.tensor(guesses)] = margin
    return judge(scores, torch.tensor(labels), tuple(names))


@pytest.fixture
def of_confusion() -> Callable[..., Judgement]:
    """`judged_confusion`."""
    return judged_confusion


@pytest.fixture
def of_names() -> Callable[..., Judgement]:
    """The judgement of a model that is mostly right, on 20 to 23 images or so a class."""

    def make(names: Sequence[str], *, seed: int = 0) -> Judgement:
        drawn = torch.randint(0, 4, (len(names), len(names)), generator=torch.Generator().manual_seed(seed))
        return judged_confusion((drawn + 20 * torch.eye(len(names), dtype=torch.int64)).tolist(), names)

    return make
