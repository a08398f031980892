"""From a net to its drawing.

The structure is read off the wiring alone (`Block.steps`), never off the kind of a block. A block is cut wherever a single
signal is alive: between two cuts stands one step, or a branching. Branches that leave one point and meet in one merge
become a `Parallel` (Inception modules, shortcuts, dense layers); any other wiring, as that of cells, stays a graph, a
`Wiring`. Every row of `walk` belongs to exactly one box of the main drawing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from cnncli.arch.blocks import INPUT, Block, Merge, Part, Step
from cnncli.arch.drawing.folds import Group, fold_groups, fold_nodes, look
from cnncli.arch.drawing.labels import FOLLOWERS, LEADERS, block_kind, block_label, kind, label, short
from cnncli.arch.drawing.plan import Box, Drawing, Frame, Item, Node, Panel, Parallel, Series, Wiring
from cnncli.arch.layers import Conv, Layer, Shape, pair
from cnncli.arch.net import Net, Row, walk
from cnncli.errors import UsageError

LONGEST_FRAME = 8  # items; a longer frame could not be broken over two columns


def draw(net: Net, *, depth: int | None = None, all_layers: bool = False) -> Drawing:
    """The drawing of a net.

    depth: blocks at this level, counted in names of a path, are closed boxes. all_layers: nothing repeated is folded, and
    cells are opened where they stand. Raises UsageError for a depth below 1, ShapeError where a layer does not fit.
    """
    if depth is not None and depth < 1:
        raise UsageError(f"--depth {depth} should be 1 or more", path="--depth")
    root = net.root if isinstance(net.root, Block) else _OneLayer(net.root)
    rows = walk(net)
    builder = _Builder(net, rows, depth, all_layers=all_layers)
    main = builder.series(root.steps(), root.sources, "", framed=True)
    if len(builder.titles) > 1:  # again, now that it is known which cell is the most common and gets the name without a number
        builder = _Builder(net, rows, depth, all_layers=all_layers, ranking=builder.ranked_cells())
        main = builder.series(root.steps(), root.sources, "", framed=True)
    return Drawing(net, main, builder.finished_panels())


@dataclass(frozen=True)
class _OneLayer(Block):
    part: Part

    def steps(self) -> tuple[Step, ...]:
        return (Step("", self.part, (INPUT,)),)


class _Builder:
    """Builds items from steps; `path` is always that of the block to which the steps belong."""

    def __init__(self, net: Net, rows: Sequence[Row], depth: int | None, *, all_layers: bool, ranking: Sequence[str] = ()) -> None:
        self.net = net
        self.rows = {row.name: row for row in rows}
        self.below: dict[str, list[Row]] = {}
        for row in rows:
            names = row.name.split(".")
            for level in range(1, len(names)):
                self.below.setdefault(".".join(names[:level]), []).append(row)
        self.depth = depth
        self.all_layers = all_layers
        self.ranking = ranking
        self.titles: dict[str, str] = {}  # of panels, by the look of their cells
        self.cells: dict[str, dict[str, Wiring]] = {}  # by the same look: the cells, by path, and the inside of each

    def series(self, steps: Sequence[Step], sources: tuple[str, ...], path: str, *, framed: bool) -> Series:
        """Without `framed` there are no frames around single blocks: within branches they would only take room."""
        groups: list[Group] = []
        entry = sources
        for segment in _segments(steps, sources):
            groups.append(self.segment(segment, entry, path, framed=framed))
            entry = (segment[-1].name,)
        return Series(_join(list(chain.from_iterable(groups if self.all_layers else fold_groups(groups)))))

    def segment(self, steps: Sequence[Step], entry: tuple[str, ...], path: str, *, framed: bool) -> Group:
        first, *more = steps
        if not more and len(first.inputs) == 1:
            return self.part(first.part, _join_path(path, first.name), framed=framed)
        return [self.parallel(steps, entry, path) or self.wiring(steps, entry, path)]

    def part(self, part: Part, path: str, *, framed: bool) -> Group:
        """A part with one input: its row, its items one after the other, or a frame around them."""
        if not isinstance(part, Block):
            return [self.rows[path]]
        if self.closed(path):
            return [self.closed_block(path)]
        items = self.series(part.steps(), part.sources, path, framed=framed).items
        if len(items) == 1 and isinstance(items[0], Box):
            return [replace(items[0], path=path)]
        if not framed or not items or len(items) > LONGEST_FRAME or any(isinstance(item, Frame | Wiring) for item in items):
            return list(items)
        return [Frame(path, path, Series(items))]

    def closed(self, path: str) -> bool:
        return self.depth is not None and path.count(".") + 1 >= self.depth

    def closed_block(self, path: str, *, filters: bool = True) -> Box:
        rows = tuple(self.below.get(path, ()))
        return Box(path, block_label(rows, filters=filters), block_kind(rows), rows)

    def parallel(self, steps: Sequence[Step], entry: tuple[str, ...], path: str) -> Parallel | None:
        """Branches that all leave the one entry, each with its own end; None where the wiring is another."""
        *inner, end = steps
        if not isinstance(end.part, Merge) or len(entry) > 1 or len(set(end.inputs)) < len(end.inputs):
            return None
        branches = {branch[-1].name: branch for branch in _components(inner)}
        for name, branch in branches.items():
            within = {step.name for step in branch}
            if {source for step in branch for source in step.inputs} - within != set(entry) or within & set(end.inputs) != {name}:
                return None
        if set(end.inputs) - set(entry) != set(branches):
            return None
        drawn = tuple(self.series(branches.get(source, ()), entry, path, framed=False) for source in end.inputs)
        return Parallel(drawn, _box(self.rows[_join_path(path, end.name)]))

    def wiring(self, steps: Sequence[Step], entry: tuple[str, ...], path: str) -> Wiring:
        nodes = self.nodes(steps, {name: name for name in entry}, path, "", inside=len(entry) > 1)
        return Wiring(entry, tuple(nodes if self.all_layers else fold_nodes(nodes, entry)))

    def nodes(self, steps: Sequence[Step], names: dict[str, str], path: str, prefix: str, *, inside: bool) -> list[Node]:
        """The nodes of a graph. names: by which its steps' inputs are known in the drawing. inside: of a cell, all of it is opened."""
        nodes: list[Node] = []
        readers = [source for step in steps for source in step.inputs]
        for step in steps:
            name, below = prefix + step.name, _join_path(path, step.name)
            reads = tuple(names[source] for source in step.inputs)
            names[step.name] = name
            if isinstance(step.part, Block) and len(reads) > 1 and inside and not self.closed(below):
                nodes += self.nodes(step.part.steps(), dict(zip(step.part.sources, reads, strict=True)), below, f"{name}.", inside=True)
                names[step.name] = nodes[-1].name
            elif isinstance(step.part, FOLLOWERS) and nodes and nodes[-1].name == reads[0] and readers.count(step.inputs[0]) == 1:
                nodes[-1] = nodes[-1]._replace(item=_append(nodes[-1].item, self.rows[below]))
                names[step.name] = reads[0]
            else:
                nodes.append(Node(name, self.node(step, path, inside=inside), reads))
        return nodes

    def node(self, step: Step, path: str, *, inside: bool) -> Item:
        part, below = step.part, _join_path(path, step.name)
        filters = not inside or self.all_layers  # panels stand for cells with any number of filters
        if not isinstance(part, Block):
            return _box(self.rows[below], filters=filters)
        if len(part.sources) > 1 and not self.closed(below):
            return self.wiring(part.steps(), part.sources, below) if self.all_layers else self.cell(step, part, path)
        if inside or self.closed(below):
            return self.closed_block(below, filters=filters)
        series = self.series(part.steps(), part.sources, below, framed=False)
        only_box = series.items[0] if len(series.items) == 1 else None
        return replace(only_box, path=below) if isinstance(only_box, Box) else self.closed_block(below, filters=filters)

    def cell(self, step: Step, part: Block, path: str) -> Box:
        """A cell as one box, and its inside as a panel, which it shares with cells that differ only in filters and projections."""
        below = _join_path(path, step.name)
        rows = tuple(self.below[below])
        wiring = self.wiring(part.steps(), part.sources, below)
        smallest = min(_side(self.output_of(path, read)) for read in step.inputs)
        word = "reduction cell" if _side(rows[-1].output) < smallest else "normal cell"
        inside = [(node.name, _look_inside(node, wiring.sources), node.reads) for node in wiring.nodes]
        key = f"{word}: {(wiring.sources, inside)!r}"
        if key not in self.titles:
            ranked = [other for other in (*self.ranking, *self.titles, key) if other.startswith(word)]
            number = ranked.index(key) + 1
            self.titles[key] = word if number == 1 else f"{word} {number}"
        self.cells.setdefault(key, {})[below] = wiring
        return Box(below, f"{self.titles[key]}, {rows[-1].output[0]}", "cell", rows)

    def output_of(self, path: str, name: str) -> Shape:
        full = _join_path(path, name)
        if full in self.rows:
            return self.rows[full].output
        return self.below[full][-1].output if full in self.below else self.net.input

    def ranked_cells(self) -> list[str]:
        """The looks of cells, that of the most common cell first."""
        return sorted(self.cells, key=lambda key: -len(self.cells[key]))

    def finished_panels(self) -> tuple[Panel, ...]:
        """The panels by title, each as most of its cells are inside."""
        panels = [_panel(self.titles[key], cells) for key, cells in self.cells.items()]
        return tuple(sorted(panels, key=lambda panel: panel.title))


def _panel(title: str, cells: Mapping[str, Wiring]) -> Panel:
    """Cells of one look; the projections in which a cell differs from the one that is drawn become notes."""
    inside = {cell: {node.name: node.item.label for node in wiring.nodes if isinstance(node.item, Box)} for cell, wiring in cells.items()}
    common, _ = Counter(tuple(labels.items()) for labels in inside.values()).most_common(1)[0]
    drawn = next(cell for cell, labels in inside.items() if tuple(labels.items()) == common)
    variants: dict[tuple[str, str], list[str]] = {}
    for cell, labels in inside.items():
        for node, text in labels.items():
            if text != inside[drawn][node]:
                variants.setdefault((node, text), []).append(cell.rpartition(".")[2])
    notes = tuple(f"{node} in {', '.join(differing)}: {text}" for (node, text), differing in variants.items())
    return Panel(title, (drawn, *(cell for cell in cells if cell != drawn)), cells[drawn], notes)


def _segments(steps: Sequence[Step], sources: tuple[str, ...]) -> list[tuple[Step, ...]]:
    """The steps, cut behind each one whose output is all that later steps read."""
    last_read = {source: i for i, step in enumerate(steps) for source in step.inputs}
    segments: list[tuple[Step, ...]] = []
    alive = set(sources)
    begin = 0
    for i, step in enumerate(steps):
        alive = {name for name in (*alive, step.name) if last_read.get(name, -1) > i}
        if alive == {step.name} or i == len(steps) - 1:
            segments.append(tuple(steps[begin : i + 1]))
            begin = i + 1
    return segments


def _components(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps, grouped by whether they are connected; each group in order."""
    groups: list[list[Step]] = []
    for step in steps:
        touched = [group for group in groups if any(other.name in step.inputs for other in group)]
        groups = [group for group in groups if group not in touched]
        groups.append([*chain.from_iterable(touched), step])
    return groups


def _join(items: Sequence[Item | Row]) -> tuple[Item, ...]:
    """Rows become boxes, several to a box: a convolution with the normalisation and activation behind it, or in front of it.

    In front where a normalisation or activation begins a run of layers and each has its convolution behind it
    (He et al. 2016, "Identity mappings in deep residual networks"), else behind.
    """
    joined: list[Item] = []
    waiting: list[Row] = []
    for i, item in enumerate(items):
        last = joined[-1] if joined else None
        if not isinstance(item, Row):
            joined += [_leaders_box(waiting)] if waiting else []
            joined.append(item)
            waiting = []
        elif not isinstance(item.part, FOLLOWERS):
            joined.append(_box(item, waiting))
            waiting = []
        elif waiting or not isinstance(last, Box | Parallel) or (isinstance(item.part, LEADERS) and _leads(items, i)):
            waiting.append(item)
        else:
            joined[-1] = _append(last, item)
    return (*joined, _leaders_box(waiting)) if waiting else tuple(joined)


def _leads(items: Sequence[Item | Row], position: int) -> bool:
    """Whether the run of rows around `position` begins with a leader and no leader stands behind its last other layer."""
    begin, end = position, position
    while begin and isinstance(items[begin - 1], Row):
        begin -= 1
    while end < len(items) and isinstance(items[end], Row):
        end += 1
    parts = [item.part for item in items[begin:end] if isinstance(item, Row)]
    heads = [i for i, part in enumerate(parts) if not isinstance(part, FOLLOWERS)]
    return bool(heads) and isinstance(parts[0], LEADERS) and not any(isinstance(part, LEADERS) for part in parts[heads[-1] :])


def _box(row: Row, before: Sequence[Row] = (), *, filters: bool = True) -> Box:
    words = tuple(short(leader.part) for leader in before if isinstance(leader.part, Layer))
    return Box(row.name, label(row, filters=filters), kind(row), (*before, row), words)


def _leaders_box(rows: Sequence[Row]) -> Box:
    return replace(_box(rows[0]), rows=tuple(rows), label=", ".join(label(row) for row in rows))


def _append(item: Item, row: Row) -> Item:
    """The item with one more layer behind its last box."""
    if isinstance(item, Parallel):
        return replace(item, merge=_box_and(item.merge, row))
    assert isinstance(item, Box)
    return _box_and(item, row)


def _box_and(box: Box, row: Row) -> Box:
    """The box with one more layer behind those that it holds."""
    assert isinstance(row.part, Layer)
    return replace(box, rows=(*box.rows, row), after=(*box.after, short(row.part)))


def _look_inside(node: Node, sources: tuple[str, ...]) -> object:
    """As `look` without numbers of filters; what only fits an input of the cell to its filters is all the same."""
    if set(node.reads) <= set(sources) and isinstance(node.item, Box):
        convs = [row.part for row in node.item.rows if isinstance(row.part, Conv)]
        if convs and all(pair(conv.kernel) == (1, 1) for conv in convs):
            return "projection"
    return look(node.item, parts=False)


def _side(shape: Shape) -> int:
    return shape[-1] if len(shape) == 3 else 1


def _join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
