"""What a model makes of classes, against a loop over the images in float64; and what is kept where numbers are extreme."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from cnncli.errors import CnnError, InputError
from cnncli.visualize.classes import ClassView, class_views, own_saliency


def net() -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 3 * 4, 3)]
    return nn.Sequential(*layers).double()


def batches(images: Tensor, labels: Tensor, rows: Tensor, size: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    parts = [slice(first, first + size) for first in range(0, len(rows), size)]
    return [(images[part], labels[part], rows[part]) for part in parts]


@pytest.mark.parametrize("size", [1, 4, 5, 20])
def test_image_by_image(size: int) -> None:
    """Classes 0 and 2, cut by the batches or not; an image that is there twice; a model in training mode, which is as it was."""
    model, images = net(), torch.randn(14, 2, 5, 6).double()
    images[6] = images[2]
    images[9] *= 50  # its gradient must not outweigh the others'
    labels = torch.tensor([0] * 8 + [2] * 6)
    rows = torch.randperm(14) + 100
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    views = list(class_views(model, batches(images, labels, rows, size)))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "no statistic of batch norm moved"
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    assert [view.label for view in views] == [0, 2]
    for view in views:
        kept = []
        mean = torch.zeros(5, 6).double()
        own = [place for place in range(14) if labels[place] == view.label]
        for place in own:
            image = images[place].clone().requires_grad_()
            scores = model(image[None])[0]
            (gradient,) = torch.autograd.grad(scores[view.label], image)
            largest = torch.maximum(gradient[0].abs(), gradient[1].abs())
            mean += largest / (largest.sum() / 30) / len(own)
            shares = (scores.exp() / scores.exp().sum()).tolist()
            kept.append((-round(shares[view.label], 12), place, max(range(3), key=shares.__getitem__)))
        kept.sort()
        assert torch.allclose(view.saliency, mean)
        assert float(view.saliency.mean()) == pytest.approx(1)
        assert torch.allclose(view.image, torch.stack([images[place] for place in own]).mean(0))
        assert view.rows.tolist() == [int(rows[place]) for _, place, _ in kept]
        assert view.probabilities.tolist() == pytest.approx([-share for share, _, _ in kept])
        predicted = [number for _, _, number in kept]
        assert view.predicted.tolist() == predicted
        assert view.recall == pytest.approx(predicted.count(view.label) / len(own))
        wrong = Counter(number for number in predicted if number != view.label)
        assert (view.taken_for is None) == (not wrong)
        if view.taken_for is not None:
            assert wrong[view.taken_for[0]] == view.taken_for[1] == max(wrong.values())
    assert {len(set(view.predicted.tolist())) for view in views} != {1}, "some are mistaken"


class Sure(nn.Module):
    """Scores 0 and the brightness of the first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        first = images[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(first), first], 1)


def test_the_order_of_what_a_model_is_sure_of() -> None:
    """Probabilities that float32 cannot tell from 1 are still told apart; and an image of which no pixel counts is no division by 0."""
    images = torch.tensor([30.0, 33.0, 20.0, 31.0])[:, None, None, None].expand(4, 1, 2, 2)
    (view,) = class_views(Sure(), [(images, torch.ones(4, dtype=torch.int64), torch.arange(4))])
    assert view.rows.tolist() == [1, 3, 0, 2]
    assert view.saliency.tolist() == [[4, 0], [0, 0]]
    (view,) = class_views(Sure(), [(images, torch.zeros(4, dtype=torch.int64), torch.arange(4))])
    assert view.rows.tolist() == [2, 0, 3, 1]
    assert (view.recall, view.taken_for) == (0.0, (1, 4))
    assert view.saliency.tolist() == [[0, 0], [0, 0]]


def view_of(predicted: list[int], label: int = 1) -> ClassView:
    count = len(predicted)
    return ClassView(label, torch.zeros(1, 2, 2), torch.zeros(2, 2), torch.arange(count), torch.ones(count), torch.tensor(predicted))


@pytest.mark.parametrize(
    ("images", "count", "best", "worst"),
    [(1, 5, [0], []), (2, 5, [0], [1]), (5, 3, [0, 1, 2], [4, 3]), (6, 3, [0, 1, 2], [5, 4, 3]), (9, 2, [0, 1], [8, 7])],
)
def test_no_image_is_both(images: int, count: int, best: list[int], worst: list[int]) -> None:
    view = view_of([1] * images)
    assert (list(view.best(count)), list(view.worst(count))) == (best, worst)


@pytest.mark.parametrize(("predicted", "found"), [([1, 1], None), ([1, 2, 0, 2, 1, 1], (2, 2)), ([3, 0, 3, 0], (0, 2))])
def test_taken_for(predicted: list[int], found: tuple[int, int] | None) -> None:
    assert view_of(predicted).taken_for == found


def test_what_is_refused() -> None:
    images = torch.zeros(2, 1, 2, 2)
    with pytest.raises(CnnError, match="class 0 behind those of class 1"):
        list(class_views(Sure(), batches(images, torch.tensor([1, 0]), torch.arange(2), 1)))
    with pytest.raises(InputError, match="not finite"):
        own_saliency(Sure(), images + torch.inf, torch.tensor([0, 0]))
    assert list(class_views(Sure(), [])) == []
