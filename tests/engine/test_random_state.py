"""Every generator that code of a net may use goes on where it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from cnncli.engine.precision import kept_random_state
from cnncli.engine.random_state import random_state, seed_all, set_random_state

CPU = torch.device("cpu")


def drawn() -> list[float]:
    """From each generator, an odd count of normal numbers: numpy and Python keep the second of a pair for later."""
    return [
        *torch.randn(3).tolist(),
        *(random.gauss(0, 1) for _ in range(3)),
        random.random(),
        *(np.random.standard_normal() for _ in range(3)),  # noqa: NPY002
        float(np.random.randint(1000)),  # noqa: NPY002
    ]


@pytest.mark.parametrize("before", [0, 1, 2, 700])
def test_round_trip(before: int) -> None:
    seed_all(5)
    for _ in range(before):
        torch.rand(3), random.gauss(0, 1), np.random.standard_normal()  # noqa: NPY002
    states = {name: tensor.clone() for name, tensor in random_state(CPU).items()}
    expected = drawn()
    seed_all(6)
    drawn()
    set_random_state(states, CPU)
    assert drawn() == expected


def test_shapes_and_types_do_not_change() -> None:
    """Those of several processes are stacked."""
    seed_all(0)
    one = {name: (tensor.shape, tensor.dtype) for name, tensor in random_state(CPU).items()}
    drawn()
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in random_state(CPU).items()} == one


def test_seeds() -> None:
    def of(seed: int, rank: int) -> list[float]:
        seed_all(seed, rank)
        return drawn()

    assert of(1, 0) == of(1, 0)
    assert len({tuple(of(seed, rank)) for seed in (0, 1, 2**31 - 1) for rank in (0, 1, 2)}) == 9


def test_kept_also_after_an_error() -> None:
    seed_all(3)
    expected = drawn()
    seed_all(3)
    with pytest.raises(ValueError, match="x"), kept_random_state():
        seed_all(9)
        drawn()
        raise ValueError("x")
    assert drawn() == expected
