"""The charts, as the renderer sees them: every net where its numbers put it, and no text over another, over a bubble or cut."""

from __future__ import annotations

from itertools import combinations
from math import pi
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from cnncli.arch.totals import totals_of
from cnncli.arch.zoo.accuracy import IMAGENET, PUBLISHED, is_searched
from cnncli.arch.zoo.ilsvrc import ENTRIES, HUMAN_ERROR
from cnncli.arch.zoo.table import ZOO, build
from cnncli.reports.charts import AREA_PER_PARAMETER, Point, cost_figure, depth_figure, draw_cost, draw_depth, points_of
from cnncli.reports.models import Listed

SHOWN = [name for name in ZOO if name in PUBLISHED and PUBLISHED[name].data == IMAGENET and PUBLISHED[name].top1 is not None]


def listed(names: list[str]) -> list[Listed]:
    nets = [build(name) for name in names]
    return [Listed(net, totals_of(net), ZOO[net.name].summary, ZOO[net.name].year, PUBLISHED.get(net.name)) for net in nets]


@pytest.fixture(scope="module")
def points() -> tuple[Point, ...]:
    return points_of(listed(list(ZOO)))


@pytest.fixture(scope="module")
def chart(points: tuple[Point, ...]) -> Figure:
    return drawn(cost_figure(points))


def drawn(figure: Figure) -> Figure:
    FigureCanvasAgg(figure).draw()
    return figure


def boxes_of(texts: list[Text]) -> dict[str, Bbox]:
    return {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}


def overlap(one: Bbox, other: Bbox) -> bool:
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


def assert_apart(boxes: dict[str, Bbox]) -> None:
    for (name, one), (other_name, other) in combinations(boxes.items(), 2):
        assert not overlap(one, other), f"{name} and {other_name} stand over one another"


def assert_inside(boxes: dict[str, Bbox], outer: Bbox) -> None:
    for name, box in boxes.items():
        assert outer.x0 <= box.x0, name
        assert box.x1 <= outer.x1, name
        assert outer.y0 <= box.y0, name
        assert box.y1 <= outer.y1, name


def bubbles_of(chart: Figure) -> list[PathCollection]:
    (axes,) = chart.axes
    return [c for c in axes.collections if len(c.get_offsets()) and c.get_sizes().max() > 2]


def test_every_net_with_a_published_accuracy_is_shown(points: tuple[Point, ...]) -> None:
    assert {point.label.rstrip("†") for point in points} == set(SHOWN)
    assert len(points) > 30
    assert [point.area for point in points] == sorted((point.area for point in points), reverse=True), "small bubbles lie on top"
    assert {point.label for point in points if "†" in point.label} == {"alexnet-two-tower†", "zfnet†", "vgg11-lrn†", "vgg16-c†"}


def test_bubbles_stand_where_the_numbers_put_them(chart: Figure) -> None:
    by_hand, searched = bubbles_of(chart)
    for bubbles, wanted in ((by_hand, False), (searched, True)):
        nets = [entry for entry in listed(SHOWN) if is_searched(entry.net.name) == wanted]
        told = sorted((entry.totals.macs, entry.accuracy.top1) for entry in nets)
        assert np.allclose(sorted(map(tuple, bubbles.get_offsets())), told)
    assert by_hand.get_paths()[0] is not searched.get_paths()[0]
    assert tuple(by_hand.get_facecolor()[0]) != tuple(searched.get_facecolor()[0])


def test_the_area_of_a_bubble_is_its_parameters(chart: Figure) -> None:
    by_hand, searched = bubbles_of(chart)
    for bubbles, area_of_size in ((by_hand, pi / 4), (searched, 1.0)):  # s is a circle's diameter squared, a diamond's side squared
        nets = [entry for entry in listed(SHOWN) if is_searched(entry.net.name) == (bubbles is searched)]
        told = sorted(entry.totals.params * AREA_PER_PARAMETER for entry in nets)
        assert np.allclose(sorted(bubbles.get_sizes() * area_of_size), told)


def test_labels_cover_nothing_and_are_not_cut(chart: Figure, points: tuple[Point, ...]) -> None:
    (axes,) = chart.axes
    labels = boxes_of(axes.texts)
    assert set(labels) == {point.label for point in points}
    assert_apart(labels)
    assert_inside(labels, axes.get_window_extent())
    for point in points:
        x, y = axes.transData.transform((point.macs, point.top1))
        radius = np.sqrt(point.area / 2 if point.searched else point.area / pi) * chart.dpi / 72
        for name, box in labels.items():
            nearest = np.clip((x, y), box.min, box.max)
            if point.searched:  # a square on its corner: distances along the axes add up
                assert np.abs(nearest - (x, y)).sum() > radius, f"{name} lies on {point.label}"
            else:
                assert np.hypot(*(nearest - (x, y))) > radius, f"{name} lies on {point.label}"


def test_what_stands_around_the_axes_is_not_cut(chart: Figure) -> None:
    (axes,) = chart.axes
    outside = {"note": chart.texts[0].get_window_extent(), "legend": chart.legends[0].get_window_extent()}
    outside |= {"x": axes.xaxis.get_tightbbox(), "y": axes.yaxis.get_tightbbox()}
    assert_inside(outside, chart.bbox)
    assert_apart({name: box for name, box in outside.items() if name not in ("x", "y")} | {"axes": axes.get_tightbbox()})
    ticks = [label for label in [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)] if label.get_text()]
    assert {"500 M", "1 G", "10 G"} <= {label.get_text() for label in ticks}


def test_the_legend_tells_kinds_and_sizes(chart: Figure) -> None:
    texts = [text.get_text() for text in chart.legends[0].get_texts()]
    assert texts == ["designed by hand", "found by architecture search", "5 M parameters", "25 M parameters", "100 M parameters"]
    handles = chart.legends[0].legend_handles[2:]
    assert np.allclose([handle.get_sizes()[0] * pi / 4 / AREA_PER_PARAMETER / 1e6 for handle in handles], [5, 25, 100])


@pytest.mark.parametrize(
    "names", [["resnet34"], ["alexnet-owt", "alexnet-two-tower"], ["nasnet-a-mobile"], [n for n in SHOWN if "vgg" in n]]
)
def test_few_nets_fit_too(names: list[str]) -> None:
    figure = drawn(cost_figure(points_of(listed(names))))
    (axes,) = figure.axes
    labels = boxes_of(axes.texts)
    assert len(labels) == len(names)
    assert_apart(labels)
    assert_inside(labels, axes.get_window_extent())
    numbered = [text for text in [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)] if text.get_text()]
    assert len(numbered) >= 3
    assert ("†" in figure.texts[0].get_text()) == any("†" in label for label in labels)


def test_the_same_chart_twice(points: tuple[Point, ...], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_cost(tmp_path / name, points)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_no_point_no_bubble() -> None:
    assert points_of(listed(["alexnet", "googlenet-v1", "resnet20", "lenet5"])) == (), "no figure, top-5 alone, CIFAR-10, MNIST"


def test_the_challenge_s_errors_and_depths() -> None:
    figure = drawn(depth_figure())
    depths, errors = figure.axes
    assert [bar.get_height() for bar in errors.patches] == [entry.error for entry in ENTRIES]
    assert [tuple(xy) for xy in depths.lines[0].get_xydata()] == [(i, e.layers) for i, e in enumerate(ENTRIES) if e.layers]
    assert [line.get_ydata()[0] for line in errors.lines] == [HUMAN_ERROR]
    for axes, told in ((depths, ["8", "8", "19", "22", "152", "154"]), (errors, ["28.2", "25.8", "16.4", "3.57", "2.99", "2.25"])):
        texts = [text for text in axes.texts if text.get_text()]
        assert [text.get_text() for text in texts if text.get_text() in told] == told
        boxes = {f"{number} {text.get_text()}": text.get_window_extent() for number, text in enumerate(texts)}
        assert_apart(boxes)
        assert_inside(boxes, axes.get_window_extent())
    names = boxes_of(errors.get_xticklabels())
    assert len(names) == len(ENTRIES)
    note = {"note": figure.texts[0].get_window_extent()}
    assert_apart(names | note)
    assert_inside(names | note, figure.bbox)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"chart.{suffix}"
    draw_depth(path)
    data = path.read_bytes()
    if suffix == "png":
        with Image.open(path) as image:
            assert image.size == (1440, 960), "7.2 by 4.8 inches at 200 dots each"
            assert round(image.info["dpi"][0]) == 200
    else:
        assert data.startswith(b"%PDF" if suffix == "pdf" else b"<?xml")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
