"""The receptive field against the gradient: which input pixels really reach one output unit.

Every weight is positive and every pooling averages, so no two paths cancel and a pixel is in the field exactly where the
gradient of the unit is not zero.
"""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from cnncli.arch.blocks import Chain, Concat, Dense, Part, Residual, chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool, ShapeError, SubsamplePad
from cnncli.arch.net import Net, walk
from cnncli.arch.pointwise import Activation, BatchNorm, LocalResponseNorm
from cnncli.arch.receptive import Axis, Field, union
from cnncli.arch.window import Window
from cnncli.models.assemble import assemble

SIDES = (96, 104)


def positive(net: Net) -> nn.Module:
    """The model in float64 with weights in 0.5..1, and averages where it takes maxima (a maximum has a gradient at one pixel alone)."""
    model = assemble(net).double().eval()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) / 2 + 0.5)
            if parameter.ndim > 1:
                parameter /= parameter[0].numel()
    return model


def seen_pixels(output: torch.Tensor, image: torch.Tensor, i: int, j: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row, first and last column of the image with a gradient at unit (i, j), over all channels."""
    (gradient,) = torch.autograd.grad(output[0, :, i, j].sum(), image, retain_graph=True)
    rows, columns = (gradient[0] != 0).any(0).any(1).nonzero()[:, 0], (gradient[0] != 0).any(0).any(0).nonzero()[:, 0]
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def check(net: Net) -> None:
    model = positive(net)
    image = torch.rand(1, *net.input, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    image.requires_grad_()
    outputs: dict[str, torch.Tensor] = {}
    rows = walk(net)
    for row in rows:
        model.get_submodule(row.name).register_forward_hook(lambda m, x, y, name=row.name: outputs.update({name: y.clone()}))
    model(image)
    compared = 0
    for row in rows:
        if len(row.output) != 3 or min(row.output[1:]) < 3:
            continue
        output = outputs[row.name]
        middle = row.output[1] // 2, row.output[2] // 2
        here = seen_pixels(output, image, *middle)
        next_one = seen_pixels(output, image, middle[0] + 1, middle[1] + 1)
        for axis, unit, side, (first, last), (next_first, next_last) in zip(row.field, middle, net.input[1:], here, next_one, strict=True):
            if first == 0 or next_last == side - 1:
                continue  # cut by the border: nothing to measure
            compared += 1
            centre = axis.start + unit * axis.jump
            assert last - first + 1 == axis.size, row
            assert (first + last) / 2 == centre, row
            assert next_first - first == next_last - last == axis.jump, row
    assert compared >= 4


def random_part(rng: Random, now: int) -> tuple[Part, int]:
    kind = rng.choice(("conv", "pool", "norm", "residual", "concat", "dense"))
    if kind == "conv":
        kernel = rng.randint(1, 4), rng.randint(1, 4)
        dilation = rng.randint(1, 2)
        return Conv(2, kernel=kernel, stride=rng.choice((1, 1, 2)), padding=rng.randint(0, 2), dilation=dilation), 2
    if kind == "pool":
        kernel = rng.randint(2, 4)
        ceil = rng.random() < 0.5
        return Pool(
            rng.choice(("max", "average")), kernel=kernel, stride=rng.randint(1, 2), padding=rng.randint(0, kernel // 2), ceil=ceil
        ), now
    if kind == "norm":
        return rng.choice((chain(bn=BatchNorm(), relu=Activation()), LocalResponseNorm(size=3))), now
    if kind == "residual":
        stride, reach = rng.choice((1, 2)), rng.randint(0, 2)
        body = chain(
            conv1=Conv(3, kernel=3, stride=stride, padding=1),
            relu=Activation(),
            conv2=Conv(3 if stride > 1 else now, kernel=2 * reach + 1, padding=reach * 2, dilation=2),
        )
        shortcut = rng.choice((SubsamplePad(max(3, now), stride=2), Conv(3, kernel=1, stride=2))) if stride > 1 else None
        if isinstance(shortcut, SubsamplePad) and now > 3:
            shortcut = Conv(3, kernel=1, stride=2)
        return Residual(body, shortcut=shortcut), 3 if stride > 1 else now
    if kind == "dense":
        return Dense((("a", Conv(2, kernel=3, padding=1)), ("b", Conv(1, kernel=(1, 5), padding=(0, 2))))), now + 3
    if rng.random() < 0.5:  # branches whose fields differ in size and, with stride 2, in their centres
        four = Conv(1, kernel=4, stride=2, padding=1)
        return Concat((("one", Conv(1, kernel=1, stride=2)), ("two", Pool("average", kernel=2)), ("four", four))), now + 2
    deep = chain(reduce=Conv(2, kernel=1), conv=Conv(2, kernel=3, padding=1), wide=Conv(1, kernel=(1, 7), padding=(0, 3)))
    return Concat((("one", Conv(1, kernel=1)), ("deep", deep))), 2


@pytest.mark.parametrize("seed", range(60))
def test_random_nets(seed: int) -> None:
    rng = Random(seed)
    while True:
        parts: list[tuple[str, Part]] = []
        now = 2
        for number in range(rng.randint(2, 4)):
            part, now = random_part(rng, now)
            parts.append((f"part{number}", part))
        net = Net("random", Chain((*parts, ("last", Conv(1, kernel=1)))), (2, *SIDES), 1)
        try:
            walk(net)
        except ShapeError:  # branches with a stride meet only on even sizes: draw again
            continue
        return check(net)


def test_branches_with_other_centres() -> None:
    """A 1x1 convolution with stride 2 looks at pixel 2i, a 2x2 pooling at 2i and 2i + 1, a 4x4 one at 2i - 1 to 2i + 2."""
    branches = Concat((("one", Conv(1, kernel=1, stride=2)), ("two", Pool("max", kernel=2))))
    net = Net("n", chain(branches=branches), (1, 40, 40), 1)
    field = walk(net)[-1].field
    assert field.height == Axis(size=2, jump=2, start=0.5)
    check(Net("n", chain(branches=branches, conv=Conv(1, kernel=3, padding=1)), (1, *SIDES), 1))


def test_global_pooling_and_flatten_see_everything() -> None:
    for head in (chain(pool=AdaptivePool(), flatten=Flatten()), chain(flatten=Flatten())):
        net = Net("n", chain(conv=Conv(2, kernel=3), head=head, fc=Linear(3)), (1, 12, 9), 3)
        model = positive(net)
        image = torch.rand(1, 1, 12, 9, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(image)[0, 1], image)
        assert (gradient != 0).all()
        assert walk(net)[-1].receptive_field == (12, 9)


def test_adaptive_pooling_that_divides_evenly() -> None:
    check(Net("n", chain(conv=Conv(2, kernel=3, padding=1), pool=AdaptivePool(size=(12, 13)), out=Conv(1, kernel=3)), (1, *SIDES), 1))


def test_one_layer_by_hand() -> None:
    """Dumoulin & Visin: r' = r + (span - 1) j, j' = j S, s' = s + ((span - 1)/2 - P) j."""
    axis = Axis(size=5, jump=4, start=1.0).through(Window(3, 2, 1, 2))
    assert axis == Axis(size=5 + 4 * 4, jump=8, start=1.0 + (2 - 1) * 4)
    assert Field().through(None) == Field()
    assert union([Field(Axis(3, 1, 0.0), Axis(1, 1, 0.0)), Field(Axis(1, 1, 0.0), Axis(7, 1, 0.0))]) == Field(Axis(3), Axis(7))
