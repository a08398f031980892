"""Figures of a validation against scikit-learn and torch, whatever the batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torch.nn import functional

from cnncli.data.loader import Batch
from cnncli.engine.metrics import judge
from cnncli.engine.precision import Numbers
from cnncli.engine.validation import Validation, validate


class Given:
    """A loader whose images are the scores themselves."""

    def __init__(self, scores: torch.Tensor, labels: torch.Tensor, size: int = 7) -> None:
        self.scores, self.labels, self.size, self.count = scores, labels, size, len(labels)

    def __len__(self) -> int:
        return (self.count + self.size - 1) // self.size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        assert number == 0
        for first in range(start * self.size, self.count, self.size):
            part = slice(first, first + self.size)
            yield Batch(self.scores[part, :, None, None], self.labels[part], torch.arange(self.count)[part])


def judged(scores: torch.Tensor, labels: torch.Tensor, size: int = 7) -> Validation:
    return validate(nn.Flatten(), Given(scores, labels, size))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("classes", "images"), [(2, 11), (3, 1), (4, 60), (5, 40), (10, 300), (40, 200)])
def test_against_scikit_learn(classes: int, images: int, seed: int) -> None:
    """A third of the classes is never there, and another third is hardly ever guessed."""
    random = np.random.default_rng([classes, images, seed])
    labels = random.integers(0, max(1, 2 * classes // 3), images)
    scores = random.normal(size=(images, classes))
    scores[np.arange(images), labels] += 1.0
    scores[:, : classes // 3] -= 0.7
    found = judged(torch.from_numpy(scores), torch.from_numpy(labels))
    guesses = scores.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without images
        assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, guesses))
        assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, guesses, average="macro", zero_division=0))
        assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, guesses))
    order = np.argsort(-scores, axis=1)[:, :5]
    assert found.top5 == pytest.approx(np.mean([label in row for label, row in zip(labels, order, strict=True)]))
    assert found.loss == pytest.approx(functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(labels)).item(), rel=1e-6)


def test_against_the_judgement_of_eval() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(100, 7), torch.randint(0, 7, (100,))
    found, other = judged(scores, labels), judge(scores, labels, tuple("abcdefg"))
    assert (found.accuracy, found.top5) == pytest.approx((other.top1, other.top5))
    assert found.loss == pytest.approx(other.loss, rel=1e-6)
    assert found.macro_f1 == pytest.approx(np.mean([score.f1 for score in other.per_class]))


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_batches_do_not_matter(size: int) -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(23, 6), torch.randint(0, 6, (23,))
    whole, parts = judged(scores, labels, 23), judged(scores, labels, size)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert (parts.accuracy, parts.top5, parts.macro_f1) == (whole.accuracy, whole.top5, whole.macro_f1)


def test_ties_are_one_guess() -> None:
    """Equal scores for two classes are a guess at one of them, the same one in every figure; never half a hit for each."""
    scores = torch.zeros(12, 6)
    scores[:, 2] = scores[:, 4] = 1.0
    labels = torch.tensor([2, 4] * 6)
    found = judged(scores, labels)
    assert found.accuracy == 0.5
    assert found.balanced_accuracy == 0.5
    assert found.macro_f1 == pytest.approx((2 * 6 / (6 + 12) + 0) / 2)
    assert found.top5 == 1.0
    assert found.loss == pytest.approx(functional.cross_entropy(scores, labels).item())


def test_fewer_than_five_classes() -> None:
    torch.manual_seed(0)
    assert judged(torch.randn(20, 3), torch.arange(20) % 3).top5 == 1.0


def test_the_model_is_not_touched(model, make_loader) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    validate(model, make_loader(23, batch_size=5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "batch norm's statistics"
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("numbers", [Numbers("bf16"), Numbers("fp32", channels_last=True), Numbers("bf16", channels_last=True)], ids=str)
def test_other_numbers(numbers: Numbers, model, make_loader) -> None:
    val = make_loader(23, batch_size=5)
    plain, other = validate(model, val), validate(numbers.lay_out(model), val, numbers=numbers)
    assert other.loss == pytest.approx(plain.loss, rel=0.02)
    assert other.loss == plain.loss or numbers.precision == "bf16" or other.loss == pytest.approx(plain.loss, rel=1e-5)


@pytest.mark.parametrize("views", ["flips", "shifts"])
def test_views_are_averaged(views: str, model, make_loader) -> None:
    from cnncli.engine.tta import averaged

    val = make_loader(23, batch_size=5)
    found = validate(model, val, views=views)
    with torch.inference_mode():
        scores = torch.cat([averaged(model.eval(), batch.images, views) for batch in val.epoch(0)])
    labels = torch.cat([batch.labels for batch in val.epoch(0)])
    assert found.loss == pytest.approx(functional.cross_entropy(scores, labels).item(), rel=1e-5)
    assert found.loss != validate(model, val).loss
