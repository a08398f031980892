"""The pictures and the table of the sanity checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnncli.cli.visualize.sanity import ALL, RANDOM_ORDER
from cnncli.reports import sanity_figure
from cnncli.reports.sanity_figure import STYLES, Line, draw_ranking, draw_sanity, show_sanity


def lines(count: int, stages: int) -> list[Line]:
    generator = np.random.default_rng(0)
    falling = np.linspace(1, 0, stages).tolist()
    return [Line(name, falling, falling, 0.25, 0.5, generator.random((stages, 8, 8))) for name in list(STYLES)[:count]]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What would be written."""
    kept: list[Figure] = []
    monkeypatch.setattr(sanity_figure, "write_picture", lambda _, figure: kept.append(figure))
    return kept


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(image.width * image.height)
    return {colour for count, colour in found if count >= 100}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize(("channels", "count", "stages"), [(1, 1, 2), (3, 7, 4)])
def test_every_method_is_drawn(channels: int, count: int, stages: int, tmp_path: Path) -> None:
    image = np.full((channels, 8, 8), 128, dtype=np.uint8)
    given = lines(count, stages)
    names = ["trained", *(f"$layer{n}.\x1b" + "x" * 40 for n in range(stages - 1))]
    draw_sanity(tmp_path / "a.png", image, given, names, name="$a.png", count=2, title="$net")
    curve = np.linspace(1, 0, 33)
    means = dict.fromkeys([*(line.name for line in given), "random order"], (curve, 1 - curve))
    draw_ranking(tmp_path / "b.png", 1 - curve, means, dict.fromkeys(means, (0.5, 0.5)), count=1, title="$net")
    for path in ("a.png", "b.png"):
        found = colours(tmp_path / path)
        drawn = [rgb(colour) in found for colour, _ in STYLES.values()]
        assert drawn == [number < count for number in range(len(STYLES))]


def test_every_method_has_its_own_style() -> None:
    assert list(STYLES) == ALL.split(",")
    assert RANDOM_ORDER not in STYLES
    assert all(len(set(column)) == len(STYLES) for column in zip(*STYLES.values(), strict=True))


def test_a_method_looks_alike_whichever_others_are_there(figures: list[Figure], tmp_path: Path) -> None:
    image, given = np.zeros((1, 8, 8), np.uint8), lines(7, 2)
    for some in (given, given[3:4]):
        draw_sanity(tmp_path, image, some, ["trained", "fc"], name="a", count=1, title="net")
        curve = np.linspace(1, 0, 3)
        means = {line.name: (curve, curve) for line in some} | {RANDOM_ORDER: (curve, curve)}
        draw_ranking(tmp_path, curve, means, dict.fromkeys(means, (0.5, 0.5)), count=1, title="net")
    looks = {
        (line.get_color(), line.get_marker())
        for figure in figures
        for axes in figure.axes
        for line in axes.lines
        if str(line.get_label()).startswith("guided")
    }
    assert looks == {STYLES["guided"]}


@pytest.mark.parametrize("high", [0.3, 1.0])
def test_both_rankings_have_the_whole_axis(high: float, figures: list[Figure], tmp_path: Path) -> None:
    """One that is lower than the other one, or reaches 1."""
    curve = np.linspace(0, 1, 5)
    draw_ranking(
        tmp_path,
        curve,
        {"saliency": (0.2 * curve, high * curve), RANDOM_ORDER: (curve, curve)},
        dict.fromkeys(("saliency", RANDOM_ORDER), (0, 0)),
        count=1,
        title="net",
    )
    assert [axes.get_ylim() for axes in figures[0].axes] == [(0, 1)] * 2


@pytest.mark.parametrize("stages", [2, 9])
def test_legends_are_not_over_data(stages: int, figures: list[Figure], tmp_path: Path) -> None:
    given = lines(7, stages)
    draw_sanity(tmp_path, np.zeros((1, 8, 8), np.uint8), given, ["layer"] * stages, name="a.png", count=1, title="net")
    curve = np.linspace(0, 1, 5)
    means = {line.name: (curve, curve) for line in given} | {RANDOM_ORDER: (curve, curve)}
    draw_ranking(tmp_path, curve, means, dict.fromkeys(means, (0.5, 0.5)), count=1, title="net")
    legends = 0
    for figure in figures:
        figure.draw_without_rendering()
        page = figure.bbox
        for axes in figure.axes:
            legend = axes.get_legend()
            if legend is not None:
                legends += 1
                own = legend.get_window_extent()
                assert not any(own.overlaps(other.get_window_extent()) for other in figure.axes)
                assert page.x0 <= own.x0 < own.x1 <= page.x1
                assert page.y0 <= own.y0 < own.y1 <= page.y1
    assert legends == 3
    assert "with signs" in [text.get_text() for text in figures[0].axes[1].get_legend().get_texts()]


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    given = lines(1, 3)[0]._replace(correlation=[1, 0.5, 0.125], signed=[1, 0.5, -0.25])
    show_sanity([given], ("random order", 0.75, 0.875))
    head, _, first, last = capsys.readouterr().out.rstrip().splitlines()
    assert head.split() == ["method", "correlation", "signed", "deletion", "insertion"]
    assert first.split() == ["saliency", "0.125", "-0.250", "0.250", "0.500"]
    assert last.split() == ["random", "order", "0.750", "0.875"]
