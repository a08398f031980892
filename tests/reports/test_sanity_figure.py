"""The pictures and the table of the sanity checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.reports.sanity_figure import COLOURS, Line, draw_ranking, draw_sanity, show_sanity


def lines(count: int, stages: int) -> list[Line]:
    generator = np.random.default_rng(0)
    falling = np.linspace(1, 0, stages).tolist()
    return [Line(f"method{n}", falling, falling, 0.25, 0.5, generator.random((stages, 8, 8))) for n in range(count)]


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
        assert rgb(COLOURS[count - 1]) in found
        assert count == 7 or rgb(COLOURS[count]) not in found


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    given = lines(1, 3)[0]._replace(correlation=[1, 0.5, 0.125], signed=[1, 0.5, -0.25])
    show_sanity([given], ("random order", 0.75, 0.875))
    head, _, first, last = capsys.readouterr().out.rstrip().splitlines()
    assert head.split() == ["method", "correlation", "signed", "deletion", "insertion"]
    assert first.split() == ["method0", "0.125", "-0.250", "0.250", "0.500"]
    assert last.split() == ["random", "order", "0.750", "0.875"]
