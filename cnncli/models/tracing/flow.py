"""What the units of a tensor see of the image, followed through views, sums, windows and matrix products.

A convolution moves its windows over rows and columns. A traced model also stretches images into tokens, swaps axes and
mixes whole axes at once; here each such step says what becomes of the receptive field, or that it is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import prod
from typing import NamedTuple

from cnncli.arch.receptive import Axis, Field
from cnncli.arch.window import Window

Sizes = Sequence[int]  # of a tensor, the batch included


class Sight(NamedTuple):
    """What one unit sees, and along which dimensions of the tensor that differs.

    field: None when it is not known. axes: the dimensions that run down and across the image; the same one twice where
    the image has been stretched row by row into tokens; None where the tensor has no such dimension. grid: how many
    different fields there are down and across; 1 where every unit along that axis sees the same. pending: a dimension,
    and what every unit will see once it has been mixed; of the scores of attention, which see two places each. elsewhere: whether units may
    see pixels beyond their field, though it has the right size: mirrored ones, or those of a neighbour that was repeated.
    """

    field: Field | None
    axes: tuple[int | None, int | None] = (None, None)
    grid: tuple[int, int] = (1, 1)
    pending: tuple[int, Field] | None = None
    elsewhere: bool = False


UNKNOWN = Sight(None)


def of_image(sizes: Sizes) -> Sight:
    """The sight of an input (N, C, H, W), whose units see themselves; unknown for anything that is no image."""
    return Sight(Field(), (2, 3), (sizes[2], sizes[3])) if len(sizes) == 4 else UNKNOWN


def combine(sights: Iterable[tuple[Sight, Sizes]], out: Sizes) -> Sight:
    """Tensors of these sizes combined unit by unit, broadcast to `out`."""
    given = list(sights)
    aligned = [_shifted(sight, len(out) - len(sizes)) for sight, sizes in given]
    if len(aligned) == 1 and aligned[0].pending is not None:
        return aligned[0]
    if not aligned or any(sight.field is None for sight in aligned):
        return UNKNOWN
    fields: list[Axis] = []
    axes: list[int | None] = []
    grid: list[int] = []
    for i in range(2):
        entries = [(sight.field[i], sight.grid[i]) for sight in aligned if sight.field is not None]
        telling = {sight.axes[i] for sight in aligned if sight.grid[i] > 1}
        if len(telling) > 1 or len({n for _, n in entries if n > 1}) > 1:
            return UNKNOWN
        known = telling or {sight.axes[i] for sight in aligned} - {None}
        axis, count = _merged(entries)
        units = [1 if (place := sight.axes[i]) is None else sizes[place] for sight, sizes in given]
        # Neighbours are apart as in the largest map, not as in what is broadcast onto it.
        fields.append(axis._replace(jump=max(axis.jump for (axis, _), n in zip(entries, units, strict=True) if n == max(units))))
        axes.append(known.pop() if len(known) == 1 else None)
        grid.append(count)
    return Sight(Field(*fields), (axes[0], axes[1]), (grid[0], grid[1]))


def _merged(entries: list[tuple[Axis, int]]) -> tuple[Axis, int]:
    """The union along one axis, and how many different ones remain."""
    count = max(n for _, n in entries)
    together = reduce(Axis.union, (axis for axis, _ in entries))
    if all(n == count for _, n in entries):
        return together, count
    shared = reduce(Axis.union, (axis for axis, n in entries if n == 1))
    everything = reduce(Axis.union, (axis.through(Window(n)) for axis, n in entries if n > 1))
    if shared.union(everything).size == shared.size:
        return shared, 1
    return together, count


def slide(sight: Sight, sizes: Sizes, out: Sizes, windows: tuple[Window, Window], strides: tuple[float, float] | None = None) -> Sight:
    """After windows (down, across) that move over the last two dimensions."""
    if sight.field is None:
        return UNKNOWN
    fields, grid = [], []
    for i, dimension in enumerate((len(sizes) - 2, len(sizes) - 1)):
        axis, window = sight.field[i], windows[i]
        if sight.grid[i] > 1 and sight.axes[i] != dimension:
            return UNKNOWN
        if sight.axes[i] is None or (sight.grid[i] == 1 and sizes[dimension] > 1):  # the windows move over equals
            fields.append(axis._replace(jump=axis.jump * window.stride))
            grid.append(1)
        else:
            fields.append(axis.through(window, None if strides is None else strides[i]))
            grid.append(out[dimension])
    return Sight(Field(*fields), sight.axes, (grid[0], grid[1]))


def mix(sight: Sight, dimensions: Iterable[int]) -> Sight:
    """After an operation whose units read all units along these dimensions."""
    mixed = set(dimensions)
    if sight.pending is not None and sight.pending[0] in mixed:
        return Sight(sight.pending[1])
    if sight.field is None:
        return UNKNOWN
    if sight.axes[0] is not None and sight.axes[0] == sight.axes[1] and sight.axes[0] not in mixed:
        return sight
    fields = [
        axis.through(Window(n)) if dimension in mixed else axis
        for axis, n, dimension in zip(sight.field, sight.grid, sight.axes, strict=True)
    ]
    grid = [1 if dimension in mixed else n for n, dimension in zip(sight.grid, sight.axes, strict=True)]
    return Sight(Field(*fields), sight.axes, (grid[0], grid[1]))


def mix_all(sight: Sight) -> Sight:
    """After an operation whose units read the whole tensor."""
    return mix(sight, [axis for axis in sight.axes if axis is not None])._replace(axes=(None, None))


def everything(sight: Sight) -> Field | None:
    """What all units see together."""
    return mix_all(sight).field


def is_uniform(sight: Sight) -> bool:
    """Whether it is known that every unit sees the same."""
    return sight.field is not None and sight.grid == (1, 1)


def permute(sight: Sight, order: Sequence[int]) -> Sight:
    """Dimension i of the result is dimension order[i] of the tensor."""
    axes = [None if axis is None else list(order).index(axis) for axis in sight.axes]
    return sight._replace(axes=(axes[0], axes[1]))


def drop(sight: Sight, dimensions: Iterable[int]) -> Sight:
    """Without these dimensions; unknown where one of them told units apart."""
    gone = set(dimensions)
    axes: list[int | None] = []
    for axis, n in zip(sight.axes, sight.grid, strict=True):
        if axis in gone and n > 1:
            return UNKNOWN
        axes.append(None if axis is None or axis in gone else axis - sum(dimension < axis for dimension in gone))
    return sight._replace(axes=(axes[0], axes[1]))


def insert(sight: Sight, dimension: int) -> Sight:
    """With a new dimension of size 1."""
    axes = [None if axis is None else axis + (axis >= dimension) for axis in sight.axes]
    return sight._replace(axes=(axes[0], axes[1]))


def reshape(sight: Sight, old: Sizes, new: Sizes) -> Sight:
    """In other sizes: an axis stays one where a dimension of its size and position is left, rows and columns may become tokens."""
    down, across = sight.axes
    tokens = down is not None and down == across
    if tokens and down is not None and (place := _place(old, down, new)) is not None:
        return sight._replace(axes=(place, place))
    if tokens and down is not None and old[down] == prod(sight.grid):
        first = _group(old, down, down, new, sight.grid)
        if first is not None:
            return sight._replace(axes=(first, first + 1))
    places = [None if axis is None else _place(old, axis, new) for axis in (down, across)]
    lost = [n > 1 and place is None for n, place in zip(sight.grid, places, strict=True)]
    if not tokens and not any(lost):
        return sight._replace(axes=(places[0], places[1]))
    if down is not None and across == down + 1:
        token = _group(old, down, across, new, (old[down] * old[across],))
        if token is not None and (old[down], old[across]) == sight.grid:
            return sight._replace(axes=(token, token))
    return sight._replace(axes=(None, None)) if sight.grid == (1, 1) else UNKNOWN


def cut(sight: Sight, dimension: int, start: int, step: int, size: int) -> Sight:
    """Every `step`-th of the units along a dimension from `start` on, `size` of them."""
    along = [i for i in range(2) if sight.axes[i] == dimension and sight.grid[i] > 1]
    if sight.field is None or len(along) > 1:
        return UNKNOWN
    if not along:
        return sight
    i = along[0]
    axis = sight.field[i]
    axis = axis._replace(jump=axis.jump * step, start=axis.start + start * axis.jump)
    fields, grid = list(sight.field), list(sight.grid)
    fields[i], grid[i] = axis, size
    return sight._replace(field=Field(*fields), grid=(grid[0], grid[1]))


def repeat(sight: Sight, sizes: Sizes, out: Sizes) -> Sight:
    """After every unit of the last two dimensions has been repeated a whole number of times (resizing to the nearest)."""
    if sight.field is None:
        return UNKNOWN
    fields, grid = [], []
    for i, dimension in enumerate((len(sizes) - 2, len(sizes) - 1)):
        times, rest = divmod(out[dimension], sizes[dimension])
        if rest or (sight.grid[i] > 1 and sight.axes[i] != dimension):
            return UNKNOWN
        jump = sight.field[i].jump / times
        fields.append(sight.field[i]._replace(jump=int(jump) if jump == int(jump) else jump))
        grid.append(sight.grid[i] * times if sight.grid[i] > 1 else 1)
    return Sight(Field(*fields), sight.axes, (grid[0], grid[1]))


def _shifted(sight: Sight, by: int) -> Sight:
    axes = [None if axis is None else axis + by for axis in sight.axes]
    pending = None if sight.pending is None else (sight.pending[0] + by, sight.pending[1])
    return sight._replace(axes=(axes[0], axes[1]), pending=pending)


def _place(old: Sizes, dimension: int, new: Sizes) -> int | None:
    """Where a dimension of `old` stands in `new`: of the same size, with as many units behind it."""
    return _group(old, dimension, dimension, new, (old[dimension],))


def _group(old: Sizes, first: int, last: int, new: Sizes, sizes: tuple[int, ...]) -> int | None:
    """Where the dimensions first..last of `old` stand in `new` as dimensions of `sizes`; None when they do not."""
    behind = prod(old[last + 1 :])
    for place in range(len(new) - len(sizes) + 1):
        end = place + len(sizes)
        if tuple(new[place:end]) == sizes and prod(new[end:]) == behind and prod(sizes) == prod(old[first : last + 1]):
            return place
    return None
