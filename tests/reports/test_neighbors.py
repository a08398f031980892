"""What is printed and drawn of neighbours: widths, sizes, and class names that mean harm."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cnncli.features.feature_set import FeatureSet, Origin, Space
from cnncli.features.found import Pair, Pairs, Suspect, Vote
from cnncli.reports.neighbor_figure import Cell, Line, draw_neighbors, neighbor_figure
from cnncli.reports.neighbors import Report, neighbors_json, print_neighbors

HOSTILE = ("[red]$x_2$\n", "\x1b[31m" + "very long name " * 9, "\N{CJK UNIFIED IDEOGRAPH-72AC}" * 30)


def report(random: int | None = None) -> Report:
    features = FeatureSet(
        {"fc7": np.zeros((3, 4), dtype=np.float32)},
        (Space("fc7", "layer", (4,), "fc7"),),
        np.arange(3),
        HOSTILE,
        tuple(f"folder of {'many ' * 9}words/[b]{row}.png" for row in range(3)),
        ("train", "test", ""),
        Origin(model="m", random=random),
    )
    votes = (Vote("fc7", "layer", 4, 10, np.array([True, False]), 0.5, 0.1, 0.9),)
    pairs = Pairs((Pair(0, 1, 1e-7, True, None, True),), 0.01, 1)
    return Report("m on d", "d", "cosine", 10, "2 test images", features, votes, "fc7", pairs, (Suspect(0, 0, 1, 9, 0, 10, 0.1),), ())


@pytest.mark.parametrize("columns", [80, 140])
def test_no_line_is_wider_than_the_terminal(columns, monkeypatch, capsys):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(columns))
    print_neighbors(report(), "x.json")
    told = capsys.readouterr().out
    assert max(map(cell_len, told.splitlines())) <= columns
    assert "\x1b[31m" not in told
    assert "50.0 %" in told
    assert "1 of two classes" in told
    assert "9 of 10" in told


def test_json_keeps_names_and_says_what_is_random():
    found = neighbors_json(report(random=3))
    assert found["random"] == 3
    assert found["accuracy"][0]["kind"] == "random"
    assert found["suspects"][0]["class"] == HOSTILE[0]
    assert found["near_duplicates"]["pairs"][0]["images"][1]["split"] == "test"
    assert neighbors_json(report())["accuracy"][0]["kind"] == "layer"


@pytest.mark.parametrize(("k", "widest"), [(1, 4), (5, 12), pytest.param(10, 20, marks=pytest.mark.slow)])
def test_the_figure_is_as_wide_as_its_neighbours(k, widest):
    cells = tuple(Cell(Image.new("RGB", (30, 20)), HOSTILE[place % 3], place % 2 == 0) for place in range(k))
    lines = [Line(cells[0], {"fc7": cells, "pixels": cells})] * 3
    figure = neighbor_figure(lines, title="m", subtitle="d", headings={"fc7": "feature space", "pixels": "pixel space"})
    wide, high = figure.get_size_inches()
    assert k * 2 * 0.78 < wide <= widest
    assert 3 * 0.78 < high < 5
    assert len(figure.axes) == 2 * (k > 1) + 3 * (1 + 2 * k)


def test_hostile_names_are_drawn(tmp_path):
    line = Line(Cell(None, HOSTILE[0]), {"fc7": tuple(Cell(None, name, agrees=False) for name in HOSTILE)})
    draw_neighbors(tmp_path / "n.png", [line], title=HOSTILE[0], subtitle=HOSTILE[1], headings={"fc7": HOSTILE[2]})
    assert (tmp_path / "n.png").read_bytes()[:4] == b"\x89PNG"
