"""Graphs on paper: a stack of cells with arcs beside it, or layers of nodes with few crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cnncli.arch.drawing.plan import Box, Wiring
from cnncli.reports.diagram.marks import NOTE, Line, Mark, Piece, Rect, Text, text_width
from cnncli.reports.diagram.pieces import FRAME_PAD, GAP, PAD, box_width, piece

LAYER_GAP = 24.0  # between layers of nodes: room for curves
NODE_GAP = 10.0
LINE_GAP = 8.0  # between a node and a line that passes it, or two lines
PORT = 15.0  # height of a source
SWEEPS = 40  # down and up through the layers, until their positions settle


def wiring(item: Wiring, prefix: str) -> Piece:
    """A graph on paper: as a stack where each node reads the one before it, else in layers."""
    names = [*item.sources[:1], *(node.name for node in item.nodes)]
    stacked = len(item.sources) == 1 and all(before in node.reads for before, node in zip(names, item.nodes, strict=False))
    return _stack(item, prefix) if stacked else _layers(item, prefix)


def _stack(item: Wiring, prefix: str) -> Piece:
    """Nodes under one another; what skips nodes runs in lanes beside them, left and right in turn."""
    width = max([box_width(node.item, prefix) for node in item.nodes if isinstance(node.item, Box)], default=0.0)
    pieces = [_closed(piece(node.item, prefix, width=width), node.item) for node in item.nodes]
    tops: list[float] = []
    y = 10.0
    marks: list[Mark] = [Line(((0, 0), (0, y + GAP)), arrow=pieces[0].head)]
    y += GAP
    for i, drawn in enumerate(pieces):
        if i:
            marks.append(Line(((0, y), (0, y + 2 * GAP)), arrow=drawn.head))
            y += 2 * GAP
        tops.append(y)
        marks += drawn.at(0, y)
        y += drawn.height
    position = {item.sources[0]: -1} | {node.name: i for i, node in enumerate(item.nodes)}
    skips: list[tuple[int, int]] = []
    for i, node in enumerate(item.nodes):
        reads = [position[read] for read in node.reads]
        reads.remove(i - 1)
        skips += [(read, i) for read in reads]
    extent = max(max(drawn.left, drawn.right) for drawn in pieces)
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    reach = {-1: extent, 1: extent}
    for source, target in sorted(skips, key=lambda skip: skip[1] - skip[0]):
        begin = 5.0 if source < 0 else tops[source] + pieces[source].height * 0.7
        end = tops[target] + pieces[target].height * 0.3
        lane, side = next(
            (lane, side)
            for lane in range(len(skips) + 1)
            for side in ((1, -1) if target % 2 else (-1, 1))
            if all(end < low or begin > high for low, high in lanes.get((side, lane), []))
        )
        lanes.setdefault((side, lane), []).append((begin, end))
        x = side * (extent + LINE_GAP * (lane + 1))
        reach[side] = max(reach[side], abs(x))
        start = 0.0 if source < 0 else side * (pieces[source].right if side > 0 else pieces[source].left)
        stop = side * (pieces[target].right if side > 0 else pieces[target].left)
        marks.append(Line(((start, begin), (x, begin), (x, end), (stop, end))))
    return Piece(reach[-1] + 2, reach[1] + 2, y, tuple(marks), head=False)


def _closed(drawn: Piece, item: object) -> Piece:
    """A graph within a stack gets a frame, at which lines from outside end."""
    if not isinstance(item, Wiring):
        return drawn
    frame = Rect(-drawn.left - FRAME_PAD, 0, drawn.width + 2 * FRAME_PAD, drawn.height + 2 * FRAME_PAD, "frame")
    return Piece(drawn.left + FRAME_PAD, drawn.right + FRAME_PAD, frame.height, (frame, *drawn.at(0, FRAME_PAD)))


@dataclass
class _Vertex:
    """A node, a source, or a point at which a long edge passes a layer."""

    piece: Piece
    layer: int
    passes: bool = False
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0


def _layers(item: Wiring, prefix: str) -> Piece:
    """Layers of nodes (Sugiyama, Tagawa, Toda 1981): crossings reduced by igraph, then straightened for boxes of any width."""
    vertices, edges = _vertices(item, prefix)
    order = _order(vertices)
    _straighten(vertices, order)
    tops, heights = [], []
    y = 0.0
    for layer in order:
        tops.append(y)
        heights.append(max(vertices[v].piece.height for v in layer))
        y += heights[-1] + LAYER_GAP
    height = y - LAYER_GAP
    axis = vertices[len(item.sources) + len(item.nodes) - 1].x
    marks: list[Mark] = [_edge(path, vertices, tops, heights) for path in edges]
    for vertex in vertices:
        if not vertex.passes:
            marks += vertex.piece.at(vertex.x, tops[vertex.layer] + (heights[vertex.layer] - vertex.piece.height) / 2)
    left = max(vertex.piece.left - vertex.x for vertex in vertices) + axis
    right = max(vertex.piece.right + vertex.x for vertex in vertices) - axis
    entry = (Line(((axis, -8), (vertices[0].x, 0)), arrow=False, curved=True),) if len(item.sources) == 1 else ()
    marks += entry
    shift = 8.0 if entry else 0.0
    return Piece(left, right, height + shift, tuple(mark.shifted(-axis, shift) for mark in marks), head=False)


def _port(name: str) -> Piece:
    """A source: what the graph is given."""
    half = text_width(name, NOTE) / 2 + PAD
    return Piece(half, half, PORT, (Rect(-half, 0, 2 * half, PORT, "input"), Text(0, PORT / 2, name, NOTE)))


def _vertices(item: Wiring, prefix: str) -> tuple[list[_Vertex], list[list[int]]]:
    """The vertices, sources first, and each edge as the vertices it runs through."""
    point = Piece(0, 0, 0, (), head=False)
    number = {name: i for i, name in enumerate((*item.sources, *(node.name for node in item.nodes)))}
    vertices = [_Vertex(_port(name) if len(item.sources) > 1 else point, 0) for name in item.sources]
    for node in item.nodes:
        layer = 1 + max(vertices[number[read]].layer for read in node.reads)
        vertices.append(_Vertex(piece(node.item, prefix), layer))
    edges = []
    for target, node in enumerate(item.nodes, start=len(item.sources)):
        for read in node.reads:
            path = [number[read]]
            for layer in range(vertices[path[0]].layer + 1, vertices[target].layer):
                path.append(len(vertices))
                vertices.append(_Vertex(point, layer, passes=True))
            path.append(target)
            edges.append(path)
    for path in edges:
        for upper, lower in pairwise(path):
            vertices[upper].below.append(lower)
            vertices[lower].above.append(upper)
    return vertices, edges


def _order(vertices: Sequence[_Vertex]) -> list[list[int]]:
    """The vertices of each layer from left to right, with few crossings."""
    from igraph import Graph

    edges = [(upper, lower) for upper, vertex in enumerate(vertices) for lower in vertex.below]
    graph = Graph(n=len(vertices), edges=edges, directed=True)
    layout = graph.layout_sugiyama(layers=[vertex.layer for vertex in vertices], maxiter=1000)
    layers: list[list[int]] = [[] for _ in range(1 + max(vertex.layer for vertex in vertices))]
    for v, vertex in enumerate(vertices):
        layers[vertex.layer].append(v)
    for layer in layers:
        layer.sort(key=lambda v: (layout[v][0], v))
    return layers


def _straighten(vertices: Sequence[_Vertex], order: Sequence[Sequence[int]]) -> None:
    """Positions with the least squared slopes that keep the order and the distances, by sweeps over the layers."""
    for layer in order:
        for v, x in zip(layer, _spread(vertices, layer, [0.0] * len(layer), [1.0] * len(layer)), strict=True):
            vertices[v].x = x
    for sweep in range(SWEEPS):
        for layer in order if sweep % 2 == 0 else order[::-1]:
            wanted, weights = [], []
            for v in layer:
                near = [(vertices[u].x, _weight(vertices[u], vertices[v])) for u in (*vertices[v].above, *vertices[v].below)]
                weights.append(sum(weight for _, weight in near))
                wanted.append(sum(x * weight for x, weight in near) / weights[-1])
            for v, x in zip(layer, _spread(vertices, layer, wanted, weights), strict=True):
                vertices[v].x = x


def _weight(one: _Vertex, other: _Vertex) -> float:
    """Long edges should run straight (Gansner et al. 1993, "A technique for drawing directed graphs", section 4.1)."""
    return (1.0, 2.0, 8.0)[one.passes + other.passes]


def _spread(vertices: Sequence[_Vertex], layer: Sequence[int], wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The positions nearest to the wanted ones that keep order and distances: isotonic regression by pooling violators."""
    offsets = [0.0]
    for u, v in pairwise(layer):
        gap = LINE_GAP if vertices[u].passes or vertices[v].passes else NODE_GAP
        offsets.append(offsets[-1] + vertices[u].piece.right + gap + vertices[v].piece.left)
    blocks: list[tuple[float, float, int]] = []  # position, weight, how many
    for x, offset, weight in zip(wanted, offsets, weights, strict=True):
        blocks.append((x - offset, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (x1, w1, n1), (x2, w2, n2) = blocks[-2:]
            blocks[-2:] = [((x1 * w1 + x2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    pooled = [x for x, _, count in blocks for _ in range(count)]
    return [x + offset for x, offset in zip(pooled, offsets, strict=True)]


def _edge(path: Sequence[int], vertices: Sequence[_Vertex], tops: Sequence[float], heights: Sequence[float]) -> Line:
    """From the bottom of a node through the points where it passes layers, to its place on top of the other."""
    first, last = vertices[path[0]], vertices[path[-1]]
    incoming = sorted(last.above, key=lambda u: vertices[u].x)
    share = (incoming.index(path[-2]) + 1) / (len(incoming) + 1)
    wide = min(last.piece.left, last.piece.right) * 1.4
    end = last.x + (share - 0.5) * wide
    bottom = tops[first.layer] + (heights[first.layer] + first.piece.height) / 2
    points = [(first.x, bottom)]
    if bottom < tops[first.layer] + heights[first.layer]:
        points.append((first.x, tops[first.layer] + heights[first.layer]))
    for v in path[1:-1]:
        layer = vertices[v].layer
        points += [(vertices[v].x, tops[layer]), (vertices[v].x, tops[layer] + heights[layer])]
    middle = tops[last.layer] + (heights[last.layer] - last.piece.height) / 2
    points.append((end, tops[last.layer]))
    if middle > tops[last.layer]:
        points.append((end, middle))
    return Line(tuple(points), curved=True)
