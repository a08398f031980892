"""Linear heads against scikit-learn, which minimises the same objective, and against what defines a minimum."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cnncli.engine import logistic
from cnncli.engine.solve import PATIENCE, PENALTIES, LinearHead, choose, fallback_penalty, solve
from cnncli.errors import InputError


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drawn(images: int, width: int, classes: int, *, apart: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features like those of a net, none below 0 and some directions far wider than others, every class there."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, width, generator=random) * apart
    wide = torch.arange(1, width + 1) ** -0.5
    return torch.relu((torch.randn(images, width, generator=random) + centres[labels]) * wide * 3 + 0.5), labels


def scaled(features: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, float]:
    """(x - m) / s, m and s as the docstring defines them."""
    shares = torch.ones(len(features), dtype=torch.float64) if weights is None else weights.double()
    shares = shares / shares.sum()
    mean = (shares[:, None] * features.double()).sum(0)
    spread = math.sqrt(float((shares * (features.double() - mean).square().sum(1)).sum()))
    return (features.double() - mean) / spread, mean, spread


def reference(features: Tensor, labels: Tensor, penalty: float, weights: Tensor | None = None) -> np.ndarray:
    """scikit-learn's probabilities [N, K]: it minimises C sum_i w_i CE_i + |V|^2 / 2.

    Of two classes it has one row v, the difference of our two, which are v / 2 and -v / 2: |V|^2 is |v|^2 / 2.
    """
    rows = scaled(features, weights)[0].numpy()
    total = len(labels) if weights is None else float(weights.sum())
    pair = 2 if int(labels.max()) == 1 else 1
    found = LogisticRegression(C=pair / (penalty * total), tol=1e-10, solver="newton-cg", max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its line search warns when it is as close as float64 goes
        found.fit(rows, labels.numpy(), sample_weight=None if weights is None else weights.numpy())
    return found.predict_proba(rows)


def probabilities(head: LinearHead, features: Tensor) -> np.ndarray:
    return (features.double() @ head.weight.T + head.bias).softmax(1).numpy()


def objective(head: LinearHead, features: Tensor, labels: Tensor, penalty: float) -> tuple[float, Tensor, Tensor]:
    """The objective as the docstring writes it, and its gradient by V and c, by autograd."""
    rows, mean, spread = scaled(features)
    v = (head.weight * spread).requires_grad_()
    c = (head.bias + head.weight @ mean).requires_grad_()
    value = torch.nn.functional.cross_entropy(rows @ v.T + c, labels) + penalty / 2 * v.square().sum()
    value.backward()
    assert v.grad is not None
    assert c.grad is not None
    return value.item(), v.grad, c.grad


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize(
    ("images", "width", "classes", "apart"),
    [(200, 10, 3, 0.3), (60, 5, 2, 0.0), (90, 20, 3, 5.0), (40, 100, 4, 1.0), (30, 30, 5, 0.5)],
    ids=["overlapping", "chance", "separable", "wide", "square"],
)
def test_as_scikit_learn(images: int, width: int, classes: int, apart: float, penalty: float) -> None:
    features, labels = drawn(images, width, classes, apart=apart)
    head = solve(features, labels, classes, penalty=penalty)
    assert head.converged
    assert np.abs(probabilities(head, features) - reference(features, labels, penalty)).max() < 1e-4
    want = torch.nn.functional.cross_entropy(features.double() @ head.weight.T + head.bias, labels).item()
    assert head.loss == pytest.approx(want, abs=1e-12)


def test_collinear_features_share_the_weight() -> None:
    features, labels = drawn(100, 4, 3)
    doubled = torch.cat([features, features, 0 * features[:, :1] + 7], 1)
    head = solve(doubled, labels, 3, penalty=1e-3)
    assert np.abs(probabilities(head, doubled) - reference(doubled, labels, 1e-3)).max() < 1e-4
    assert torch.allclose(head.weight[:, :4], head.weight[:, 4:8], atol=1e-9)
    assert head.weight[:, 8].abs().max() < 1e-9
    assert np.abs(probabilities(head, doubled) - probabilities(solve(features, labels, 3, penalty=1e-3), features)).max() < 1e-4


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 60), st.integers(1, 40), st.integers(2, 4), st.sampled_from([1e-4, 1e-2, 1.0]), st.integers(0, 99))
def test_the_gradient_is_zero_and_nothing_near_is_better(images: int, width: int, classes: int, penalty: float, seed: int) -> None:
    features, labels = drawn(images, width, classes, apart=0.5, seed=seed)
    assume(bool((features != features[0]).any()))  # else there is nothing to scale by
    head = solve(features, labels, classes, penalty=penalty)
    value, by_weight, by_bias = objective(head, features, labels, penalty)
    assert head.converged
    assert math.hypot(float(by_weight.norm()), float(by_bias.norm())) <= 1.01 * math.sqrt(2 * penalty * logistic.CLOSE)
    random = torch.Generator().manual_seed(seed)
    for size in (1e-3, 1e-1):
        other = LinearHead(head.weight + size * torch.randn(head.weight.shape, generator=random), head.bias, penalty, 0, True, 0.0)
        assert objective(other, features, labels, penalty)[0] >= value - logistic.CLOSE


@pytest.mark.parametrize(("factor", "offset"), [(1e-12, 0.0), (1e12, 0.0), (1.0, 1e5), (-3.0, 2.0)])
def test_the_scale_and_place_of_features_do_not_matter(factor: float, offset: float) -> None:
    features, labels = drawn(50, 12, 3)
    features = features.double()
    moved = features * factor + offset
    want = probabilities(solve(features, labels, 3, penalty=1e-3), features)
    assert np.abs(probabilities(solve(moved, labels, 3, penalty=1e-3), moved) - want).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_of_features(dtype: torch.dtype) -> None:
    features = drawn(50, 12, 3)[0].to(dtype)
    labels = drawn(50, 12, 3)[1].to(torch.int32)
    head = solve(features, labels, 3, penalty=1e-3)
    assert head.weight.dtype == head.bias.dtype == torch.float64
    assert torch.equal(head.weight, solve(features.double(), labels, 3, penalty=1e-3).weight)


@pytest.mark.parametrize(("images", "width"), [(300, 8), (40, 8), (9, 8)])
def test_blocks_give_the_same(images: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = drawn(images, width, 3)
    want = solve(features, labels, 3, penalty=1e-3)
    monkeypatch.setattr(logistic, "HELD", 0)
    monkeypatch.setattr(logistic, "BLOCK", 7 * width)
    monkeypatch.setattr(logistic, "SEEN", 1)
    found = solve(features, labels, 3, penalty=1e-3)
    assert found.converged
    assert np.abs(probabilities(found, features) - probabilities(want, features)).max() < 1e-5


def test_a_sampled_preconditioner_finds_the_same() -> None:
    features, labels = drawn(4000, 6, 3)
    assert len(features) // (logistic.SEEN * 6 + 1000) > 1
    head = solve(features, labels, 3, penalty=1e-4)
    assert np.abs(probabilities(head, features) - reference(features, labels, 1e-4)).max() < 1e-4
    assert head.iterations < 60


def test_weights_are_repetitions() -> None:
    features, labels = drawn(40, 6, 3)
    times = torch.arange(40) % 4
    repeated = torch.arange(40).repeat_interleave(times)
    weighted = solve(features, labels, 3, penalty=1e-3, weights=times)
    want = solve(features[repeated], labels[repeated], 3, penalty=1e-3)
    assert torch.allclose(weighted.weight, want.weight, atol=1e-4)
    assert np.abs(probabilities(weighted, features) - reference(features, labels, 1e-3, times.double())).max() < 1e-4
    assert solve(features, labels, 3, penalty=1e-3, weights=5.0 * times).loss == pytest.approx(weighted.loss, abs=1e-9)


def test_from_any_start_to_the_same_place() -> None:
    features, labels = drawn(60, 10, 3, apart=0.3)
    cold = solve(features, labels, 3, penalty=1e-3)
    again = solve(features, labels, 3, penalty=1e-3, start=cold)
    assert again.iterations == 0
    for start in (solve(features, labels, 3, penalty=1.0), LinearHead(torch.randn(3, 10).double(), torch.randn(3).double(), 1, 0, True, 0)):
        warm = solve(features, labels, 3, penalty=1e-3, start=start)
        assert warm.converged
        assert np.abs(probabilities(warm, features) - probabilities(cold, features)).max() < 1e-5


def test_a_class_without_images_is_never_the_guess() -> None:
    features, labels = drawn(60, 10, 2)
    two = solve(features, labels, 2, penalty=1e-2)
    head = solve(features, torch.tensor([0, 3])[labels], 5, penalty=1e-2)
    assert torch.equal(head.weight[[0, 3]], two.weight)
    assert torch.equal(head.bias[[0, 3]], two.bias)
    assert not head.weight[[1, 2, 4]].any()
    assert probabilities(head, features)[:, [1, 2, 4]].max() < 1e-8
    assert head.bias.isfinite().all()
    assert torch.allclose(solve(features, torch.tensor([0, 3])[labels], 5, penalty=1e-2, start=head).weight, head.weight, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
def test_features_that_are_all_the_same_give_the_shares(value: float) -> None:
    labels = torch.tensor([0, 0, 0, 1])
    head = solve(torch.full((4, 6), value), labels, 2, penalty=1e-3)
    assert not head.weight.any()
    assert head.bias.softmax(0).tolist() == pytest.approx([0.75, 0.25], abs=1e-4)


def test_the_same_image_in_two_classes() -> None:
    head = solve(torch.ones(2, 3) * torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1]), 2, penalty=1e-3)
    assert head.bias.softmax(0).tolist() == [0.5, 0.5]


def test_one_image_of_each_class() -> None:
    features = torch.eye(3)
    head = solve(features, torch.arange(3), 3, penalty=1e-3)
    assert (features.double() @ head.weight.T + head.bias).argmax(1).tolist() == [0, 1, 2]
    assert np.abs(probabilities(head, features) - reference(features, torch.arange(3), 1e-3)).max() < 1e-4


@pytest.mark.parametrize(
    ("labels", "weights"), [([1, 1, 1], None), ([0, 1, 1], [0.0, 1.0, 1.0])], ids=["one class", "one class of weight above 0"]
)
def test_one_class_is_refused(labels: list[int], weights: list[float] | None) -> None:
    with pytest.raises(InputError, match="all of one class: number 1 of 2"):
        solve(torch.randn(3, 4), torch.tensor(labels), 2, penalty=1.0, weights=None if weights is None else torch.tensor(weights))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    features, labels = drawn(20, 4, 2)
    broken = features.clone()
    broken[6, 1] = bad
    with pytest.raises(InputError, match="features of training image 7 of 20 are not finite"):
        solve(broken, labels, 2, penalty=1.0)
    with pytest.raises(InputError, match="weights of training images are not finite"):
        solve(features, labels, 2, penalty=1.0, weights=torch.where(torch.arange(20) == 6, abs(bad), 1.0))
    with pytest.raises(InputError, match="too large"):
        solve(features.double() * 1e200, labels, 2, penalty=1.0)
    with pytest.raises(InputError, match="features of validation images are not finite"):
        choose((features, labels), (broken, labels), 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"penalty": 0.0}, "penalty must be above 0"),
        ({"penalty": math.nan}, "penalty must be above 0"),
        ({"features": torch.zeros(0, 4)}, "features must be floats"),
        ({"features": torch.zeros(4, 4, dtype=torch.int64)}, "features must be floats"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels must be whole numbers"),
        ({"labels": torch.zeros(4)}, "labels must be whole numbers"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, "labels must be in 0..1, not 0..2"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, "labels must be in 0..1, not -1..1"),
        ({"weights": torch.ones(3)}, r"weights must be \[4\]"),
        ({"weights": torch.tensor([1.0, -1, 1, 1])}, "weights must be 0 or more"),
        ({"weights": torch.zeros(4)}, "weights must be 0 or more"),
        ({"start": LinearHead(torch.zeros(3, 4), torch.zeros(3), 1, 0, True, 0)}, r"start has the shape \[3, 4\], not \[2, 4\]"),
    ],
)
def test_wrong_arguments(change: dict, told: str) -> None:
    right = {"features": torch.randn(4, 4), "labels": torch.tensor([0, 1, 0, 1]), "classes": 2, "penalty": 1.0}
    with pytest.raises(ValueError, match=told):
        solve(**(right | change))


def test_the_path_is_what_single_solutions_are() -> None:
    features, labels = drawn(180, 15, 3, apart=0.4)
    train, val = (features[:120], labels[:120]), (features[120:], labels[120:])
    choice = choose(train, val, 3)
    penalties = [each.penalty for each in choice.tried]
    assert penalties == sorted(penalties, reverse=True)
    best = penalties.index(choice.best.penalty)
    assert 0 < best < len(penalties) - 1
    assert len(penalties) == min(best + 1 + PATIENCE, len(PENALTIES))
    for each in choice.tried:
        alone = probabilities(solve(*train, 3, penalty=each.penalty), val[0])
        assert each.val_loss == pytest.approx(-np.log(alone[np.arange(60), val[1]]).mean(), abs=2e-3)
        assert each.val_accuracy == pytest.approx((alone.argmax(1) == val[1].numpy()).mean(), abs=1 / 60 + 1e-9)
    assert choice.best.penalty == min(choice.tried, key=lambda each: each.val_loss).penalty


def test_the_row_goes_on_where_its_end_is_best() -> None:
    chance, other = drawn(60, 10, 2, apart=0.0), drawn(60, 10, 2, apart=0.0, seed=5)
    up = choose(chance, other, 2, penalties=(1e-3, 1e-2))
    assert up.best.penalty > 0.02
    assert all(a.penalty / b.penalty == pytest.approx(10) for a, b in zip(up.tried, up.tried[1:], strict=False))
    easy = drawn(60, 10, 2, apart=9.0)
    down = choose(easy, easy, 2, penalties=(1.0,))
    assert down.tried[-1].penalty == pytest.approx(1e-8, rel=0.1)
    assert down.best is not None
    assert down.tried[-1].val_accuracy == 1


def test_validation_images_of_classes_that_were_not_trained_do_not_count() -> None:
    train, val = drawn(60, 10, 2), drawn(30, 10, 3)
    known = val[1] < 2
    found = choose(train, val, 3)
    assert found.tried == choose(train, (val[0][known], val[1][known]), 3).tried
    with pytest.raises(InputError, match="no validation image is of a class that has training images"):
        choose(train, (val[0][~known], val[1][~known]), 3)


def test_no_penalties() -> None:
    with pytest.raises(ValueError, match="no penalties"):
        choose(drawn(10, 3, 2), drawn(10, 3, 2), 2, penalties=())


def test_the_penalty_without_validation() -> None:
    assert [fallback_penalty(images) for images in (0, 1, 100, 1000)] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])
