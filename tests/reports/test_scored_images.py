"""What a model says of each image, as rows and as files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cnncli.engine.metrics import judge
from cnncli.reports.scored_images import AT_A_TIME, HEAD, Scored, per_image, write_csv, write_parquet

Drawn = Callable[..., Scored]


@pytest.fixture(scope="session")
def drawn(given_scores: Callable[..., Scored]) -> Drawn:
    """Random scores, labels and names, of so many images and classes."""

    def make(count: int, classes: int, seed: int = 0, scale: float = 3.0, names: Sequence[str] = (), words: Sequence[str] = ()) -> Scored:
        generator = torch.Generator().manual_seed(seed)
        scores = scale * torch.randn(count, classes, generator=generator)
        labels = torch.randint(0, classes, (count,), generator=generator)
        names = names or tuple(f"{n}.png" for n in range(count))
        return given_scores(scores, labels, names, words or tuple(f"class {n}" for n in range(classes)))

    return make


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(2, 9), st.integers(0, 99), st.sampled_from([0.0, 1.0, 300.0]))
def test_as_torch_has_it(drawn: Drawn, count: int, classes: int, seed: int, scale: float) -> None:
    told = drawn(count, classes, seed, scale)
    found, probabilities = per_image(told), told.scores.double().softmax(1)
    assert found.predicted.tolist() == told.scores.argmax(1).tolist()
    assert found.probability == pytest.approx(probabilities.max(1).values.numpy())
    assert found.true_probability == pytest.approx(probabilities[torch.arange(count), told.labels].numpy())
    assert found.loss == pytest.approx(functional.cross_entropy(told.scores.double(), told.labels, reduction="none").numpy(), abs=1e-12)
    judgement = judge(told.scores, told.labels, told.classes)
    assert found.correct.mean() == pytest.approx(judgement.top1)
    assert found.loss.mean() == pytest.approx(judgement.loss)


def test_parts_are_put_together_in_order(drawn: Drawn) -> None:
    told = drawn(AT_A_TIME + 3, 4)
    assert per_image(told).loss == pytest.approx(functional.cross_entropy(told.scores.double(), told.labels, reduction="none").numpy())


@pytest.fixture(scope="session")
def odd(drawn: Drawn) -> Scored:
    """With names that a spreadsheet, a list or a text file would take for something else."""
    return drawn(4, 3, names=("=a.png", "b,c.png", "d\ne.png", "\udcff.png"), words=("+x", "cat", 'quo"te'))


def test_csv(odd: Scored, tmp_path: Path) -> None:
    told = odd
    found = per_image(told)
    write_csv(tmp_path / "x.csv", told, found)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        head, *rows = csv.reader(stream)
    assert tuple(head) == HEAD == ("path", "true", "predicted", "probability", "true_probability", "correct", "loss")
    assert [row[0] for row in rows] == ["'=a.png", "b,c.png", "d\ne.png", "\udcff.png"]
    spelled = {"+x": "'+x"}
    for number, row in enumerate(rows):
        true, predicted = told.classes[told.labels[number]], told.classes[found.predicted[number]]
        assert row[1:3] == [spelled.get(true, true), spelled.get(predicted, predicted)]
        assert [float(row[i]) for i in (3, 4, 6)] == [found.probability[number], found.true_probability[number], found.loss[number]]
        assert row[5] == str(true == predicted)


def test_parquet(odd: Scored, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    told = odd
    found = per_image(told)
    write_parquet(tmp_path / "x.parquet", told, found)
    table = parquet.read_table(tmp_path / "x.parquet")
    assert tuple(table.column_names) == HEAD
    rows = table.to_pydict()
    assert rows["path"] == ["=a.png", "b,c.png", "d\ne.png", "\\udcff.png"]
    assert rows["true"] == [told.classes[label] for label in told.labels]
    assert rows["predicted"] == [told.classes[label] for label in found.predicted]
    assert rows["correct"] == found.correct.tolist()
    for name, values in (("probability", found.probability), ("true_probability", found.true_probability), ("loss", found.loss)):
        assert np.array_equal(rows[name], values)
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_extreme_scores_stay_numbers(given_scores: Callable[..., Scored]) -> None:
    told = given_scores(torch.tensor([[1e30, -1e30], [-1e30, 1e30]]), torch.tensor([0, 0]), ("a", "b"), ("x", "y"))
    found = per_image(told)
    assert found.probability.tolist() == [1, 1]
    assert found.true_probability.tolist() == [1, 0]
    assert found.loss[0] == 0
    assert math.isfinite(found.loss[1])
