"""The shift, by hand and against the gradient; tests/arch/test_agreement.py holds its sizes against torch."""

from __future__ import annotations

import torch
from test_receptive import SIDES, check

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net, walk
from cnncli.arch.shift import Shift


def test_field_of_a_shift() -> None:
    for pixels in (1, 3):
        net = Net("n", chain(conv=Conv(2, kernel=3, stride=2), shift=Shift(pixels), last=Conv(1, kernel=3, stride=2)), (2, *SIDES), 1)
        rows = {row.name: row for row in walk(net)}
        assert rows["shift"].start == (1.0 + 2 * pixels, 1.0 + 2 * pixels)  # the middle of the first window, moved by whole jumps
        check(net)


def test_a_shift_moves_up_and_left() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert Shift(2).build((1, 3, 4))(image)[0, 0].tolist() == [[10, 11, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
