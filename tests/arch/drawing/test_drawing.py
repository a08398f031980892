"""Drawings of the whole zoo and of random nets: nothing is left out, nothing is drawn as one that is not, nothing is wired otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain, pairwise

import pytest
from randomnets import random_net

from cnncli.arch.blocks import INPUT, Add, Block, Chain, Concatenate, Dense, Graph, Part
from cnncli.arch.drawing.builder import draw
from cnncli.arch.drawing.plan import Box, Drawing, Frame, Item, Parallel, Series, Wiring, boxes
from cnncli.arch.layers import Conv, pair
from cnncli.arch.net import Net, Row, walk
from cnncli.arch.pointwise import Activation
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import UsageError

RANDOM = 40
WAYS: dict[str, dict[str, object]] = {
    "folded": {},
    "all": {"all_layers": True},
    **{f"depth {depth}": {"depth": depth} for depth in (1, 2, 3)},
    "depth 1, all": {"depth": 1, "all_layers": True},
}
CELLS = [name for name in ZOO if ZOO[name].builder.partition(":")[0] in ("nasnet", "darts")]


def names_of(way: str) -> tuple[str, ...]:
    """The whole zoo where it costs little; the nets that are cut in the most ways elsewhere."""
    return NAMES if way in ("folded", "all", "depth 1", "depth 2") else (*CELLS[::3], "resnet50", "densenet121", *NAMES[len(ZOO) :])


@cache
def net_of(name: str) -> Net:
    return random_net(int(name.removeprefix("random"))) if name.startswith("random") else build(name)


@cache
def rows_of(name: str) -> tuple[Row, ...]:
    return walk(net_of(name))


@cache
def drawn(name: str, way: str) -> Drawing:
    return draw(net_of(name), **WAYS[way])  # type: ignore[arg-type]


NAMES = (*ZOO, *(f"random{seed}" for seed in range(RANDOM)))
SLOW = ("depth 2", "depth 3", "depth 1, all")  # all of them together take some seconds
each_way = pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow if way in SLOW else ()) for way in WAYS])


def items(item: Item) -> Iterator[Item]:
    """An item and all that is in it."""
    yield item
    match item:
        case Series():
            inner: tuple[Item, ...] = item.items
        case Parallel():
            inner = (*item.branches, item.merge)
        case Frame():
            inner = (item.item,)
        case Wiring():
            inner = tuple(node.item for node in item.nodes)
        case _:
            inner = ()
    for one in inner:
        yield from items(one)


def frames(drawing: Drawing) -> list[Frame]:
    return [item for item in items(drawing.main) if isinstance(item, Frame)]


def nested(item: Item, times: int = 1) -> Iterator[tuple[Box | Frame, int]]:
    """Boxes and frames, each with how often the frames around it say that it stands there."""
    match item:
        case Box():
            yield item, times
        case Series():
            yield from chain.from_iterable(nested(inner, times) for inner in item.items)
        case Parallel():
            yield from chain.from_iterable(nested(inner, times) for inner in (*item.branches, item.merge))
        case Frame():
            yield item, times
            yield from nested(item.item, times * item.times)
        case Wiring():
            yield from chain.from_iterable(nested(node.item, times) for node in item.nodes)


def repeated(drawing: Drawing) -> dict[str, int]:
    return {frame.name: frame.times for frame in frames(drawing) if frame.times > 1}


# ---- a slow twin: who reads whom, from the steps alone ----


def reads_of(net: Net) -> dict[str, tuple[str, ...]]:
    """Row -> the rows that it reads, in order; INPUT for the net's input."""
    reads: dict[str, tuple[str, ...]] = {}

    def visit(part: Part, path: str, given: tuple[str, ...]) -> str:
        if not isinstance(part, Block):
            reads[path] = given
            return path
        known = dict(zip(part.sources, given, strict=True))
        end = given[0]
        for name, inner, sources in part.steps():
            end = known[name] = visit(inner, f"{path}.{name}" if path else name, tuple(known[source] for source in sources))
        return end

    visit(net.root, "", (INPUT,))
    return reads


@cache
def blocks_of(name: str) -> dict[str, Block]:
    net = net_of(name)
    found: dict[str, Block] = {}

    def visit(part: Part, path: str) -> None:
        if isinstance(part, Block):
            found[path] = part
            for name, inner, _ in part.steps():
                visit(inner, f"{path}.{name}" if path else name)

    visit(net.root, "")
    return found


# ---- the wiring that a drawing shows ----


class Wires:
    """Follows a drawing: `reads` are the boxes that each box reads, by number, in order; INPUT and a cell's sources stay names."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.reads: list[tuple[int | str, ...]] = []
        self.again: list[tuple[int, int]] = []  # what the repetitions of a frame read of the one before

    def follow(self, item: Item, given: tuple[int | str, ...]) -> int | str:
        """Where the item's output comes from."""
        match item:
            case Box():
                if not item.rows:
                    assert len(given) == 1, "an identity has one input"
                    return given[0]
                self.boxes.append(item)
                self.reads.append(given)
                return len(self.boxes) - 1
            case Series():
                end = given
                for inner in item.items:
                    end = (self.follow(inner, end),)
                (only,) = end
                return only
            case Parallel():
                return self.follow(item.merge, tuple(self.follow(branch, given) for branch in item.branches))
            case Frame():
                first = len(self.boxes)
                end = self.follow(item.item, given)
                if item.times > 1:
                    assert isinstance(end, int)
                    entered = [i for i in range(first, len(self.boxes)) if set(self.reads[i]) & set(given)]
                    self.again += [(end, i) for i in entered]
                return end
            case Wiring():
                known = dict(zip(item.sources, given, strict=True))
                for node in item.nodes:
                    known[node.name] = self.follow(node.item, tuple(known[read] for read in node.reads))
                return known[item.nodes[-1].name]


def shown_wires(drawing: Drawing) -> Wires:
    wires = Wires()
    wires.follow(drawing.main, (INPUT,))
    return wires


# ---- the whole zoo, and random nets ----


@each_way
def test_each_layer_is_in_one_box(way: str) -> None:
    for name in names_of(way):
        in_boxes = Counter(row for box in boxes(drawn(name, way).main) for row in (row.name for row in box.rows))
        assert in_boxes == Counter(row.name for row in rows_of(name)), name


@each_way
def test_the_wiring_shown_is_that_of_the_net(way: str) -> None:
    for name in names_of(way):
        wires = shown_wires(drawn(name, way))
        box_of: dict[str, int | str] = {row.name: i for i, box in enumerate(wires.boxes) for row in box.rows} | {INPUT: INPUT}
        true = {(box_of[read], box_of[row]) for row, reads in reads_of(net_of(name)).items() for read in reads}
        shown = {(read, i) for i, reads in enumerate(wires.reads) for read in reads} | set(wires.again)
        assert {edge for edge in shown if edge[0] != edge[1]} == {edge for edge in true if edge[0] != edge[1]}, name


def test_opened_drawings_keep_the_order_of_what_is_read() -> None:
    """Row by row, where each box is a series of layers: a merge reads its branches from left to right."""
    for name in NAMES:
        wires = shown_wires(drawn(name, "all"))
        true, blocks = reads_of(net_of(name)), blocks_of(name)
        for box, reads in zip(wires.boxes, wires.reads, strict=True):
            if box.path in blocks and len(box.rows) > 1 and isinstance(blocks[box.path], Block):
                continue  # a closed block: only which boxes it reads is known, as the test before sees
            first, *rest = box.rows
            assert true[first.name] == tuple(read if isinstance(read, str) else wires.boxes[read].rows[-1].name for read in reads), name
            for before, row in zip(box.rows, rest, strict=False):
                assert true[row.name] == (before.name,), name


@each_way
def test_what_is_drawn_once_is_the_same_each_time(way: str) -> None:
    """The layers of a frame are `times` runs of equal layers, one after the other in the net, and its name says from where to where."""
    for name in names_of(way):
        position = {row.name: i for i, row in enumerate(rows_of(name))}
        for frame, outer in nested(drawn(name, way).main):
            if isinstance(frame, Box):
                continue
            rows = sorted((row for box in boxes(frame) for row in box.rows), key=lambda row: position[row.name])
            length, over = divmod(len(rows), outer * frame.times)
            assert not over, f"{name}: {frame.name} x {frame.times} has {len(rows)} layers"
            runs = [rows[begin : begin + length] for begin in range(0, len(rows), length)]
            assert all([row.part for row in run] == [row.part for row in runs[0]] for run in runs), f"{name}: {frame.name}"
            shown = [row for run in runs[: frame.times] for row in run]
            places = [position[row.name] for row in shown]
            assert places == list(range(places[0], places[0] + len(places))), f"{name}: {frame.name} leaves something out"
            if frame.times > 1:
                first, _, rest = frame.name.partition("-")  # `block2-18`, or `stage1.block1-stage2.block1`
                assert first == frame.path, f"{name}: {frame.name}"
                assert first in _prefixes(runs[0]), f"{name}: {frame.name}"
                last = {rest, first.rstrip("0123456789") + rest} & _prefixes(runs[frame.times - 1])
                assert last, f"{name}: {frame.name}"
                assert not last & _prefixes(shown[:-length]), f"{name}: {frame.name}"


def _prefixes(rows: list[Row]) -> set[str]:
    """The paths of the blocks that hold all of these rows but merges beside them, and of rows."""
    names = [row.name.split(".") for row in rows]
    return {".".join(name[:level]) for name in names for level in range(1, len(name) + 1)}


@each_way
def test_a_box_in_a_frame_has_the_layers_of_all(way: str) -> None:
    for name in names_of(way):
        for box, times in nested(drawn(name, way).main):
            if isinstance(box, Box):
                share = len(box.rows) // times
                assert [row.part for row in box.rows] == [row.part for row in box.rows[:share]] * times, f"{name}: {box.path}"
                if box.kind == "concat":
                    sizes = [row.output[0] for row in box.rows if isinstance(row.part, Concatenate)]
                    inside = sizes if len(set(sizes)) > 1 else sizes[:1]
                    assert box.label.removeprefix("concat, ").split(" to ") == [str(size) for size in (inside[0], *inside[1:][-1:])], name


def test_all_folds_nothing() -> None:
    for name in NAMES:
        drawing = drawn(name, "all")
        assert not repeated(drawing), name
        assert not drawing.panels, name
        assert not any(box.kind == "cell" for box in boxes(drawing.main)), name


@pytest.mark.parametrize("way", ["depth 1", *(pytest.param(way, marks=pytest.mark.slow) for way in SLOW)])
def test_depth_closes_what_is_deeper(way: str) -> None:
    depth = int(way.split()[1].rstrip(","))
    for name in names_of(way):
        drawing = drawn(name, way)
        shown = [drawing.main, *(panel.wiring for panel in drawing.panels)]
        assert all(box.path.count(".") < depth for item in shown for box in boxes(item)), name
        for box in boxes(drawing.main):
            if box.path in blocks_of(name) and all(row.name.startswith(f"{box.path}.") for row in box.rows):
                inside = sum(row.name.startswith(f"{box.path}.") for row in rows_of(name))
                assert len(box.rows) == inside, f"{name}: {box.path} holds all of its block"


def test_a_depth_that_closes_nothing_changes_nothing() -> None:
    for name in names_of("depth 3"):
        deepest = max(row.name.count(".") + 1 for row in rows_of(name))
        assert draw(net_of(name), depth=deepest + 1) == drawn(name, "folded"), name


def test_depth_below_1_is_refused() -> None:
    with pytest.raises(UsageError, match="--depth 0 should be 1 or more"):
        draw(net_of("lenet5"), depth=0)


def test_no_run_of_equal_blocks_is_drawn_twice() -> None:
    """Neighbours that are frames or branches of equal layers and wiring would have been folded."""

    def plain(item: Item) -> object:
        match item:
            case Box():
                return [row.part for row in item.rows]
            case Series():
                return [plain(inner) for inner in item.items]
            case Parallel():
                return ([plain(branch) for branch in item.branches], plain(item.merge))
            case Frame():
                return plain(item.item)
            case Wiring():
                return object()  # never equal

    for name in NAMES:
        for item in items(drawn(name, "folded").main):
            if isinstance(item, Series):
                framed = [plain(inner) if isinstance(inner, Frame) and inner.times == 1 else None for inner in item.items]
                for one, other in pairwise(framed):
                    assert one is None or one != other, name


def test_merges_have_no_words_of_layers() -> None:
    """Each box's words are those of its own layers: before, the layer it is named after, after."""
    for name in NAMES:
        for box in boxes(drawn(name, "all").main):
            if box.kind in ("add", "concat"):
                assert len(box.rows) == 1 + len(box.after), f"{name}: {box.path}"
            elif box.path in {row.name for row in box.rows} and not box.label.count("layers"):
                at = [row.name for row in box.rows].index(box.path)
                assert len(box.before) == at or box.label.count(", "), f"{name}: {box.path}"


# ---- cells ----


@pytest.mark.parametrize("name", CELLS)
def test_panels_cover_all_cells(name: str) -> None:
    drawing = drawn(name, "folded")
    blocks, reads = blocks_of(name), reads_of(net_of(name))
    cells = [path for path, block in blocks.items() if len(block.sources) > 1 and path.count(".") == 0]
    assert sorted(chain.from_iterable(panel.cells for panel in drawing.panels)) == sorted(cells)
    assert len({panel.title for panel in drawing.panels}) == len(drawing.panels)
    title_of = {cell: panel.title for panel in drawing.panels for cell in panel.cells}
    sizes = {row.name: row.output for row in rows_of(name)}
    for box in boxes(drawing.main):
        if box.kind == "cell":
            assert box.label == f"{title_of[box.path]}, {box.rows[-1].output[0]}"
            inside = {row.name for row in box.rows if row.name.startswith(f"{box.path}.")}
            given = {read for row in inside for read in reads[row]} - inside
            side = min(sizes[read][-1] for read in given)
            assert box.label.startswith("reduction cell" if box.rows[-1].output[-1] < side else "normal cell")
    for word in ("normal cell", "reduction cell"):
        counts = {panel.title: len(panel.cells) for panel in drawing.panels if panel.title.startswith(word)}
        assert counts[word] == max(counts.values()), "the most common cell has no number"


@pytest.mark.parametrize("name", CELLS)
def test_the_wiring_of_a_panel_is_that_of_each_of_its_cells(name: str) -> None:
    net = net_of(name)
    reads, blocks, rows = reads_of(net), blocks_of(name), {row.name: row for row in rows_of(name)}
    for panel in drawn(name, "folded").panels:
        for cell in panel.cells:
            wires = Wires()
            wires.follow(panel.wiring, panel.wiring.sources)
            assert blocks[cell].sources == panel.wiring.sources
            given = dict(zip(_given(net, cell, reads), panel.wiring.sources, strict=False))
            relative = [[row.name.removeprefix(f"{panel.cells[0]}.") for row in box.rows] for box in wires.boxes]
            box_of: dict[str, int | str] = {f"{cell}.{row}": i for i, of_box in enumerate(relative) for row in of_box} | given  # type: ignore[assignment]
            shown = {(read, i) for i, of_box in enumerate(wires.reads) for read in of_box}
            fitted = {i for i, of_box in enumerate(wires.reads) if set(of_box) <= set(panel.wiring.sources)}  # a projection may differ
            mine = [row for row in rows if row.startswith(f"{cell}.")]
            for row in mine:
                node = next((i for i in fitted if row.startswith(f"{cell}.{panel.wiring.nodes[i].name}.")), None)
                if row not in box_of and node is not None:
                    box_of[row] = node
            assert set(mine) <= set(box_of), f"{cell} has layers that {panel.title} lacks"
            true = {(box_of[read], box_of[row]) for row in mine for read in reads[row]}
            if len(given) == len(panel.wiring.sources):  # both inputs of the first cell may be one
                assert {edge for edge in true if edge[0] != edge[1]} == shown, f"{cell}, {panel.title}"
            for i, box in enumerate(wires.boxes):
                if i not in fitted:
                    twins = [rows[f"{cell}.{row}"] for row in relative[i]]
                    assert [_unsized(row) for row in twins] == [_unsized(row) for row in box.rows], f"{cell}, {box.path}"


def _given(net: Net, cell: str, reads: dict[str, tuple[str, ...]]) -> list[str]:
    """The last rows of the two steps of the net that a cell reads."""
    assert isinstance(net.root, Block)
    (step,) = [step for step in net.root.steps() if step.name == cell]
    return [[row for row in reads if row == read or row.startswith(f"{read}.")][-1] for read in step.inputs]


def _unsized(row: Row) -> tuple[object, ...]:
    """A layer but for its numbers of filters."""
    if isinstance(row.part, Conv):
        return ("conv", pair(row.part.kernel), pair(row.part.stride), pair(row.part.dilation), row.part.groups > 1)
    return (type(row.part), getattr(row.part, "kernel", None), getattr(row.part, "stride", None))


@pytest.mark.parametrize("name", CELLS)
def test_notes_tell_where_cells_differ(name: str) -> None:
    """`NODE in CELLS: WORDS`: exactly the cells of a panel whose projection is another than the one drawn."""
    rows = rows_of(name)
    for panel in drawn(name, "folded").panels:
        noted: dict[str, set[str]] = {}
        for note in panel.notes:
            place, words = note.split(": ")
            node, cells = place.split(" in ")
            assert words in ("factorized reduction", "1x1 conv", "1x1 conv, /2", "identity"), note
            noted.setdefault(node, set()).update(cells.split(", "))
            for cell in cells.split(", "):
                inside = [row.part for row in rows if row.name.startswith(f"{cell}.{node}.")]
                assert any(isinstance(part, Concatenate) for part in inside) == (words == "factorized reduction"), note
        for node in panel.wiring.nodes:
            look = {cell: _shape(rows, f"{cell}.{node.name}") for cell in panel.cells}
            drawn_one = _shape(rows, node.item.path) if isinstance(node.item, Box) else None
            assert {cell for cell in panel.cells if look[cell] != drawn_one} == noted.get(node.name, set()), f"{panel.title}, {node.name}"


def _shape(rows: tuple[Row, ...], path: str) -> list[tuple[object, ...]]:
    return [_unsized(row)[:3] for row in rows if row.name == path or row.name.startswith(f"{path}.")]


# ---- some nets, in the words of their papers ----


def labels(item: Item) -> list[str]:
    return [box.label for box in boxes(item)]


def test_alexnet() -> None:
    """One box for each line of the lecture's slide; ReLU, dropout and flattening stand with the layer before them."""
    main = drawn("alexnet", "folded").main
    assert all(isinstance(item, Box) for item in main.items)
    assert labels(main) == [
        "11x11 conv, 96, /4", "local response norm", "3x3 max pool, /2", "5x5 conv, 256", "local response norm", "3x3 max pool, /2",
        "3x3 conv, 384", "3x3 conv, 384", "3x3 conv, 256", "3x3 max pool, /2", "fc 4096", "fc 4096", "fc 1000",
    ]  # fmt: skip
    assert [box.path for box in boxes(main)][-4:] == ["pool3", "fc6", "fc7", "fc8"]
    assert [box.after for box in boxes(main)][-4:] == [("flatten",), ("ReLU", "dropout 0.5"), ("ReLU", "dropout 0.5"), ()]
    assert labels(drawn("alexnet-two-tower", "folded").main)[3] == "5x5 conv, 256, 2 groups"


def test_inception_3a_has_the_branches_of_the_paper() -> None:
    """Szegedy et al. 2014, table 1: 64, 96 - 128, 16 - 32, pool - 32, concatenated in this order."""
    (frame,) = [frame for frame in frames(drawn("googlenet-v1", "folded")) if frame.name == "inception_3a"]
    assert frame.times == 1
    (module,) = frame.item.items
    assert isinstance(module, Parallel)
    assert [labels(branch) for branch in module.branches] == [
        ["1x1 conv, 64"],
        ["1x1 conv, 96", "3x3 conv, 128"],
        ["1x1 conv, 16", "5x5 conv, 32"],
        ["3x3 max pool", "1x1 conv, 32"],
    ]
    assert (module.merge.kind, module.merge.label) == ("concat", "concat, 256")
    assert all(box.after == ("ReLU",) for branch in module.branches for box in boxes(branch) if box.kind == "conv")
    modules = [frame.name for frame in frames(drawn("googlenet-v1", "folded"))]
    assert modules == [f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def test_resnet50() -> None:
    """He et al. 2015, table 1: 3, 4, 6, 3 blocks; the first of each stage projects."""
    drawing = drawn("resnet50", "folded")
    assert repeated(drawing) == {"conv2_x.block2-3": 2, "conv3_x.block2-4": 3, "conv4_x.block2-6": 5, "conv5_x.block2-3": 2}
    for frame in frames(drawing):
        (block,) = frame.item.items
        assert isinstance(block, Parallel)
        body, shortcut = block.branches
        assert [label.split(",")[0] for label in labels(body)] == ["1x1 conv", "3x3 conv", "1x1 conv"]
        assert (block.merge.kind, block.merge.after) == ("add", ("ReLU",))
        assert len(shortcut.items) == (frame.times == 1)
    first = frames(drawing)[2].item.items[0]
    assert isinstance(first, Parallel)
    assert labels(first) == ["1x1 conv, 128", "3x3 conv, 128, /2", "1x1 conv, 512", "1x1 conv, 512, /2", "add"]
    assert [box.after for box in boxes(first)] == [("BN", "ReLU"), ("BN", "ReLU"), ("BN",), ("BN",), ("ReLU",)]


def test_densenet121() -> None:
    """Huang et al. 2016, table 1: 6, 12, 24, 16 layers; normalisation stands before its convolution."""
    drawing = drawn("densenet121", "folded")
    assert list(repeated(drawing).values()) == [6, 12, 24, 16]
    first = next(frame for frame in frames(drawing) if frame.times == 6)
    (layer,) = first.item.items
    assert isinstance(layer, Parallel)
    identity, new = layer.branches
    assert not identity.items
    assert labels(new) == ["1x1 conv, 128", "3x3 conv, 32"]
    assert [(box.before, box.after) for box in boxes(new)] == [(("BN", "ReLU"), ())] * 2
    assert layer.merge.label == "concat, 96 to 256"
    transitions = [frame for frame in frames(drawing) if frame.name.startswith("transition")]
    assert [labels(frame) for frame in transitions] == [[f"1x1 conv, {n}", "2x2 average pool, /2"] for n in (128, 256, 512)]


def test_darts_v2() -> None:
    """Liu et al. 2018, figures 4 and 5, and 20 cells, of which the 7th and the 14th reduce."""
    drawing = drawn("darts-v2", "folded")
    assert [panel.title for panel in drawing.panels] == ["normal cell", "reduction cell"]
    normal, reduction = drawing.panels
    assert reduction.cells == ("cell7", "cell14")
    assert repeated(drawing) == {"cell2-6": 5, "cell9-13": 5, "cell16-20": 5}
    operations = Counter(label for label in labels(normal.wiring))
    assert operations == {"3x3 separable conv twice": 5, "3x3 dilated separable conv": 1, "1x1 conv": 2, "add": 4, "concat": 1}
    assert Counter(labels(reduction.wiring))["3x3 max pool, /2"] == 5
    assert normal.notes == ("project_before in cell8, cell15: factorized reduction",)


def test_pre_activation_and_post_activation() -> None:
    assert {box.before for box in boxes(drawn("resnet20", "folded").main)} == {()}
    assert repeated(drawn("resnet1202", "folded")) == {"stage1.block1-200": 200, "stage2.block2-200": 199, "stage3.block2-200": 199}


def test_equal_stages_of_equal_blocks() -> None:
    """A frame in a frame: the outer has the names of the stages, the inner those of its first one's blocks."""

    def stage() -> Dense:
        return Dense(tuple((f"layer{i}", Conv(2, kernel=3, padding=1)) for i in (1, 2, 3)))

    drawing = draw(Net("dense", Chain((("stem", Conv(4, kernel=1)), ("stage1", stage()), ("stage2", stage()))), (1, 8, 8), 16))
    assert [(frame.name, frame.times) for frame in frames(drawing)] == [("stage1-2", 2), ("stage1.layer1-3", 3)]
    assert [label for label in labels(drawing.main) if label.startswith("concat")] == ["concat, 6 to 16"]


def test_a_cell_that_is_read_from_elsewhere_is_not_folded_away() -> None:
    """Five equal cells, each of which reads the two before it; where the sum behind them reads the third, that has to be seen."""
    projected = (("old", Conv(2, kernel=1), ("before",)), ("new", Conv(2, kernel=1), ("last",)))
    inside = Graph((*projected, ("sum", Add(), ("old", "new"))), inputs=("before", "last"))

    def net(read: str) -> Net:
        names = ("input", "stem", *(f"cell{i}" for i in range(1, 6)))
        cells = tuple((name, inside, names[i : i + 2]) for i, name in enumerate(names[2:]))
        nodes = (("stem", Conv(2, kernel=1), ("input",)), *cells, ("join", Concatenate(), (read, "cell5")))
        return Net("cells", Graph(nodes), (2, 4, 4), 4)

    assert repeated(draw(net("cell4"))) == {"cell1-5": 5}, "the last two are what leaves the frame"
    drawing = draw(net("cell3"))
    assert not repeated(drawing)
    (wiring,) = [item for item in items(drawing.main) if isinstance(item, Wiring)]
    assert wiring.nodes[-1].reads == ("cell3", "cell5")


def test_an_activation_that_is_not_all_that_is_read_has_its_own_box() -> None:
    """Here a convolution is read as it is, too; in one box with its ReLU that could not be told apart."""
    convs = (("a", Conv(2, kernel=1), ("input",)), ("relu", Activation(), ("a",)), ("b", Conv(2, kernel=1), ("input",)))
    ends = (("one", Add(), ("a", "b")), ("other", Add(), ("relu", "b")), ("both", Concatenate(), ("one", "other")))
    (wiring,) = draw(Net("x", Graph((*convs, *ends)), (2, 4, 4), 4)).main.items
    assert isinstance(wiring, Wiring)
    assert [(node.name, node.reads) for node in wiring.nodes] == [(name, reads) for name, _, reads in (*convs, *ends)]


def test_a_net_of_one_layer() -> None:
    drawing = draw(Net("one", Conv(3, kernel=1), (2, 4, 4), 3))
    assert labels(drawing.main) == ["1x1 conv, 3"]


def test_the_projection_that_most_cells_have_is_drawn() -> None:
    """NASNet-A's cells behind a reduction have another than the others."""
    normal, reduction, _ = drawn("nasnet-a-mobile", "folded").panels
    assert normal.notes == ("project_before in cell1, cell6, cell11: factorized reduction",)
    assert reduction.notes == ("project_before in stem_cell2: factorized reduction",)
    assert labels(normal.wiring).count("1x1 conv") == labels(reduction.wiring).count("1x1 conv") == 2


def test_closed_blocks_are_named_by_what_they_do_in_a_row() -> None:
    """AmoebaNet's 1x7 over 7x1 strides once each way; where branches meet, a list of operations would read as a row of them."""
    reduction = drawn("amoebanet-a", "folded").panels[-1]
    assert "1x1 conv, 1x7 conv, 7x1 conv, 1x1 conv, /2" in labels(reduction.wiring)
    assert {"7x7 separable conv twice, /2", "7x7 separable conv twice", "3x3 max pool, /2"} <= set(labels(reduction.wiring))
    closed = {box.path: (box.label, box.kind) for box in boxes(drawn("mobilenet_v2", "depth 2").main)}
    assert closed["bottleneck2.block1"] == ("1x1 conv, 3x3 separable conv, /2, 24", "depthwise")
    assert closed["bottleneck2.block2"] == ("9 layers, 24", "block")
    assert repeated(drawn("resnet50", "depth 2"))["conv4_x.block2-6"] == 5
