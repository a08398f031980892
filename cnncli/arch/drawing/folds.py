"""Repeated parts of a drawing, drawn once: neighbours that look the same and hold equal layers become one `Frame`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, takewhile

from cnncli.arch.blocks import Concatenate
from cnncli.arch.drawing.plan import Box, Frame, Item, Node, Parallel, Series, Wiring
from cnncli.arch.net import Row
from cnncli.arch.pointwise import DropPath

Group = list[Item | Row]  # what one step of a block becomes


def look(item: Item | Row, *, parts: bool = True) -> object:
    """Equal for items that are drawn the same and, with `parts`, hold equal layers. Shapes may differ: dense layers read ever more."""
    match item:
        case Row():
            return _alike(item)
        case Box():
            drawn = (item.kind, item.label, item.before, item.after)
            return (*drawn, [_alike(row) for row in item.rows]) if parts and item.kind != "concat" else drawn[:1] + drawn[2:]
        case Series():
            return [look(inner, parts=parts) for inner in item.items]
        case Parallel():
            return ([look(branch, parts=parts) for branch in item.branches], look(item.merge, parts=parts))
        case Frame():
            return (item.times, look(item.item, parts=parts))
        case Wiring():
            return (item.sources, [(node.name, look(node.item, parts=parts), node.reads) for node in item.nodes])


def _alike(row: Row) -> object:
    """A row's layer; the same for all layers that drop paths, whose rates differ between blocks that are equal otherwise."""
    return DropPath if isinstance(row.part, DropPath) else row.part


def fold_groups(groups: Sequence[Group]) -> list[Group]:
    """Runs of equal blocks become one frame each. Single layers stay: papers draw each of them."""
    folded: list[Group] = []
    for _, run in groupby(groups, key=lambda group: [look(item) for item in group] if _is_block(group) else id(group)):
        same = list(run)
        if len(same) == 1:
            folded += same
        else:
            folded.append([_frame([[item for item in group if not isinstance(item, Row)] for group in same])])
    return folded


def fold_nodes(nodes: Sequence[Node], sources: tuple[str, ...]) -> list[Node]:
    """Runs of equal cells that read the same numbers of cells back become one frame each."""
    position = dict.fromkeys(sources, -1) | {node.name: i for i, node in enumerate(nodes)}
    back = [tuple(i - position[read] for read in node.reads) for i, node in enumerate(nodes)]
    keys = [(look(node.item), back[i]) if _is_cell(node.item) and len(sources) == 1 else i for i, node in enumerate(nodes)]
    renamed = {name: name for name in position}
    folded: list[Node] = []
    for _, run in groupby(range(len(nodes)), key=lambda i: keys[i]):
        same = list(run)
        readers = [i for i in range(same[-1] + 1, len(nodes)) for read in nodes[i].reads if position[read] in same[: -max(back[same[0]])]]
        if len(same) == 1 or readers:  # a cell in the middle that is read from outside has to be seen
            folded += [nodes[i]._replace(reads=tuple(renamed[read] for read in nodes[i].reads)) for i in same]
            continue
        first = nodes[same[0]]
        renamed |= {nodes[i].name: first.name for i in same}
        frame = _frame([[nodes[i].item] for i in same])
        folded.append(Node(first.name, frame, tuple(renamed[read] for read in first.reads)))
    return folded


def _is_block(group: Group) -> bool:
    closed = [isinstance(item, Box) and item.kind == "block" for item in group]
    return bool(group) and not any(isinstance(item, Row) for item in group) and (any(closed) or not _all_boxes(group))


def _all_boxes(group: Group) -> bool:
    return all(isinstance(item, Box) for item in group)


def _is_cell(item: Item) -> bool:
    return isinstance(item, Box) and item.kind in ("cell", "block")


def _frame(same: Sequence[Sequence[Item]]) -> Frame:
    if all(len(items) == 1 and isinstance(items[0], Frame) and items[0].times == 1 for items in same):
        frames = [item for items in same for item in items if isinstance(item, Frame)]
        return replace(_stack_frames(frames), name=_range_text(frames[0].name, frames[-1].name), times=len(same))
    first, last = (_common_path(Series(tuple(items))) for items in (same[0], same[-1]))
    return Frame(first, _range_text(first, last), Series(tuple(_stack(items) for items in zip(*same, strict=True))), len(same))


def _stack(items: Sequence[Item]) -> Item:
    """Items of equal look as one, each box with the rows of all."""
    first = items[0]
    match first:
        case Box():
            same = [item for item in items if isinstance(item, Box)]
            label = first.label
            if first.kind == "concat" and same[-1].label != label:  # dense layers: `concat, 96 to 256`
                last = next(row for row in reversed(same[-1].rows) if isinstance(row.part, Concatenate))
                label = f"{label.partition(' to ')[0]} to {last.output[0]}"
            return replace(first, label=label, rows=tuple(chain.from_iterable(box.rows for box in same)))
        case Series():
            return _stack_series([item for item in items if isinstance(item, Series)])
        case Parallel():
            parallels = [item for item in items if isinstance(item, Parallel)]
            merge = _stack([item.merge for item in parallels])
            assert isinstance(merge, Box)
            branches = zip(*(item.branches for item in parallels), strict=True)
            return Parallel(tuple(_stack_series(branch) for branch in branches), merge)
        case Frame():
            return _stack_frames([item for item in items if isinstance(item, Frame)])
        case Wiring():
            wirings = [item.nodes for item in items if isinstance(item, Wiring)]
            nodes = [twins[0]._replace(item=_stack([node.item for node in twins])) for twins in zip(*wirings, strict=True)]
            return Wiring(first.sources, tuple(nodes))


def _stack_series(items: Sequence[Series]) -> Series:
    return Series(tuple(_stack(inner) for inner in zip(*(item.items for item in items), strict=True)))


def _stack_frames(items: Sequence[Frame]) -> Frame:
    return replace(items[0], item=_stack_series([item.item for item in items]))


def _common_path(item: Item) -> str:
    """What the paths of an item's boxes begin with; merges stand beside what they merge."""
    together = takewhile(lambda names: len(set(names)) == 1, zip(*_paths(item), strict=False))
    return ".".join(names[0] for names in together)


def _paths(item: Item) -> Iterator[list[str]]:
    match item:
        case Box():
            if item.kind not in ("add", "concat"):
                yield item.path.split(".")
        case Series():
            yield from chain.from_iterable(map(_paths, item.items))
        case Parallel():
            yield from chain.from_iterable(map(_paths, item.branches))
        case Frame(times=1):
            yield from _paths(item.item)
        case Frame():  # it stands for its neighbours, too: what they have in common is the block around them
            yield item.path.split(".")[:-1]
        case Wiring():
            yield from chain.from_iterable(_paths(node.item) for node in item.nodes)


def _range_text(first: str, last: str) -> str:
    """`block2-18` for block2 and block18; both names where they differ in more than a number."""
    stem = re.sub(r"[0-9]+$", "", first)
    return f"{first}-{last.removeprefix(stem)}" if re.fullmatch(r"[0-9]+", last.removeprefix(stem)) else f"{first}-{last}"
