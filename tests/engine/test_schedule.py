"""The learning rate against formulas, against torch's schedulers, and its shape whatever the settings."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cnncli.engine.config import SCHEDULES, OptimConfig
from cnncli.engine.schedule import rate


def rates(steps: int, *, steps_per_epoch: float = 1.0, **settings: object) -> list[float]:
    config = OptimConfig(**settings)
    return [rate(step, steps, config, steps_per_epoch=steps_per_epoch) for step in range(steps)]


def torchs(steps: int, make) -> list[float]:
    """What a scheduler of torch sets, with a peak of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer)
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return found


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 97, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_formula(steps: int, warmup: float, final: float) -> None:
    """Linear up to the peak, then eta = eta_min + (1 - eta_min) (1 + cos(pi t / T)) / 2 (Loshchilov & Hutter 2017, equation 5)."""
    rising = round(warmup * steps)
    for step, found in enumerate(rates(steps, warmup=warmup, final_lr=final)):
        if step < rising:
            expected = (step + 1) / rising
        else:
            expected = final + (1 - final) * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("steps", [2, 10, 97])
@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_is_torchs(steps: int, final: float) -> None:
    expected = torchs(steps, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps, eta_min=final))
    assert rates(steps, schedule="cosine", warmup=0, final_lr=final) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("schedule", "power"), [("linear", 1.0), ("polynomial", 2.0), ("polynomial", 0.9)])
def test_falls_are_torchs(schedule: str, power: float) -> None:
    expected = torchs(50, lambda o: torch.optim.lr_scheduler.PolynomialLR(o, total_iters=50, power=power))
    settings = {"power": power} if schedule == "polynomial" else {}
    assert rates(50, schedule=schedule, warmup=0, **settings) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("steps", "rise"), [(10, 0.3), (100, 0.3), (97, 0.25), (40, 0.5), (1000, 0.1)])
def test_one_cycle_is_torchs(steps: int, rise: float) -> None:
    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps, pct_start=rise, cycle_momentum=False)

    assert rates(steps, schedule="one-cycle", warmup=rise) == pytest.approx(torchs(steps, make)[:steps], rel=1e-9)
    if rise == 0.3:
        assert rates(steps, schedule="one-cycle") == rates(steps, schedule="one-cycle", warmup=0.3)


@pytest.mark.parametrize(
    ("milestones", "places"), [("0.5,0.75", (30, 45)), ("2,4,5", (20, 40, 50)), ("0.331", (20,)), ("0.999", (60,)), ("600", (6000,))]
)
def test_steps_are_torchs(milestones: str, places: tuple[int, ...]) -> None:
    """Shares are of the whole training; numbers from 1 on are epochs."""
    expected = torchs(60, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, places, gamma=0.3))
    found = rates(60, schedule="step", warmup=0, milestones=milestones, step_factor=0.3, steps_per_epoch=10)
    assert found == pytest.approx(expected, rel=1e-12)


def test_warm_up_is_torchs_and_comes_before_every_fall() -> None:
    for schedule in ("cosine", "constant", "step", "linear", "polynomial"):
        found = rates(100, schedule=schedule, warmup=0.2)
        linear = torchs(20, lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=1 / 20, total_iters=19))
        assert found[:20] == pytest.approx(linear, rel=1e-9)
        assert found[19] == found[20] == 1.0


def test_shape() -> None:
    found = rates(200, warmup=0.1)
    assert max(found) == 1.0
    assert found.index(1.0) == 19, "the last step of the warm-up has the peak"
    assert all(a < b for a, b in itertools.pairwise(found[:20]))
    assert all(a >= b for a, b in itertools.pairwise(found[19:]))
    assert 0 < found[-1] < 1e-3
    assert found[0] > 0, "a rate of 0 would waste the first step"
    assert rates(100)[4] == 1.0, "5 % of the steps by default"


@given(
    schedule=st.sampled_from(SCHEDULES),
    steps=st.integers(1, 3000),
    warmup=st.one_of(st.none(), st.floats(0, 1)),
    final=st.floats(0, 1),
    power=st.floats(0.01, 100),
)
def test_always_a_share_that_rises_then_falls(schedule: str, steps: int, warmup: float | None, final: float, power: float) -> None:
    places = sorted({0, 1, steps // 3, steps // 2, max(0, steps - 2), steps - 1} & set(range(steps)))
    config = OptimConfig(schedule=schedule, warmup=warmup, final_lr=final, power=power)
    found = [rate(step, steps, config) for step in places]
    assert all(0 <= share <= 1 for share in found)
    assert found[0] > 0
    top = found.index(max(found))
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(found[top:]))
    end = rate(steps, steps, config)  # one beyond the last step
    if schedule in ("cosine", "linear", "polynomial") and round((0.05 if warmup is None else warmup) * steps) < steps:
        assert end == pytest.approx(final, abs=1e-9)
    if schedule == "constant":
        assert end == 1
    if schedule == "one-cycle" and steps > 1 and (warmup is None or warmup < 1 - 1 / steps):
        assert found[-1] == pytest.approx(1 / 25 / 1e4)


@example(share=0.0625, steps=11.0, schedule="cosine")
@given(share=st.floats(0, 1), steps=st.floats(1, 1e6), schedule=st.sampled_from(SCHEDULES))
def test_estimated_steps_may_be_fractions(share: float, steps: float, schedule: str) -> None:
    assert 0 <= rate(share * steps, steps, OptimConfig(schedule=schedule), steps_per_epoch=7.5) <= 1
