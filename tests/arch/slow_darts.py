"""The evaluation nets of DARTS (Liu et al. 2018) a second time: plain modules with loops, slow, to hold ours against.

A genotype here is a list of (operation, state) pairs, two for each node; states 0 and 1 are the outputs of the two cells before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Plan = Sequence[tuple[str, int]]

FIRST_ORDER: tuple[Plan, Plan] = (
    [("sep", 1), ("sep", 0), ("skip", 0), ("sep", 1), ("skip", 0), ("sep", 1), ("sep", 0), ("skip", 2)],
    [("max", 0), ("max", 1), ("skip", 2), ("max", 0), ("max", 0), ("skip", 2), ("skip", 2), ("avg", 0)],
)
SECOND_ORDER: tuple[Plan, Plan] = (
    [("sep", 0), ("sep", 1), ("sep", 0), ("sep", 1), ("sep", 1), ("skip", 0), ("skip", 0), ("dil", 2)],
    [("max", 0), ("max", 1), ("skip", 2), ("max", 1), ("max", 0), ("skip", 2), ("skip", 2), ("max", 1)],
)


class Reduce(nn.Module):
    """Half of the channels from the pixels at (0, 0), (0, 2), ..., half from those at (1, 1), (1, 3), ..."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(into, out // 2, 1, stride=2, bias=False)
        self.b = nn.Conv2d(into, out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(min=0)
        normed: Tensor = self.bn(torch.cat((self.a(x), self.b(x[:, :, 1:, 1:])), 1))
        return normed


def project(into: int, out: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out))


def halving(into: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out)


def separable(c: int, stride: int, dilation: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(c, c, 3, stride, padding=dilation, dilation=dilation, groups=c, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)]


def operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "sep":
        return nn.Sequential(*separable(c, stride, 1), *separable(c, 1, 1))
    if name == "dil":
        return nn.Sequential(*separable(c, stride, 2))
    if name == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return nn.Identity() if stride == 1 else Reduce(c, c)


class Cell(nn.Module):
    def __init__(self, plan: Plan, before: int, last: int, c: int, *, reduces: bool, behind_reduction: bool) -> None:
        super().__init__()
        self.project0 = Reduce(before, c) if behind_reduction else project(before, c)
        self.project1 = project(last, c)
        self.reads = [state for _, state in plan]
        self.operations = nn.ModuleList(operation(name, c, 2 if reduces and state < 2 else 1) for name, state in plan)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [self.project0(before), self.project1(last)]
        for i in range(0, len(self.reads), 2):
            left, right = (self.operations[j](states[self.reads[j]]) for j in (i, i + 1))
            states.append(left + right)
        return torch.cat(states[2:], 1)


class SlowDarts(nn.Module):
    """As in the paper: the cells at a third and at two thirds of the depth are reduction cells and double the channels."""

    def __init__(self, plans: tuple[Plan, Plan], c: int, cells: int, classes: int, *, imagenet: bool) -> None:
        super().__init__()
        self.imagenet = imagenet
        if imagenet:
            self.stem0 = nn.Sequential(*halving(3, c // 2), nn.ReLU(), *halving(c // 2, c))
            self.stem1 = nn.Sequential(nn.ReLU(), *halving(c, c))
        else:
            self.stem0 = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))
        before = last = c if imagenet else 3 * c
        behind_reduction = imagenet
        self.cells = nn.ModuleList()
        for i in range(cells):
            reduces = i in (cells // 3, 2 * cells // 3)
            c = 2 * c if reduces else c
            self.cells.append(Cell(plans[reduces], before, last, c, reduces=reduces, behind_reduction=behind_reduction))
            before, last, behind_reduction = last, 4 * c, reduces
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        before = self.stem0(x)
        last = self.stem1(before) if self.imagenet else before
        for cell in self.cells:
            before, last = last, cell(before, last)
        scores: Tensor = self.classifier(last.mean((2, 3)))
        return scores
