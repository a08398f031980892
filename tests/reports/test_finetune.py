"""What is told of a finetuning: its plan before it begins, and its comparison."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.engine.config import TrainConfig
from cnncli.engine.intervals import Interval, wilson
from cnncli.engine.paired import Paired, compare_hits, holm
from cnncli.models.head import Head
from cnncli.reports.finetune import comparison_to_json, print_comparison, print_plan, stretches
from cnncli.transfer.chain import Cut
from cnncli.transfer.comparison import Comparison, Outcome
from cnncli.transfer.plan import Group, Stage

HEAD = Head("classifier.1", "Conv2d", 512, 1000, 5, 2565)


def stage(groups: Sequence[Group], *, number: int = 0, name: str = "classifier", cut: str | None = None, solver="sgd", **train) -> Stage:
    place = None if cut is None else Cut(cut, 1, (), ())
    return Stage(number, name, (), {}, tuple(groups), TrainConfig(**train), place, solver)


LAST = Group("classifier.1", "classifier.1", 2565, 1e-3)
TWO_STAGES = (
    stage([Group("conv1", "fire9", 722_496, None), LAST], cut="classifier.1", epochs=30),
    stage(
        [Group("conv1", "fire5", 120_000, None), Group("fire6", "fire9", 602_496, 1e-4), LAST],
        number=1,
        name="from fire6",
        cut="fire6",
        epochs=10,
    ),
)
GOLDEN = """\
squeezenet1_1, weights: ImageNet (torchvision's IMAGENET1K_V1)
classifier classifier.1: Conv2d 512 -> 1000 becomes 512 -> 5, 2,565 parameters
10 blocks before it

stage 1, classifier: 30 epochs, 2,565 parameters learn, 722,496 are frozen
  what comes before classifier.1 is computed once an image
stage 2, from fire6: 10 epochs, 605,061 parameters learn, 120,000 are frozen
  what comes before fire6 is computed once an image

layers          parameters  learns      peak rate
─────────────────────────────────────────────────
conv1 to fire5     120,000  frozen
fire6 to fire9     602,496  in stage 2     0.0001
classifier.1         2,565  always          0.001
"""


@pytest.fixture
def told(monkeypatch, capsys):
    """What `print_plan` writes to standard error; nothing goes to standard output."""

    def tell(stages, *, head: Head = HEAD, columns: int = 80, blocks: int = 10, weights: str = "random", **more) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_plan("squeezenet1_1", weights, head, stages, blocks, **more)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return tell


@pytest.mark.parametrize("colour", [False, True])
def test_plan(colour: bool, told, monkeypatch) -> None:
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert told(TWO_STAGES, weights="ImageNet (torchvision's IMAGENET1K_V1)") == GOLDEN


def test_lengths_of_stages(told) -> None:
    groups = [Group("conv1", "conv1", 10, None), LAST]
    lengths = {"steps": 500, "minutes": 1.5, "epochs": 1}
    found = told([stage(groups, number=n, name="x", **{unit: count}) for n, (unit, count) in enumerate(lengths.items())])
    assert "stage 1, x: 500 steps, 2,565" in found
    assert "stage 2, x: 1.5 minutes, 2,565" in found
    assert "stage 3, x: 1 epoch, 2,565" in found
    assert "stage 1, classifier: 30 epochs, 2,565" in told([stage(groups)]), "no length: the default number of epochs"


def test_a_solved_classifier_has_no_rate(told) -> None:
    found = told([stage([Group("conv1", "conv1", 10, None), LAST], solver="lbfgs", epochs=30)])
    assert "stage 1, classifier: solved by L-BFGS, 2,565 parameters learn, 10 are frozen" in found
    assert "epochs" not in found
    assert found.splitlines()[-1].split() == ["classifier.1", "2,565", "yes"]


def test_all_learns_and_nothing_is_kept(told) -> None:
    found = told([stage([Group("conv1", "fire9", 10, 1e-4), LAST], name="everything", epochs=2)])
    assert "stage 1, everything: 2 epochs, all 2,575 parameters learn\n" in found
    assert "computed" not in found
    assert [line.split()[-2:] for line in found.splitlines()[-2:]] == [["yes", "0.0001"], ["yes", "0.001"]]


@pytest.mark.parametrize(
    ("views", "words"),
    [(1, "once an image"), (3, "once for each of 3 views of an image"), (None, "anew in every epoch, without gradients")],
)
def test_how_often_the_frozen_part_is_computed(views, words: str, told) -> None:
    found = " ".join(told(TWO_STAGES[:1], views=views).split())
    assert f"722,496 are frozen what comes before classifier.1 is computed {words} layers" in found


def test_heads(told) -> None:
    assert "classifier head: Linear 192 -> 10 is drawn anew with head_dist, 3,860 parameters" in told(
        TWO_STAGES, head=Head("head", "Linear", 192, 10, 10, 3860, ("head_dist",))
    )
    assert "\n1 block before it\n" in told(TWO_STAGES, blocks=1)


def long_stages(blocks: int, stages: int) -> list[Stage]:
    """Every block has its own rate; from stage to stage one more learns."""
    names = [f"stages.{n // 9}.blocks.{n % 9}.mlp.fc1" for n in range(blocks)]
    made = []
    for number in range(stages):
        rates = [1e-3 * 0.75 ** (blocks - n) if n >= blocks - number - 1 else None for n in range(blocks)]
        groups = [Group(name, name, 1000 + n, rate) for n, (name, rate) in enumerate(zip(names, rates, strict=True))]
        made.append(
            stage(
                [*groups, Group("head.fc", "head.fc", 3845, 1e-3)],
                number=number,
                name=f"from {names[max(blocks - number - 1, 0)]}",
                epochs=1,
            )
        )
    return made


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(("blocks", "stages"), [(50, 1), (50, 40), (11, 12), (12, 13)])
def test_long_plans_are_shortened(blocks: int, stages: int, columns: int, told) -> None:
    made = long_stages(blocks, stages)
    found = told(made, columns=columns).splitlines()
    assert max(map(len, found)) <= columns
    start = next(n for n, line in enumerate(found) if line.startswith("layers"))
    rows = found[start + 2 :]
    assert len(rows) == min(blocks + 1, 12)
    assert sum(int(row.removeprefix("...").split("more")[-1].split()[0 if "more" in row else 1].replace(",", "")) for row in rows) == sum(
        group.params for group in made[0].groups
    ), "the numbers of parameters add up, the hidden rows' included"
    assert sum(line.startswith("stage ") for line in found) == (stages if stages <= 12 else 11)
    assert [line for line in found if "more stages" in line] == ([f"... {stages - 11} more stages"] if stages > 12 else [])


@pytest.mark.parametrize("columns", [20, 40])
def test_narrow_terminals_lose_no_number(columns: int, told) -> None:
    found = told(TWO_STAGES, columns=columns)
    assert max(map(len, found.splitlines())) <= columns
    whole = " ".join(found.split())
    for number in ("120,000", "602,496", "2,565", "605,061", "722,496", "0.0001", "0.001"):
        assert number in whole


def test_a_name_cannot_write_on_the_terminal(told) -> None:
    found = told([stage([Group("a\x1b[31m", "a\x1b[31m", 10, None), LAST])], weights="x\ny")
    assert "\x1b" not in found
    assert "weights: x\\ny" in found


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.randoms(use_true_random=False))
def test_stretches_tell_the_same_as_the_stages(blocks: int, count: int, chance: random.Random) -> None:
    """Against a slow twin: every block has in each stage the rate that its group has, whichever way the stages are grouped."""
    sizes = [chance.randint(1, 50) for _ in range(blocks)]
    stages, rates = [], []
    for number in range(count):
        own = [chance.choice([None, 1e-3, 1e-4]) for _ in range(blocks)]
        groups: list[Group] = []
        for block, (size, rate) in enumerate(zip(sizes, own, strict=True)):
            if groups and groups[-1].rate == rate and chance.random() < 0.8:
                groups[-1] = replace(groups[-1], last=f"b{block}", params=groups[-1].params + size)
            else:
                groups.append(Group(f"b{block}", f"b{block}", size, rate))
        stages.append(stage(groups, number=number))
        rates.append(own)
    seen = []
    for part in stretches(stages):
        first, last = int(part.first[1:]), int(part.last[1:])
        assert part.params == sum(sizes[first : last + 1])
        for block in range(first, last + 1):
            told_rates = [own[block] for own in rates]
            assert part.learns == tuple(rate is not None for rate in told_rates)
            assert part.rates == tuple(rate for rate in told_rates if rate is not None)
            seen.append(block)
    assert seen == list(range(blocks))


# ---- the comparison ----

HITS = {"classifier": 60, "everything": 80, "from scratch": 30}


def comparison(*sizes: int | None, folds: int = 1) -> Comparison:
    found = []
    for number, size in enumerate(sizes):
        right = {method: torch.arange(100) < hits + number for method, hits in HITS.items()}
        for method, hits in right.items():
            against = None if method == "everything" else compare_hits(hits, right["everything"])
            count = int(hits.sum())
            images = 402 if size is None else 5 * size
            found.append(Outcome(method, size, images, 100, count / 100, wilson(count, 100), 12.3, 2565, against))
    return Comparison("squeezenet1_1", "photos", folds, tuple(found))


def test_json() -> None:
    found = comparison_to_json(comparison(1, None, folds=5), Path("x.png"))
    assert list(found) == ["model", "data", "folds", "outcomes", "picture"]
    assert (found["model"], found["data"], found["folds"], found["picture"]) == ("squeezenet1_1", "photos", 5, "x.png")
    first, everything, *_ = found["outcomes"]
    assert list(first) == ["method", "per_class", "images", "tested", "accuracy", "interval", "seconds", "trained", "against_everything"]
    assert [o["per_class"] for o in found["outcomes"]] == [1, 1, 1, None, None, None]
    assert everything["against_everything"] is None
    against = first["against_everything"]
    assert list(against) == ["difference", "interval", "only_method", "only_everything", "p", "p_holm"]
    assert against["difference"] == pytest.approx(first["accuracy"] - everything["accuracy"]), "the method's less that of everything"
    assert against["interval"][0] < against["difference"] < against["interval"][1] < 0
    assert (against["only_method"], against["only_everything"]) == (0, 20)
    tested = [o["against_everything"] for o in found["outcomes"] if o["against_everything"]]
    assert [o["p_holm"] for o in tested] == list(holm([o["p"] for o in tested]))
    assert all(0 <= end <= 1 for o in found["outcomes"] for end in (o["accuracy"], *o["interval"]))


def test_json_is_all_there_is_on_standard_output(capsys) -> None:
    print_comparison(comparison(None), None, json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == comparison_to_json(comparison(None))
    assert err == ""


@pytest.mark.parametrize("columns", [80, 140])
def test_table(columns: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_comparison(comparison(2, 20, None, folds=5), Path("x.png"), json=False)
    out, err = capsys.readouterr()
    assert err == "wrote x.png\n"
    assert max(map(len, out.splitlines())) <= columns
    assert " ".join(out.split()).startswith(
        "finetuning squeezenet1_1 on photos: 100 images to test on, 5-fold cross-validation "
        "all: 402 images to train on, in the mean over the folds images a class method accuracy 95 % interval "
    )
    rows = [line for line in out.splitlines() if line.split()[:1] in (["2"], ["20"], ["all"])]
    assert len(rows) == (9 if columns == 140 else 9 + 6), "all in one table, or in two of which the second leaves out everything itself"
    assert rows[0].split()[:6] == ["2", "classifier", "60.00%", "50.20", "to", "69.06%"]
    assert sum("-20.00%" in row and "< 0.0001" in row for row in rows) == 3
    assert sum("12 s" in row and "2,565" in row for row in rows) == 9
    assert "Holm's correction for 6 tests" in " ".join(out.split())


def test_table_of_one_number_of_images(capsys) -> None:
    print_comparison(comparison(None), None, json=False)
    out, err = capsys.readouterr()
    assert "402 images to train on\n" in out
    assert "images a class" not in out
    assert "all:" not in out
    assert "fold" not in out
    assert err == ""


def test_no_difference_has_no_minus(capsys) -> None:
    same = Paired(0.5, 0.5, 0.0, Interval(-0.01, 0.0), 3, 3, 1.0)
    outcome = Outcome("classifier", None, 10, 100, 0.5, wilson(50, 100), 0.1, 7, same)
    print_comparison(Comparison("x", "y", 1, (outcome,)), None, json=False)
    out = capsys.readouterr().out
    assert "+0.00%" in out
    assert "+0.00 to +1.00%" in out
    assert "Holm" not in out, "nothing is corrected for a single test"
