"""The figures: plotly takes them, and they hold the numbers of the judgement."""

from __future__ import annotations

import json
import math
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncli.reports.page import figures
from cnncli.reports.page.palette import PALETTE, TWINS


def valid(figure: figures.Figure) -> figures.Figure:
    """The figure, once plotly's own classes have found no word in it that they do not know, and JSON no number that it cannot hold."""
    import plotly.graph_objects as go

    go.Figure(json.loads(json.dumps(figure, allow_nan=False)))
    return figure


def test_confusion_holds_every_count(make_data) -> None:
    judgement = make_data().judgement
    figure = valid(figures.confusion(judgement))
    (heatmap,), meta = figure["data"], figure["layout"]["meta"]
    assert meta["counts"] == [list(row) for row in judgement.confusion]
    for i, c in enumerate(judgement.per_class):
        assert meta["totals"][i] == c.support
        for j, n in enumerate(judgement.confusion[i]):
            assert heatmap["z"][i][j] == (pytest.approx(n / c.support, abs=6e-5) if n else None)
            assert heatmap["text"][i][j] == (str(n) if n else "")
    assert heatmap["x"] == heatmap["y"] == list("0123456789")
    assert figure["layout"]["xaxis"]["type"] == "category", "names that are numbers stay names"


def test_confusion_of_a_class_without_images(make_data) -> None:
    from dataclasses import replace

    judgement = make_data(names="abc").judgement
    empty = replace(judgement, confusion=((0, 0, 0), *judgement.confusion[1:]))
    assert figures.confusion(empty)["data"][0]["z"][0] == [None] * 3
    valid(figures.confusion(empty))


def test_of_very_many_classes_the_most_confused_are_shown(make_data, monkeypatch) -> None:
    judgement = make_data(names=[f"class {i}" for i in range(40)], count=300).judgement
    assert figures.shown_classes(judgement) == tuple(range(40))
    monkeypatch.setattr(figures, "MOST_CLASSES", 15)
    shown = figures.shown_classes(judgement)
    assert len(shown) == 15
    assert list(shown) == sorted(shown)

    def mistakes(i: int) -> int:
        rest = [k for k in range(40) if k != i]
        return sum(judgement.confusion[i][k] + judgement.confusion[k][i] for k in rest)

    assert min(map(mistakes, shown)) >= max(mistakes(i) for i in range(40) if i not in shown)
    meta = valid(figures.confusion(judgement))["layout"]["meta"]
    assert meta["names"] == [f"class {i}" for i in shown]
    assert meta["totals"] == [judgement.per_class[i].support for i in shown], "shares are those of all images of the class"


def test_names_are_no_html(make_data, hostile) -> None:
    """plotly reads labels as HTML of a few words; entities are taken back by it."""
    figure = valid(figures.confusion(make_data(names=hostile, count=60).judgement))
    for label in (*figure["data"][0]["x"], *figure["layout"]["meta"]["names"]):
        assert "<" not in label
        assert ">" not in label
    assert [unescape(name) for name in figure["layout"]["meta"]["names"]] == list(hostile)


@given(st.lists(st.text("ab", min_size=1, max_size=40), min_size=1, max_size=20, unique=True))
@settings(max_examples=60, deadline=None)
def test_labels_stay_apart(names: list[str]) -> None:
    """Two classes of one label would be one row of plotly's heatmap."""
    labels = figures.short_labels(names)
    assert len(set(labels)) == len(names)
    assert all(len(label) <= figures.LONGEST_LABEL for label in labels) or labels == names


def test_calibration(make_data) -> None:
    judgement = make_data().judgement
    figure = valid(figures.calibration(judgement))
    bins = [b for b in judgement.calibration.bins if b.count]
    bars, _, means, counts = figure["data"]
    assert bars["y"] == [b.accuracy for b in bins]
    assert means["x"] == [b.confidence for b in bins]
    assert sum(counts["y"]) == judgement.count
    for bar, text in zip(bins, bars["hovertext"], strict=True):
        assert f"{bar.count:,} images" in text
        assert f"accuracy {bar.accuracy:.1%}" in text


def test_curves(make_run) -> None:
    epochs = make_run().epochs
    made = figures.curves(epochs)
    assert [title for title, _ in made] == ["cross-entropy loss", "accuracy", "learning rate"]
    for _, figure in made:
        valid(figure)
        assert figure["layout"]["shapes"][0]["x0"] == 12, "the best epoch is marked"
    training, validation = made[0][1]["data"]
    assert training["x"] == validation["x"] == list(range(1, 13))
    assert training["y"] == [e.train_loss for e in epochs]
    assert validation["y"] == [e.val_loss for e in epochs]


def test_curves_with_gaps(make_epoch) -> None:
    """No validation in some epochs, a loss that was not finite, a learning rate that was not recorded."""
    epochs = [
        make_epoch(1, val_loss=None, val_accuracy=None, lr=math.nan, best=False),
        make_epoch(2, train_loss=math.inf, lr=math.nan, best=False),
        make_epoch(3, val_loss=None, val_accuracy=None, lr=math.nan),
    ]
    made = dict(figures.curves(epochs))
    assert set(made) == {"cross-entropy loss", "accuracy"}
    training, validation = valid(made["cross-entropy loss"])["data"]
    assert training["y"] == [2.0, None, 2 / 3]
    assert (validation["x"], validation["y"]) == ([2], [1.1])
    assert "markers" in validation["mode"], "a line through one point cannot be seen"
    assert figures.curves([]) == []


def test_losses_of_very_different_size_are_logarithmic(make_epoch) -> None:
    wide = dict(figures.curves([make_epoch(1, train_loss=10.0), make_epoch(2, train_loss=0.01)]))
    assert valid(wide["cross-entropy loss"])["layout"]["yaxis"]["type"] == "log"
    assert wide["accuracy"]["layout"]["yaxis"].get("type") != "log"


def test_every_colour_has_one_twin() -> None:
    """The page's script finds the dark colour by the light one."""
    assert len(TWINS) == len(PALETTE)


@pytest.mark.parametrize("shade", ["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "link"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_text_can_be_read(shade: str, name: str, ground: str) -> None:
    """WCAG 2.2: a contrast of 4.5, by the formula of its definition of relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted(luminance(getattr(PALETTE[which], shade)) for which in (name, ground))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_only_colours_of_the_palette(make_data, make_run) -> None:
    """Any other would stay light on a dark page."""
    judgement = make_data().judgement
    drawn = [figures.confusion(judgement), figures.calibration(judgement), *(figure for _, figure in figures.curves(make_run().epochs))]
    found: set[str] = set()

    def look(value: object, *, colour: bool) -> None:
        if isinstance(value, str):
            found.update({value} if colour else ())
        elif isinstance(value, list):
            for item in value:
                look(item, colour=colour)
        elif isinstance(value, dict):
            for key, item in value.items():
                look(item, colour="color" in key)

    look(drawn, colour=False)
    strange = {word for word in found if word.startswith("#")} - set(TWINS)
    assert not strange
    assert len(found) > 5
