"""Pages of diagrams, of the whole zoo and of random nets: nothing covers anything, nothing sticks out, every line leads where it should."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from randomnets import random_net

from cnncli.arch.blocks import Concatenate, Graph
from cnncli.arch.drawing.builder import draw
from cnncli.arch.drawing.plan import Box, Drawing, Frame, Item, Parallel, Series, Wiring, boxes
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net
from cnncli.arch.zoo.table import ZOO, build
from cnncli.reports.diagram.legend import MEANINGS, SIGN, legend
from cnncli.reports.diagram.marks import Disc, Line, Mark, Rect, Text, text_width
from cnncli.reports.diagram.page import MARGIN, Page, page
from cnncli.reports.diagram.pieces import GREY, RADIUS, STACK
from cnncli.reports.diagram.write import COLOURS, _curves

NEAR = 0.05  # points; lines meet boxes and each other exactly, but for rounding
WAYS: dict[str, dict[str, object]] = {"folded": {}, "all": {"all_layers": True}, "depth 1": {"depth": 1}, "depth 2": {"depth": 2}}
RANDOM = tuple(f"random{seed}" for seed in range(40))
FEW = ("resnet18", "densenet-bc-100-12", "googlenet", "darts-v1", "amoebanet-a", "pnasnet-5", *RANDOM[:20])


def names_of(way: str) -> tuple[str, ...]:
    return (*ZOO, *RANDOM) if way == "folded" else FEW


each_way = pytest.mark.parametrize("way", ["folded", "all", *(pytest.param(f"depth {n}", marks=pytest.mark.slow) for n in (1, 2))])


@cache
def net_of(name: str) -> Net:
    return random_net(int(name.removeprefix("random"))) if name.startswith("random") else build(name)


@cache
def drawn(name: str, way: str) -> Drawing:
    return draw(net_of(name), **WAYS[way])  # type: ignore[arg-type]


class Sheet(NamedTuple):
    """A page's marks, sorted."""

    whole: Page
    body: tuple[Mark, ...]
    foot: tuple[Mark, ...]
    solid: list[Rect]  # boxes of layers and inputs
    outer: list[Rect]  # frames
    sheets: list[Rect]
    texts: list[Text]
    lines: list[Line]
    discs: list[Disc]


@cache
def sheet(name: str, way: str) -> Sheet:
    return sheet_of(drawn(name, way))


def sheet_of(drawing: Drawing) -> Sheet:
    whole = page(drawing)
    foot = whole.marks[len(whole.marks) - len(legend(drawing, whole.width - 2 * MARGIN)[0]) :]
    body = whole.marks[: len(whole.marks) - len(foot)]
    rects = [mark for mark in body if isinstance(mark, Rect)]
    return Sheet(
        whole,
        body,
        foot,
        [rect for rect in rects if rect.kind not in ("frame", "sheet")],
        [rect for rect in rects if rect.kind == "frame"],
        [rect for rect in rects if rect.kind == "sheet"],
        [mark for mark in body if isinstance(mark, Text)],
        [mark for mark in body if isinstance(mark, Line)],
        [mark for mark in body if isinstance(mark, Disc)],
    )


# ---- geometry ----

Area = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]


def area(mark: Mark) -> Area:
    match mark:
        case Rect():
            return (mark.left, mark.top, mark.left + mark.width, mark.top + mark.height)
        case Disc():
            return (mark.x - RADIUS, mark.y - RADIUS, mark.x + RADIUS, mark.y + RADIUS)
        case Text():
            width = text_width(mark.text, mark.size, bold=mark.bold)
            return (mark.left, mark.y - mark.size / 2, mark.left + width, mark.y + mark.size / 2)
        case Line():
            xs, ys = zip(*path(mark), strict=True)
            return (min(xs), min(ys), max(xs), max(ys))


def path(line: Line) -> list[Point]:
    """The points of a line; a curve as the points between which it is nearly straight."""
    if not line.curved:
        return list(line.points)
    vertices, _ = _curves(list(line.points))
    found = [vertices[0]]
    for i in range(0, len(vertices) - 1, 3):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = vertices[i : i + 4]
        for t in np.linspace(0, 1, 13)[1:]:
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            found.append((float(a * x0 + b * x1 + c * x2 + d * x3), float(a * y0 + b * y1 + c * y2 + d * y3)))
    return found


def apart(one: Area, other: Area, gap: float = -NEAR) -> bool:
    return one[2] + gap <= other[0] or other[2] + gap <= one[0] or one[3] + gap <= other[1] or other[3] + gap <= one[1]


def within(one: Area, other: Area, pad: float = 0.0) -> bool:
    return one[0] >= other[0] + pad and one[1] >= other[1] + pad and one[2] <= other[2] - pad and one[3] <= other[3] - pad


def clashes(areas: Sequence[Area], others: Sequence[Area]) -> list[tuple[int, int]]:
    """Which of the one overlap which of the others."""
    if not areas or not others:
        return []
    a, b = np.asarray(areas)[:, None], np.asarray(others)[None]
    free = (
        (a[..., 2] - NEAR <= b[..., 0])
        | (b[..., 2] - NEAR <= a[..., 0])
        | (a[..., 3] - NEAR <= b[..., 1])
        | (b[..., 3] - NEAR <= a[..., 1])
    )
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(~free), strict=True)]


def pierced(points: Sequence[Point], box: Area) -> bool:
    """Whether a line runs through the inside of a box."""
    left, top, right, bottom = box[0] + NEAR, box[1] + NEAR, box[2] - NEAR, box[3] - NEAR
    for (x0, y0), (x1, y1) in pairwise(points):
        low, high = 0.0, 1.0
        for begin, step, least, most in ((x0, x1 - x0, left, right), (y0, y1 - y0, top, bottom)):
            if step == 0:
                if not least < begin < most:
                    low, high = 1.0, 0.0
                continue
            ends = sorted(((least - begin) / step, (most - begin) / step))
            low, high = max(low, ends[0]), min(high, ends[1])
        if low < high:
            return True
    return False


def on_edge(point: Point, mark: Rect | Disc) -> bool:
    if isinstance(mark, Disc):  # two curves end beside each other at its top: half a line's width above the circle
        return abs(((point[0] - mark.x) ** 2 + (point[1] - mark.y) ** 2) ** 0.5 - RADIUS) < 0.4
    left, top, right, bottom = area(mark)
    x, y = point
    if not (left - NEAR <= x <= right + NEAR and top - NEAR <= y <= bottom + NEAR):
        return False
    return min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) < NEAR


def on_line(point: Point, line: Line) -> bool:
    x, y = point
    if line.curved:
        return any(abs(x - px) < NEAR and abs(y - py) < NEAR for px, py in (line.points[0], line.points[-1]))
    for (x0, y0), (x1, y1) in pairwise(line.points):
        if min(x0, x1) - NEAR <= x <= max(x0, x1) + NEAR and min(y0, y1) - NEAR <= y <= max(y0, y1) + NEAR:
            return True  # every straight line here is level or upright
    return False


# ---- everything in its place ----


@each_way
def test_nothing_leaves_the_page(way: str) -> None:
    for name in names_of(way):
        whole = sheet(name, way).whole
        for mark in whole.marks:
            assert within(area(mark), (0, 0, whole.width, whole.height), 2.0), f"{name}: {mark}"


@each_way
def test_boxes_do_not_overlap(way: str) -> None:
    for name in names_of(way):
        parts = sheet(name, way)
        solid = [*parts.solid, *parts.discs]
        areas = [area(mark) for mark in solid]
        assert [(solid[i], solid[j]) for i, j in clashes(areas, areas) if i < j] == [], name
        for frame in parts.outer:
            inside = area(frame)
            stack = [rect for rect in parts.sheets if _is_behind(rect, frame)]
            whole = (inside[0], inside[1], inside[2] + STACK * len(stack), inside[3] + STACK * len(stack))
            for mark in [*solid, *parts.outer, *parts.sheets]:
                if mark is frame or mark in stack:
                    continue
                assert apart(area(mark), whole) or within(area(mark), inside, 1.0) or within(whole, area(mark), 1.0), (
                    f"{name}: {mark}, {frame}"
                )


def _is_behind(rect: Rect, frame: Rect) -> bool:
    step = (rect.left - frame.left) / STACK
    same = (rect.width, rect.height) == (frame.width, frame.height)
    return same and abs(rect.top - frame.top - STACK * step) < NEAR and any(abs(step - number) < NEAR for number in (1, 2))


@each_way
def test_sheets_lie_behind_a_frame(way: str) -> None:
    """Two behind each frame that says `x n`, painted before it."""
    for name in names_of(way):
        parts = sheet(name, way)
        counted = [text for text in parts.texts if text.text.startswith("x ")]
        behind = [[rect for rect in parts.sheets if _is_behind(rect, frame)] for frame in parts.outer]
        assert sorted(map(len, behind), reverse=True) == [2] * len(counted) + [0] * (len(parts.outer) - len(counted)), name
        order = {id(mark): i for i, mark in enumerate(parts.body)}
        for frame, stack in zip(parts.outer, behind, strict=True):
            assert all(order[id(rect)] < order[id(frame)] for rect in stack), name


@each_way
def test_text_stays_in_its_box(way: str) -> None:
    for name in names_of(way):
        parts = sheet(name, way)
        solid = [area(mark) for mark in (*parts.solid, *parts.discs)]
        held = [0] * len(parts.solid)
        for i, j in clashes([area(text) for text in parts.texts], solid):
            assert j < len(held), f"{name}: {parts.texts[i]} lies on an addition"
            assert within(area(parts.texts[i]), solid[j], 0.5), f"{name}: {parts.texts[i]} sticks out of {parts.solid[j]}"
            held[j] += 1
        assert all(held), f"{name}: a box without words"
        for text in parts.texts:
            for frame in parts.outer:
                assert apart(area(text), area(frame)) or within(area(text), area(frame), 1.0), f"{name}: {text} on the edge of {frame}"


@each_way
def test_text_does_not_overlap(way: str) -> None:
    for name in names_of(way):
        texts = [mark for mark in sheet(name, way).whole.marks if isinstance(mark, Text)]
        areas = [area(text) for text in texts]
        assert [(texts[i].text, texts[j].text) for i, j in clashes(areas, areas) if i < j] == [], name


@each_way
def test_no_line_runs_through_a_box_or_a_word(way: str) -> None:
    for name in names_of(way):
        parts = sheet(name, way)
        things: list[Rect | Disc | Text] = [*parts.solid, *parts.discs, *parts.texts]
        areas = [area(thing) for thing in things]
        for line, j in clashes([_widened(area(line)) for line in parts.lines], areas):
            assert not pierced(path(parts.lines[line]), areas[j]), f"{name}: {parts.lines[line]} runs through {things[j]}"


def _widened(one: Area) -> Area:
    return (one[0] - 1, one[1] - 1, one[2] + 1, one[3] + 1)


@each_way
def test_ids_stand_once(way: str) -> None:
    """They are those of an SVG, where a link or a script finds a layer by its path."""
    for name in names_of(way):
        drawing = drawn(name, way)
        ids = Counter(mark.gid for mark in sheet(name, way).body if isinstance(mark, Rect | Disc) and mark.gid)
        assert max(ids.values()) == 1, name
        assert all(re.fullmatch(r"\S+", one) for one in ids), name
        assert {box.path for item in (drawing.main, *(panel.wiring for panel in drawing.panels)) for box in boxes(item)} <= set(ids), name


# ---- lines ----


@each_way
def test_no_line_ends_in_the_air(way: str) -> None:
    """A line begins at a box, or on another line; an arrow ends at a box, any other line at a box or where another begins."""
    for name in names_of(way):
        parts = sheet(name, way)
        targets: list[Rect | Disc] = [*parts.solid, *parts.discs]
        framed: list[Rect | Disc] = [*targets, *parts.outer, *parts.sheets]
        for line in parts.lines:
            others = [other for other in parts.lines if other is not line]
            begin, end = line.points[0], line.points[-1]
            where = f"{name}: {line}"
            assert any(on_edge(begin, mark) for mark in framed) or any(on_line(begin, other) for other in others), where
            if line.arrow:
                assert any(on_edge(end, mark) for mark in framed), where
            else:
                assert any(on_edge(end, mark) for mark in targets) or any(_near(end, other.points[0]) for other in others), where


def _near(one: Point, other: Point) -> bool:
    return abs(one[0] - other[0]) < NEAR and abs(one[1] - other[1]) < NEAR


@each_way
def test_straight_lines_do_not_cross_each_other_or_the_sides_of_frames(way: str) -> None:
    for name in names_of(way):
        parts = sheet(name, way)
        straight = [(line, one, other) for line in parts.lines if not line.curved for one, other in pairwise(line.points) if one != other]
        level = [(line, *sorted((one, other))) for line, one, other in straight if abs(one[1] - other[1]) < NEAR]
        upright = [
            (line, *sorted((one, other), key=lambda point: point[1])) for line, one, other in straight if abs(one[0] - other[0]) < NEAR
        ]
        assert len(level) + len(upright) == len(straight), f"{name}: a slanted line"
        for _, (x0, y), (x1, _) in level:
            for other, (x, top), (_, bottom) in upright:
                assert not (x0 + NEAR < x < x1 - NEAR and top + NEAR < y < bottom - NEAR), f"{name}: {other} is crossed at {y}"
            for frame in (*parts.outer, *parts.sheets):
                left, top, right, bottom = area(frame)
                if top < y < bottom:
                    assert not any(x0 + NEAR < side < x1 - NEAR for side in (left, right)), f"{name}: the side of {frame} is crossed at {y}"


class Ink:
    """What leads where on paper, from the marks alone: pairs of ids of boxes; an input counts as what is written in it."""

    def __init__(self, parts: Sheet) -> None:
        self.lines = parts.lines
        self.boxes: list[tuple[Rect | Disc, str]] = [(disc, disc.gid) for disc in parts.discs]
        for rect in parts.solid:
            inside = [text.text for text in parts.texts if within(area(text), area(rect))]
            around = [frame.gid for frame in parts.outer if within(area(rect), area(frame)) and frame.kind == "frame"]
            self.boxes.append((rect, rect.gid or f"{around[-1] if around else ''}:{inside[0].split()[0]}"))
        self.sides: list[tuple[Rect | Disc, str]] = []
        for frame in parts.outer:
            (inner, *more) = [name for box, name in self.boxes if within(area(box), area(frame))]
            if not more:
                stack = [rect for rect in parts.sheets if _is_behind(rect, frame)]
                self.sides += [(rect, inner) for rect in (frame, *stack)]
        self.known: dict[int, set[str]] = {}

    def edges(self) -> set[tuple[str, str]]:
        return {(source, target) for line in self.lines for target in self.targets(line) for source in self.sources(line)}

    def targets(self, line: Line) -> list[str]:
        end = line.points[-1]
        return _at(end, self.boxes) or (_at(end, self.sides) if line.arrow else [])

    def sources(self, line: Line) -> set[str]:
        if id(line) not in self.known:
            begin = line.points[0]
            others = [other for other in self.lines if other is not line]
            before = [other for other in others if _near(other.points[-1], begin)]
            before = before or [other for other in others if not _near(other.points[0], begin) and on_line(begin, other)]
            found = set(_at(begin, self.boxes))
            if not found:
                found = set().union(*map(self.sources, before)) if before else set(_at(begin, self.sides))
            self.known[id(line)] = found
        return self.known[id(line)]


def _at(point: Point, places: Sequence[tuple[Rect | Disc, str]]) -> list[str]:
    return [name for mark, name in places if on_edge(point, mark)]


def shown(item: Item, given: tuple[str, ...], edges: set[tuple[str, str]]) -> str:
    """Adds what a part of a drawing reads to `edges`; the box from which its output comes."""
    match item:
        case Box():
            edges.update((source, item.path) for source in given)
            return item.path
        case Series():
            for inner in item.items:
                given = (shown(inner, given, edges),)
            return given[0]
        case Parallel():
            return shown(item.merge, tuple(shown(branch, given, edges) for branch in item.branches), edges)
        case Frame():
            assert len(given) == 1 or len(list(boxes(item))) == 1
            return shown(item.item.items[0] if len(given) > 1 else item.item, given, edges)
        case Wiring():
            known = dict(zip(item.sources, given, strict=True))
            for node in item.nodes:
                known[node.name] = shown(node.item, tuple(known[read] for read in node.reads), edges)
            return known[item.nodes[-1].name]


def has_opened_cells(item: Item) -> bool:
    match item:
        case Series():
            return any(map(has_opened_cells, item.items))
        case Wiring():
            return len(item.sources) > 1 or any(has_opened_cells(node.item) for node in item.nodes)
    return False


@each_way
def test_the_lines_on_paper_are_the_wiring_of_the_drawing(way: str) -> None:
    for name in names_of(way):
        drawing = drawn(name, way)
        if has_opened_cells(drawing.main):
            continue  # lines from outside end at the frame of such a cell
        edges: set[tuple[str, str]] = set()
        shown(drawing.main, (":input",), edges)
        for panel in drawing.panels:
            shown(panel.wiring, tuple(f"{panel.title.replace(' ', '-')}:{source}" for source in panel.wiring.sources), edges)
        assert Ink(sheet(name, way)).edges() == edges, name


def test_skips_have_lanes_of_their_own() -> None:
    """Where much is read from afar, lines beside a stack run side by side, never on one another."""
    names = ("input", "a", "b", "c", "d", "e")
    nodes = tuple((name, Conv(2, kernel=1) if i == 0 else Concatenate(), names[: i + 1]) for i, name in enumerate(names[1:]))
    drawing = draw(Net("skips", Graph(nodes), (2, 4, 4), 1))
    assert isinstance(drawing.main.items[0], Wiring)
    parts = sheet_of(drawing)
    edges: set[tuple[str, str]] = set()
    shown(drawing.main, (":input",), edges)
    assert Ink(parts).edges() == edges
    assert len(edges) == 1 + 2 + 3 + 4 + 5
    upright = [(line, *sorted((one, other), key=lambda at: at[1])) for line in parts.lines for one, other in pairwise(line.points)]
    for i, (line, (x, top), (x1, bottom)) in enumerate(upright):
        for other, (left, high), (left1, low) in upright[:i]:
            together = x == x1 and left == left1 and abs(x - left) < 4 and min(bottom, low) - max(top, high) > 1
            assert other is line or not together, f"{line} runs along {other}"


# ---- legend and words ----


@each_way
def test_the_legend_shows_what_is_drawn_and_nothing_else(way: str) -> None:
    for name in names_of(way):
        parts = sheet(name, way)
        told = [mark.text for mark in parts.foot if isinstance(mark, Text)]
        used = {rect.kind for rect in parts.solid} - {"input"}
        used |= {"add"} if parts.discs else set()
        used |= {"sheet"} if parts.sheets else set()
        dashed = any(line.dashed for line in parts.lines)
        assert set(told) - {MEANINGS["dashed"], MEANINGS["padded"]} == {MEANINGS[kind] for kind in used}, name
        assert dashed == bool({MEANINGS["dashed"], MEANINGS["padded"]} & set(told)), name
        assert len(told) == len(set(told)), name
        for text in (mark for mark in parts.foot if isinstance(mark, Text)):
            signs = [mark for mark in parts.foot if not isinstance(mark, Text) and abs(area(mark)[1] - (text.y - 5)) < 6]
            near = [mark for mark in signs if text.x - SIGN - 1 < area(mark)[0] < text.x]
            (kind,) = [kind for kind, meaning in MEANINGS.items() if meaning == text.text]
            drawn_as = {"add": Disc, "dashed": Line, "padded": Line}.get(kind, Rect)
            assert all(isinstance(mark, drawn_as) for mark in near), f"{name}: {text.text}"
            assert near, f"{name}: {text.text}"
            if kind not in ("add", "dashed", "padded", "sheet"):
                assert [mark.kind for mark in near if isinstance(mark, Rect)] == [kind], name


def test_what_the_legend_says_of_shortcuts() -> None:
    """He et al. 2015, sections 4.1 and 4.2: CIFAR's are identities, subsampled and padded (option A); ImageNet's project (option B)."""

    def told(name: str) -> set[str]:
        return {mark.text for mark in sheet(name, "folded").foot if isinstance(mark, Text)} & {MEANINGS["dashed"], MEANINGS["padded"]}

    assert told("resnet50") == {"projection shortcut"}
    assert told("resnet20") == {MEANINGS["padded"]}
    assert told("mobilenet_v2") == told("densenet121") == told("darts-v2") == set()


def test_dashed_shortcuts_of_resnet50() -> None:
    """Two lines each, to and from the projection, in the first block of each of four stages; identities are solid."""
    lines = [line for line in sheet("resnet50", "folded").lines if line.dashed]
    assert len(lines) == 8
    boxes_ = {rect.gid for rect in sheet("resnet50", "folded").solid if any(on_edge(line.points[0], rect) for line in lines)}
    assert boxes_ == {f"conv{stage}_x.block1.shortcut" for stage in (2, 3, 4, 5)}


def test_kinds_differ_in_colour() -> None:
    colours = [COLOURS[kind] for kind in MEANINGS if kind in COLOURS]
    assert len(set(colours)) == len(colours)


def test_words_can_be_read_on_every_colour() -> None:
    """WCAG 2: 4.5 : 1, for the name of a layer in grey, too."""

    def light(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert all((light(colour) + 0.05) / (light(GREY) + 0.05) >= 4.5 for colour in COLOURS.values())


def test_the_head_tells_the_totals() -> None:
    texts = [text.text for text in sheet("alexnet", "folded").texts]
    assert "alexnet" in texts
    assert "input 3x227x227  ·  62,378,344 parameters  ·  1.14 G multiply-adds  ·  depth 8" in texts
    assert net_of("alexnet").paper in texts


def test_sizes_stand_where_they_change() -> None:
    """Beside the arrows of AlexNet: 55, 27, 13 as on the lecture's slide; none between layers of one size."""
    notes = [text.text for text in sheet("alexnet", "folded").texts if re.fullmatch(r"[0-9x]+", text.text)]
    assert notes == ["96x55x55", "96x27x27", "256x27x27", "256x13x13", "384x13x13", "256x13x13", "9216", "4096"]
    framed = [text.text for text in sheet("mobilenet_v2", "folded").texts if re.fullmatch(r"[0-9x]+", text.text)]
    assert framed[:6] == ["32x112x112", "16x112x112", "96x112x112", "96x56x56", "24x56x56", "144x56x56"]


def test_frames_say_how_often() -> None:
    texts = [text.text for text in sheet("resnet50", "folded").texts]
    assert [text for text in texts if text.startswith("x ")] == ["x 2", "x 3", "x 5", "x 2"]
    assert "conv4_x.block2-6" in texts


@pytest.mark.parametrize("name", ["alexnet", "resnet50", "googlenet", "mobilenet_v2", "densenet201", "vgg16", "darts-v2", "nasnet-a-large"])
def test_pages_have_about_the_shape_of_a_page(name: str) -> None:
    whole = sheet(name, "folded").whole
    assert 1.0 < whole.width / whole.height < 2.2


def test_a_long_name_does_not_make_a_wide_page() -> None:
    """Notation is the name of its net, and a name in a file can be anything."""
    short = page(draw(net_of("lenet5")))
    for name in ("conv3-64 relu " * 60, "(CONV-RELU)*2-" * 60, "x" * 5000, "W" * 200):
        long = page(draw(replace(net_of("lenet5"), name=name.strip())))
        assert long.width < 850, name
        texts = [mark for mark in long.marks if isinstance(mark, Text)]
        areas = [area(text) for text in texts]
        assert not [(texts[i].text, texts[j].text) for i, j in clashes(areas, areas) if i < j]
        assert all(within(place, (0, 0, long.width, long.height)) for place in areas)
        assert long.height < short.height + 200
    whole = page(draw(replace(net_of("lenet5"), name="conv3-64 relu " * 20)))
    head = [mark.text for mark in whole.marks if isinstance(mark, Text) and mark.bold]
    assert " ".join(head) == ("conv3-64 relu " * 20).strip()
