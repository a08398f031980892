"""The scatter picture: what its words say, and that names do no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.features.projected import Projection
from cnncli.reports import scatter
from cnncli.reports.scatter import colours, draw_scatter, panel_title


def panel(count: int = 60, **changes) -> Projection:
    points = np.random.default_rng(0).normal(size=(count, 2))
    return Projection(**({"method": "tsne", "space": "fc7", "kind": "layer", "points": points, "perplexity": 30.0, "kept": 0.4} | changes))


def test_titles_say_what_it_is() -> None:
    assert panel_title(panel()) == "fc7, t-SNE (perplexity 30)"
    assert panel_title(panel(kind="random")) == "fc7 (random weights), t-SNE (perplexity 30)"
    assert panel_title(panel(space="pixels", kind="pixels", method="pca", perplexity=None)) == "raw pixels, PCA"


@pytest.mark.parametrize("count", [1, 10, 11, 100, 1000])
def test_colours_are_distinct(count: int) -> None:
    made = colours(count)
    assert len(made) == count
    assert len(set(made)) > 0.95 * count


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 3, 40])
def test_it_draws(classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatter, "DOTS_PER_INCH", 50)
    labels = np.arange(60) % classes if classes else np.full(60, -1)
    names = [f"$x_{i}$ <b>" for i in range(classes)]
    pca = panel(space="pixels", kind="pixels", method="pca", perplexity=None, explained=(0.5,))
    draw_scatter(tmp_path / "s.png", [panel(), pca], labels, names, title="a $b$ on c")
    with Image.open(tmp_path / "s.png") as image:
        assert image.width > image.height
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


@pytest.mark.slow
def test_many_panels_stand_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatter, "DOTS_PER_INCH", 30)
    draw_scatter(tmp_path / "s.png", [panel(space=f"conv{number}") for number in range(5)], np.zeros(60, dtype=int), ["a"], title="x")
    with Image.open(tmp_path / "s.png") as image:
        assert image.width < 2 * image.height
