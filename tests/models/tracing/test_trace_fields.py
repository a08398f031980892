"""Receptive fields of traced models against the pixels that a gradient reaches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.arch.receptive import Axis, Field
from cnncli.models.tracing import flow
from cnncli.models.tracing.trace import trace


def seen_pixels(model: nn.Module, x: Tensor) -> Callable[[tuple[int, ...]], tuple[list[int], list[int]]]:
    """For a unit of the output, the rows and columns of the pixels on which it depends, by its gradient."""
    out = model(x)

    def seen(index: tuple[int, ...]) -> tuple[list[int], list[int]]:
        (gradient,) = torch.autograd.grad(out[(0, *index)], x, retain_graph=True)
        hit = gradient[0].abs().sum(0) > 0
        return hit.any(1).nonzero().flatten().tolist(), hit.any(0).nonzero().flatten().tolist()

    return seen


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mlp, self.after = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 4), nn.Conv2d(4, 4, 3)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        count, channels, height, width = x.shape
        x = self.mlp(self.norm(x.flatten(2).transpose(1, 2))) + 1
        return self.after(x.transpose(1, 2).reshape(count, channels, height, width))


class LastAxis(nn.Module):
    """ConvNeXt's way: channels moved behind the image and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mlp = nn.Conv2d(3, 4, 5, 1, 2), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + self.conv(x)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        count, _, height, width = x.shape
        x = x.view(count, 2, 2, height, width).transpose(1, 2).reshape(count, 4, height, width)
        one, three = x.split([1, 3], 1)
        return torch.cat([self.two(one), self.three(three)], 1)


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.pad(self.one(x)[:, :, 1::2, ::3], (1, 1, 2, 0)))


class Axial(nn.Module):
    """Attention along the rows alone: a unit sees the width of the image and a part of its height."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        return F.scaled_dot_product_attention(x, x, x).permute(0, 3, 1, 2)


class Nearest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.interpolate(self.one(x), scale_factor=2))


MAPS = {kind.__name__: kind for kind in (Tokens, LastAxis, Shuffle, Cut)}


@pytest.mark.parametrize("name", MAPS)
def test_fields_on_a_map_are_the_pixels_that_gradients_reach(name: str) -> None:
    """For every unit: what it depends on lies in its field, and fills it where the field lies in the image."""
    torch.manual_seed(0)
    model = MAPS[name]().double()
    x = torch.randn(1, 3, 15, 18, dtype=torch.float64, requires_grad=True)
    field = trace(model, (3, 15, 18))[-1].field
    assert field is not None
    out, seen, inside = model(x), seen_pixels(model, x), 0
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            for axis, index, side, pixels in zip(field, (row, column), (15, 18), seen((0, row, column)), strict=True):
                middle = axis.start + index * axis.jump
                first, last = middle - (axis.size - 1) / 2, middle + (axis.size - 1) / 2
                assert not pixels or (first <= pixels[0] and pixels[-1] <= last)
                if first >= 0 and last < side:
                    assert (pixels[0], pixels[-1]) == (first, last)
                    inside += 1
    assert inside > 4


def test_attention_along_one_axis() -> None:
    field = trace(Axial(), (3, 15, 18))[-1].field
    assert field is not None
    assert (field.height.size, field.height.jump, field.width.size) == (3, 1, 18)
    x = torch.randn(1, 3, 15, 18, dtype=torch.float64, requires_grad=True)
    assert seen_pixels(Axial().double(), x)((0, 4, 5)) == ([4, 5, 6], list(range(18)))


def test_field_behind_resizing_to_the_nearest() -> None:
    """Pairs of units see the same: the size is exact, the distance between units is a mean."""
    torch.manual_seed(0)
    model = Nearest().double()
    field = trace(model, (3, 15, 15))[-1].field
    assert field is not None
    assert (field.height.size, field.height.jump, field.height.start) == (3, 1, 1)
    x = torch.randn(1, 3, 15, 15, dtype=torch.float64, requires_grad=True)
    assert {len(seen_pixels(model, x)((0, row, 4))[0]) for row in range(14)} == {3}


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.after = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.after(x * self.squeeze(F.adaptive_avg_pool2d(x, 1)).sigmoid())


def test_windows_over_units_that_see_the_same_see_no_more() -> None:
    multiply, after = trace(SqueezeExcite(), (3, 9, 9))[-2:]
    assert multiply.receptive_field == after.receptive_field == (11, 11)


def test_the_jump_is_that_of_the_map_and_not_of_what_scales_it() -> None:
    """However many times a map is scaled by something pooled from it, its units stay as far apart as they are."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), SqueezeExcite(), SqueezeExcite()
            for block in (self.one, self.two):
                block.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(self.down(x)))

    rows = {row.name: row for row in trace(Twice(), (3, 18, 18))}
    assert [rows[name].jump for name in ("down", "one.multiply", "two.multiply", "two.after")] == [(2, 2)] * 4
    assert rows["two.squeeze"].jump == (18, 18)


def test_a_map_with_less_than_it_sees_broadcast_onto_it() -> None:
    """What every unit shares hides the differences between units only where it holds all that they see."""
    axis, near = Axis(3, 1, 0.0), flow.Sight(Field(), (2, 3), (6, 6))
    own = flow.Sight(Field(axis, axis), (2, 3), (6, 6))  # pixels -1 to 6 together
    shapes = (1, 4, 6, 6), (1, 4, 1, 1)
    all_of_it, part_of_it = (flow.mix_all(sight) for sight in (own, near))
    hidden = flow.combine([(own, shapes[0]), (all_of_it, shapes[1])], shapes[0])
    assert (hidden.grid, hidden.field.height.size, hidden.field.height.jump) == ((1, 1), 8, 1)
    seen = flow.combine([(own, shapes[0]), (part_of_it, shapes[1])], shapes[0])
    assert (seen.grid, seen.field.height.size, seen.field.height.jump) == ((6, 6), 7, 1)


class SpatialNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class ByHand(nn.Module):
    """Attention written out: scores, softmax, values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.query, self.key = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        scores = (self.query(x) @ self.key(x).transpose(-2, -1)) * 0.5 + 0.1
        return scores.softmax(-1) @ x


class OverChannels(nn.Module):
    """Attention between channels, which sums over all tokens (XCiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2)
        return (x @ x.transpose(-2, -1)).softmax(-1)


class Attention(nn.Module):
    """Patches, a class token, positions, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(1, 17, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x[:, 0])


@pytest.mark.parametrize("kind", [SqueezeExcite, SpatialNorm, ByHand, OverChannels, Attention])
def test_what_mixes_the_image_sees_all_of_it(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    side = 16 if kind is Attention else 9
    model = kind().double()
    if kind is Attention:
        nn.init.normal_(model.token)
    field = trace(model, (3, side, side))[-1].field
    assert field is not None
    assert field.height.start - (field.height.size - 1) / 2 <= 0
    assert field.height.start + (field.height.size - 1) / 2 >= side - 1
    x = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    out = model(x)
    rows, columns = seen_pixels(model, x)(tuple(0 for _ in out.shape[1:]))
    assert rows == columns == list(range(side))


class Windows(nn.Module):
    """Windows of tokens, as Swin cuts them: no single field says what a unit sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1).reshape(-1, 2, 4, 2, 4, 4)
        x = self.mix(x.permute(0, 1, 3, 5, 2, 4).flatten(4))
        return x.unflatten(-1, (4, 4)).permute(0, 3, 1, 4, 2, 5).reshape(-1, 4, 8, 8)


def test_a_field_is_never_guessed() -> None:
    conv, mix = trace(Windows(), (3, 8, 8))
    assert (conv.receptive_field, mix.field) == ((3, 3), None)
    uneven = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Upsample(size=(10, 14)))
    assert [row.field is None for row in trace(uneven, (3, 9, 9))] == [False, True]
    grown = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 3, 2, 2), nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1))
    assert [row.field is None for row in trace(grown, (3, 9, 9))] == [False, True, True, True]
