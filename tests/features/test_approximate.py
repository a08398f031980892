"""Search by an index of FAISS, against exact search: recall that is told is the recall that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnncli.errors import EnvironmentFault
from cnncli.features import approximate
from cnncli.features.approximate import check_faiss, nearest_faiss
from cnncli.features.nearest import METRICS, nearest


@pytest.mark.parametrize("metric", METRICS)
def test_few_vectors_are_searched_exactly(metric):
    pytest.importorskip("faiss")
    base = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    own = torch.arange(500)
    told = []
    found = nearest_faiss(base, base, 5, metric=metric, own=own, on_recall=lambda *recall: told.append(recall))
    true = nearest(base, base, 5, metric=metric, own=own)
    assert torch.equal(found.indices, true.indices)
    assert torch.equal(found.distances, true.distances)
    assert told == [(1.0, 200)]


@pytest.mark.parametrize("metric", METRICS)
def test_on_vectors_without_clusters_it_looks_into_more_cells_until_recall_is_enough(metric, monkeypatch):
    """Normal numbers in 64 dimensions: a sixteenth of the cells holds a third of the neighbours."""
    pytest.importorskip("faiss")
    monkeypatch.setattr(approximate, "SMALL", 1000)
    base, queries = np.split(np.random.default_rng(0).standard_normal((4600, 64)).astype(np.float32), [4000])
    told = []
    found = nearest_faiss(queries, base, 10, metric=metric, on_recall=lambda *recall: told.append(recall))
    true = nearest(queries, base, 10, metric=metric)
    pairs = zip(found.indices.tolist(), true.indices.tolist(), strict=True)
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in pairs])
    assert told[0][0] >= approximate.RECALL
    assert told[0][1] == 200
    assert recall == pytest.approx(told[0][0], abs=0.03)


def test_the_recall_that_is_told_is_that_of_a_sixteenth_of_the_cells_where_no_more_is_asked_for(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(approximate, "SMALL", 1000)
    monkeypatch.setattr(approximate, "RECALL", 0.0)
    base = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
    told = []
    nearest_faiss(base[:300], base, 10, own=torch.arange(300), on_recall=lambda *recall: told.append(recall))
    assert told[0][0] < 0.8


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setattr(approximate, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentFault, match=r'needs the package faiss; pip install "cnncli\[faiss\]"'):
        check_faiss()
