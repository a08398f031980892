"""Parameters and MACs of NASNet, PNASNet and AmoebaNet counted a second time, from their authors' own encoding of the cells.

Sources: the encodings and rules of the published TensorFlow code (slim's nasnet and pnasnet, and the code of Real et al. 2018).
State 0 is the last cell's output, state 1 the one before; a cell has ten operations, two for each node, the states that they
read, and flags for the states that the output leaves out. Nothing is built: a tensor is (channels, side), and a convolution
adds to two sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Tensor = tuple[int, int]  # channels, side


class Encoding(NamedTuple):
    operations: str
    reads: tuple[int, ...]
    left_out: tuple[int, ...]


NASNET_NORMAL = Encoding("sep5 sep3 sep5 sep3 avg none avg avg sep3 none", (0, 1, 1, 1, 0, 1, 1, 1, 0, 0), (1, 0, 0, 0, 0, 0, 0))
NASNET_REDUCE = Encoding("sep5 sep7 max sep7 avg sep5 none avg sep3 max", (0, 1, 0, 1, 0, 1, 3, 2, 2, 0), (1, 1, 1, 0, 0, 0, 0))
PNASNET = Encoding("sep5 max sep7 max sep5 sep3 sep3 max sep3 none", (1, 1, 0, 0, 0, 0, 4, 0, 1, 0), (1, 1, 0, 0, 0, 0, 0))
AMOEBA_NORMAL = Encoding("avg max sep3 none none avg sep3 sep5 avg sep3", (0, 0, 1, 1, 0, 1, 0, 2, 5, 0), (1, 0, 1, 0, 0, 1, 0))
AMOEBA_REDUCE = Encoding("sep3 avg max sep7 max max sep3 1x7 avg sep7", (1, 0, 0, 2, 1, 0, 4, 0, 1, 0), (1, 1, 0, 0, 0, 0, 0))


@dataclass
class Count:
    """Sums over a net, convolution by convolution."""

    params: int = 0
    macs: int = 0

    def conv(self, x: Tensor, filters: int, area: int, stride: int = 1, *, depthwise: bool = False, norm: bool = True) -> Tensor:
        """A convolution that keeps the side (or halves it, rounded up), with a batch norm behind it."""
        weights = area * filters * (1 if depthwise else x[0])
        side = -(-x[1] // stride)
        self.params += weights + (2 * filters if norm else 0)
        self.macs += weights * side * side
        return filters, side

    def halve_in_two_paths(self, x: Tensor, filters: int) -> Tensor:
        self.conv(x, filters // 2, 1, 2, norm=False)
        _, side = self.conv(x, filters - filters // 2, 1, 2, norm=False)
        self.params += 2 * filters
        return filters, side

    def operation(self, kind: str, x: Tensor, filters: int, stride: int) -> Tensor:
        if kind.startswith("sep"):
            for s in (stride, 1):
                x = self.conv(x, x[0], int(kind[3:]) ** 2, s, depthwise=True, norm=False)
                x = self.conv(x, filters, 1)
            return x
        if kind == "1x7":
            y = self.conv(x, filters // 4, 1)
            weights = 7 * y[0] * y[0]
            half = -(-y[1] // stride)
            self.params += 2 * weights + 4 * y[0]
            self.macs += weights * y[1] * half + weights * half * half  # the row convolution halves the width alone
            return self.conv((y[0], half), filters, 1)
        if kind == "none":
            return x if stride == 1 and x[0] == filters else self.conv(x, filters, 1, stride)
        x = x[0], -(-x[1] // stride)
        return x if x[0] == filters else self.conv(x, filters, 1)

    def cell(self, plan: Encoding, last: Tensor, before: Tensor | None, filters: int, stride: int) -> Tensor:
        if before is None:
            before = last
        elif before[1] != last[1]:
            before = self.halve_in_two_paths(before, filters)
        elif before[0] != filters:
            before = self.conv(before, filters, 1)
        states = [self.conv(last, filters, 1), before]
        kinds = plan.operations.split()
        for i in range(0, 10, 2):
            left, right = (self.operation(kinds[j], states[plan.reads[j]], filters, stride if plan.reads[j] < 2 else 1) for j in (i, i + 1))
            assert left == right
            states.append(left)
        taken = [state for state, out in zip(states, plan.left_out, strict=True) if not out]
        for state in taken:
            if state != states[-1]:
                assert state[1] == states[-1][1]  # halved inputs in an output occur in none of these cells
                self.conv(state, filters, 1)
        return filters * len(taken), states[-1][1]


def count(normal: Encoding, reduce: Encoding, filters: int, cells: int, stem: int, side: int, classes: int) -> tuple[int, int]:
    """(parameters, MACs). `cells` counts reduction cells; side 32 gets the CIFAR stem, any other the ImageNet one."""
    sums = Count()
    outputs: list[Tensor | None] = [None]
    if side == 32:
        outputs.append(sums.conv((3, 32), stem, 9))
    else:
        conv0 = (side - 3) // 2 + 1
        sums.params += 27 * stem + 2 * stem
        sums.macs += 27 * stem * conv0 * conv0
        outputs.append((stem, conv0))
        for scale in (4, 2):
            last = outputs[-1]
            assert last is not None
            outputs.append(sums.cell(reduce, last, outputs[-2], filters // scale, 2))
    for number in range(cells):
        last = outputs[-1]
        assert last is not None
        reduces = number in (cells // 3, 2 * cells // 3)
        filters *= 2 if reduces else 1
        outputs.append(sums.cell(reduce if reduces else normal, last, outputs[-2], filters, 2 if reduces else 1))
    last = outputs[-1]
    assert last is not None
    return sums.params + last[0] * classes + classes, sums.macs + last[0] * classes
