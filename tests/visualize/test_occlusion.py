"""Covered images and integrated gradients, against Captum and written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble
from cnncli.visualize.integrated import integrated_gradients
from cnncli.visualize.occlusion import occlusion, spread


@pytest.fixture(scope="module")
def model() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = build("lenet5")
    return assemble(net).double().eval(), torch.randn(2, *net.input, dtype=torch.float64)


@pytest.mark.parametrize(("size", "stride"), [(8, 8), (7, 5), (32, 1), (1, 16)])
def test_every_square_by_hand(model: tuple[nn.Module, Tensor], size: int, stride: int) -> None:
    made, images = model
    found = occlusion(made, images[0], size=size, stride=stride, number=4, grey=torch.tensor([0.3], dtype=torch.float64), batch=3)
    with torch.no_grad():
        assert found.whole == pytest.approx(float(made(images[:1]).softmax(1)[0, 4]))
        for row, top in enumerate(found.tops):
            for column, left in enumerate(found.lefts):
                covered = images[:1].clone()
                covered[0, :, top : top + size, left : left + size] = 0.3
                scores = made(covered).softmax(1)[0]
                assert float(found.probabilities[row, column]) == pytest.approx(float(scores[4]), abs=1e-12)
                assert int(found.predicted[row, column]) == int(scores.argmax())
    assert found.tops[0] == 0
    assert found.tops[-1] + size == 32, "the far edge is covered too"


def test_what_covers_a_pixel_is_averaged(model: tuple[nn.Module, Tensor]) -> None:
    made, images = model
    found = occlusion(made, images[0], size=16, stride=8)
    assert found.number == int(made(images[:1]).argmax())
    drops = spread(found, 32, 32, 16)
    rows = [row for row, top in enumerate(found.tops) if top <= 10 < top + 16]
    columns = [column for column, left in enumerate(found.lefts) if left <= 20 < left + 16]
    squares = [(row, column) for row in rows for column in columns]
    by_hand = sum(found.whole - float(found.probabilities[r, c]) for r, c in squares) / len(squares)
    assert float(drops[10, 20]) == pytest.approx(by_hand, abs=1e-6)


def test_a_square_that_is_too_large(model: tuple[nn.Module, Tensor]) -> None:
    with pytest.raises(UsageError, match="--size 33: the image has 32 x 32 pixels; 1 to 32"):
        occlusion(model[0], model[1][0], size=33, stride=4)


def test_integrated_gradients_are_captums(model: tuple[nn.Module, Tensor]) -> None:
    attr = pytest.importorskip("captum.attr")
    made, images = model
    baseline = torch.full((1, 32, 32), -1.0, dtype=torch.float64)
    ours = integrated_gradients(made, images, baseline, number=2, steps=20)
    theirs = attr.IntegratedGradients(made).attribute(images, baseline.expand_as(images), target=2, n_steps=20, method="riemann_middle")
    assert torch.allclose(ours.pixels, theirs, atol=1e-10)


def test_what_pixels_add_is_the_score(model: tuple[nn.Module, Tensor]) -> None:
    """Completeness: the sum is the difference of the scores, the closer the more steps there are."""
    made, images = model
    baseline = torch.zeros(1, 32, 32, dtype=torch.float64)
    coarse, fine = (integrated_gradients(made, images, baseline, steps=steps) for steps in (2, 64))
    assert float(fine.gaps.abs().max()) < 1e-3 * float(fine.scores.abs().max())
    assert float(fine.gaps.abs().max()) < float(coarse.gaps.abs().max())
    assert fine.classes.tolist() == made(images).argmax(1).tolist()
