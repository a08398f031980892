"""PCA, t-SNE and saved fits: against other implementations, for few, equal and hostile numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.features import project as module
from cnncli.features.feature_set import Origin, Space
from cnncli.features.project import choose_perplexity, kept, place, project
from cnncli.features.saved_fit import check_fit_name, load_fit, save_fit


def clusters(count: int = 200, size: int = 16, classes: int = 4, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (8 * np.eye(classes, size)[np.arange(count) % classes] + random.normal(size=(count, size))).astype(np.float32)


@pytest.mark.parametrize("shape", [(200, 16), (20, 64)])
def test_pca_is_scikit_learns(shape: tuple[int, int]) -> None:
    matrix = clusters(*shape) + 1000  # far from zero, where float32 has few digits left
    points, fit = project(matrix, "pca")
    other = PCA(2, svd_solver="full").fit(matrix.astype(np.float64))
    assert np.allclose(points, other.transform(matrix.astype(np.float64)), atol=1e-3)
    assert np.allclose(fit.explained, other.explained_variance_ratio_, rtol=1e-4)


def test_large_pca_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_PCA", 8)
    matrix = clusters()
    first, second = (project(matrix, "pca", seed=3)[0] for _ in range(2))
    assert (first == second).all()
    assert np.allclose(np.abs(first), np.abs(project(matrix, "pca", seed=4)[0]), rtol=0.05, atol=0.3)


def test_directions_of_no_variance_are_left_out() -> None:
    """Of four distinct images there are three directions, whatever is asked for; and files of other sizes keep their offsets."""
    for size in (3, 16, 5000):
        matrix = np.repeat(np.random.default_rng(0).normal(size=(4, size)), 5, axis=0).astype(np.float32)
        _, fit = project(matrix, "tsne")
        assert fit.components.shape == (3, size)
        assert np.allclose(fit.components @ fit.components.T, np.eye(3), atol=1e-9)
        assert fit.explained.sum() == pytest.approx(1)


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((200, 16), (20, 64)):
        whole = project(clusters(*shape), "pca")
        monkeypatch.setattr(module, "BLOCK", 7)
        parts = project(clusters(*shape), "pca")
        monkeypatch.undo()
        assert np.allclose(whole[0], parts[0], atol=1e-9)
        assert np.allclose(whole[1].explained, parts[1].explained)


@pytest.mark.slow
def test_tsne_on_a_grid_repeats_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum for many points, here of few."""
    monkeypatch.setattr(module, "MOST_FOR_TREE", 10)
    monkeypatch.setattr(module, "EXAGGERATED", 25)
    monkeypatch.setattr(module, "FREE", 25)
    first, second = (project(clusters(120), "tsne", seed=1)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    nearest = NearestNeighbors(n_neighbors=2).fit(first).kneighbors(first)[1][:, 1]
    assert (nearest % 4 == np.arange(120) % 4).mean() > 0.9


@pytest.mark.slow
def test_tsne_same_seed_same_points_and_clusters_apart() -> None:
    matrix, heard = clusters(160), []
    first, _ = project(matrix, "tsne", seed=1, told=lambda done, total: heard.append((done, total)))
    second, _ = project(matrix, "tsne", seed=1)
    assert first.tobytes() == second.tobytes()
    assert heard[-1] == (750, 750)
    assert heard == sorted(heard)
    nearest = NearestNeighbors(n_neighbors=2).fit(first).kneighbors(first)[1][:, 1]
    assert (nearest % 4 == np.arange(160) % 4).mean() > 0.97


def test_placing_the_images_of_the_fit() -> None:
    matrix = clusters(160)
    points, fit = project(matrix, "pca")
    assert np.allclose(place(fit, matrix), points)
    points, fit = project(matrix, "tsne")
    placed = place(fit, matrix)
    distances = np.linalg.norm(placed[:, None] - points[None], axis=2)
    assert (distances.argmin(axis=1) % 4 == np.arange(160) % 4).all()
    assert np.allclose(place(fit, matrix[:3]), placed[:3]), "whichever others come with them"
    assert place(fit, matrix[:0]).shape == (0, 2)


def test_kept_is_what_it_says() -> None:
    matrix = clusters(60)
    points = matrix[:, :2].astype(np.float64)
    k = 10
    slow = []
    for row in range(60):
        sets = []
        for numbers in (matrix, points):
            order = np.argsort(np.linalg.norm(numbers - numbers[row], axis=1))
            sets.append({int(i) for i in order if i != row} & set(order[order != row][:k].tolist()))
        slow.append(len(sets[0] & sets[1]) / k)
    assert kept(matrix, points) == pytest.approx(np.mean(slow), abs=0.01)
    assert kept(matrix[:, :2], points) == pytest.approx(1.0)
    assert kept(matrix[:2], points[:2]) is None


def test_perplexity_that_the_images_do_not_allow() -> None:
    with pytest.raises(UsageError, match="the largest here is --perplexity 33"):
        choose_perplexity(34, 100)
    assert choose_perplexity(33, 100) == 33
    assert choose_perplexity(None, 100) == 30
    assert choose_perplexity(None, 10) == 3
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="at least 1"):
            choose_perplexity(bad, 100)
    with pytest.raises(UsageError, match="at least 4 images"):
        choose_perplexity(None, 3)
    assert np.isfinite(project(clusters(4), "tsne")[0]).all()


def test_equal_and_constant_numbers() -> None:
    with pytest.raises(InputError, match="all 20 images have the same features"):
        project(np.ones((20, 5), np.float32), "tsne")
    with pytest.raises(UsageError, match="at least 2 images"):
        project(np.ones((1, 5), np.float32), "pca")
    doubled = np.repeat(clusters(30), 3, axis=0)
    line = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    for matrix in (doubled, line, np.hstack([line, np.ones_like(line)])):
        for method in ("pca", "tsne"):
            points, _ = project(matrix, method)
            assert points.shape == (len(matrix), 2)
            assert np.isfinite(points).all()


def test_umap_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "cnncli\[umap\]"'):
        project(clusters(), "umap")


SPACE = Space("fc7", "layer", (16,), "classifier.4", "avg", "after")
ORIGIN = Origin(model="alexnet", digest="ab" * 32, preprocess={"mean": [0.5, 0.5]})


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_saved_fit_places_as_before(method: str, tmp_path: Path) -> None:
    _, fit = project(clusters(80), method, seed=5)
    path = tmp_path / "fit.safetensors"
    save_fit(path, fit, SPACE, ORIGIN)
    again = load_fit(path, SPACE, ORIGIN)
    new = clusters(7, seed=9)
    assert place(again, new).tobytes() == place(fit, new).tobytes()
    assert (again.method, again.perplexity, again.seed) == (fit.method, fit.perplexity, 5)


def test_a_fit_of_other_features(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    save_fit(path, project(clusters(), "pca")[1], SPACE, ORIGIN)
    with pytest.raises(InputError, match=r"fitted to fc7 of alexnet .* these features are fc6 of alexnet"):
        load_fit(path, replace(SPACE, name="fc6", layer="classifier.1"), ORIGIN)
    for other in (replace(ORIGIN, model="vgg16", digest="cd" * 32), replace(ORIGIN, random=0)):
        with pytest.raises(InputError, match="fitted to fc7 of alexnet"):
            load_fit(path, SPACE, other)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum"):
        load_fit(path, SPACE, ORIGIN)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError):
        load_fit(path, SPACE, ORIGIN)
    with pytest.raises(InputError, match="no such fit"):
        load_fit(tmp_path / "none.safetensors", SPACE, ORIGIN)
    with pytest.raises(UsageError, match=r"\.safetensors"):
        check_fit_name(Path("x.npz"))
