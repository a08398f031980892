"""Exact search: against a search in float64, on inputs that are made to mislead float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from cnncli.features import candidates as of_candidates
from cnncli.features import nearest as module
from cnncli.features.nearest import METRICS, brute_force, nearest


def near_equal(random: np.random.Generator) -> np.ndarray:
    return 1 + 1e-6 * random.standard_normal((3000, 24))


def far_off(random: np.random.Generator) -> np.ndarray:
    return 1e4 + random.standard_normal((3000, 24))


def one_huge(random: np.random.Generator) -> np.ndarray:
    rows = random.standard_normal((3000, 24))
    rows[7] *= 1e6
    return rows


def enormous(random: np.random.Generator) -> np.ndarray:
    return 1e30 * random.standard_normal((3000, 24))


def tiny(random: np.random.Generator) -> np.ndarray:
    return 1e-30 * random.standard_normal((3000, 24))


def repeated(random: np.random.Generator) -> np.ndarray:
    return random.standard_normal((40, 24))[random.integers(0, 40, 3000)]


def zeros_among(random: np.random.Generator) -> np.ndarray:
    return np.maximum(random.standard_normal((3000, 4)) - 0.7, 0)


MADE = (near_equal, far_off, one_huge, enormous, tiny, repeated, zeros_among)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", MADE)
def test_it_finds_what_float64_finds_on_input_that_misleads_float32(make, metric):
    random = np.random.default_rng(0)
    base = make(random).astype(np.float32)
    queries = base[:15] + (np.float32(0.01) * base[40:55] if make is not repeated else 0)
    found = nearest(torch.from_numpy(queries), torch.from_numpy(base), 10, metric=metric)
    indices, distances = brute_force(queries, base, 10, metric)
    assert np.array_equal(found.indices.numpy(), indices)
    assert np.array_equal(found.distances.numpy(), distances)


@pytest.mark.parametrize("metric", METRICS)
def test_it_agrees_with_scikit_learn(metric):
    random = np.random.default_rng(1)
    base, queries = (random.standard_normal((n, 30)).astype(np.float32) for n in (1500, 200))
    found = nearest(torch.from_numpy(queries), torch.from_numpy(base), 7, metric=metric)
    oracle = NearestNeighbors(n_neighbors=7, algorithm="brute", metric="euclidean" if metric == "l2" else "cosine")
    distances, indices = oracle.fit(base.astype(np.float64)).kneighbors(queries.astype(np.float64))
    assert np.array_equal(found.indices.numpy(), indices)
    assert np.allclose(found.distances.numpy(), distances, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 70), st.integers(1, 5), st.integers(1, 3), st.sampled_from(METRICS), st.booleans())
def test_ties_go_to_the_lower_row_and_an_image_is_not_its_own_neighbour(seed, count, size, values, metric, leave_out):
    """Few whole numbers: nearly all distances are tied."""
    random = np.random.default_rng(seed)
    base = random.integers(0, values + 1, (count + 1, size)).astype(np.float32)
    k = int(random.integers(1, count + 1))
    own = torch.arange(len(base)) if leave_out else None
    found = nearest(torch.from_numpy(base), torch.from_numpy(base), k, metric=metric, own=own)
    indices, distances = brute_force(base, base, len(base), metric)
    for row in range(len(base)):
        kept = indices[row] != row if leave_out else np.full(len(base), fill_value=True)
        assert np.array_equal(found.indices[row].numpy(), indices[row][kept][:k])
        assert np.array_equal(found.distances[row].numpy(), distances[row][kept][:k])


def test_blocks_chunks_and_a_mapped_file_change_nothing(tmp_path, monkeypatch):
    random = np.random.default_rng(2)
    base = random.standard_normal((1000, 16)).astype(np.float32)
    whole = nearest(torch.from_numpy(base), torch.from_numpy(base), 5, own=torch.arange(1000))
    for where, name, size in ((module, "CHUNK", 300), (of_candidates, "TILE", 70), (of_candidates, "BLOCK", 128)):
        monkeypatch.setattr(where, name, size)
    np.save(tmp_path / "base.npy", base)
    mapped = np.load(tmp_path / "base.npy", mmap_mode="r")
    seen = []
    parts = nearest(mapped, mapped, 5, own=torch.arange(1000), on_progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(whole.indices, parts.indices)
    assert torch.equal(whole.distances, parts.distances)
    assert seen == sorted(seen)
    assert seen[-1] == (1000, 1000)


def counted(monkeypatch):
    """(queries, dtype) of each search for candidates from here on."""
    calls = []
    kept = module.candidates

    def search(queries, base, m, frame, dtype, **more):
        calls.append((len(queries), dtype))
        return kept(queries, base, m, frame, dtype, **more)

    monkeypatch.setattr(module, "candidates", search)
    return calls


def test_the_doubtful_are_searched_again_and_no_others(monkeypatch):
    """A single far row widens the bound of float32 for all; without it the first search decides."""
    calls = counted(monkeypatch)
    random = np.random.default_rng(3)
    base = torch.from_numpy(random.standard_normal((2000, 64)).astype(np.float32))
    nearest(base[:50], base, 10)
    assert calls == [(50, torch.float32)]
    base[5] *= 1e6
    nearest(base[:50], base, 10)
    assert calls[1:] == [(50, torch.float32), (50, torch.float64)]


@pytest.mark.parametrize(("k", "own"), [(0, None), (5, None), (4, torch.arange(4))])
def test_more_neighbours_than_rows_are_refused(k, own):
    with pytest.raises(ValueError, match=f"{k} neighbours among 4 rows"):
        nearest(torch.randn(4, 3), torch.randn(4, 3), k, own=own)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad, metric):
    base = torch.randn(50, 3)
    base[20, 1] = bad
    for queries, rows in ((base, torch.randn(50, 3)), (torch.randn(5, 3), base)):
        with pytest.raises(ValueError, match="finite"):
            nearest(queries, rows, 2, metric=metric)


def of_many_zeros(random: np.random.Generator) -> np.ndarray:
    rows = np.maximum(random.standard_normal((1500, 12)) - 0.5, 0)
    rows[random.permutation(1500)[:700]] = 0
    return rows


def of_few_patterns(random: np.random.Generator) -> np.ndarray:
    """All that differ are as far from a zero, and most from each other."""
    return np.eye(200)[random.integers(0, 200, 900)] * (1 - 2 * random.integers(0, 2, (900, 1)))


def of_few_directions(random: np.random.Generator) -> np.ndarray:
    """Rows of all lengths that differ, of which cosine sees three."""
    return np.eye(3)[random.integers(0, 3, 1500)] * random.integers(1, 10**6, (1500, 1))


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", [of_many_zeros, of_few_patterns, of_few_directions])
def test_ties_of_hundreds_are_ranked_as_float64_does(make, metric, few, monkeypatch):
    monkeypatch.setattr(module, "FEW", few)
    monkeypatch.setattr(module, "TIED", 100)
    base = make(np.random.default_rng(4)).astype(np.float32)
    rows = np.r_[np.flatnonzero(~base.any(1))[:10], 0:30]
    found = nearest(base[rows], base, 5, metric=metric, own=torch.from_numpy(rows))
    indices, distances = brute_force(base[rows], base, 6, metric)
    assert (found.indices.numpy() != rows[:, None]).all()
    for number, own in enumerate(rows):
        others = indices[number] != own
        assert np.array_equal(found.indices[number].numpy(), indices[number][others][:5])
        assert np.array_equal(found.distances[number].numpy(), distances[number][others][:5])


@pytest.mark.parametrize("metric", METRICS)
def test_thousands_of_zeros_ask_once(metric, monkeypatch):
    """Each of them among all others; what is found is known."""
    calls = counted(monkeypatch)
    base = np.zeros((6000, 32), dtype=np.float32)
    base[:10] = np.random.default_rng(5).standard_normal((10, 32))
    found = nearest(base, base, 3, metric=metric, own=torch.arange(6000))
    first = [10, 11, 12] if metric == "l2" else [0, 1, 2]
    assert found.indices[100].tolist() == found.indices[5999].tolist() == first
    assert found.indices[11].tolist() == ([10, 12, 13] if metric == "l2" else first)
    assert found.distances[100].tolist() == ([0, 0, 0] if metric == "l2" else [1, 1, 1])
    assert all(queries <= 11 for queries, _ in calls[1:])
