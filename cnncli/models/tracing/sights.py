"""What a unit of an operation's output sees of the image, for every operation of which that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from cnncli.arch.blocks import Merge
from cnncli.arch.layers import Flatten, Layer, Shape
from cnncli.arch.receptive import union
from cnncli.models.tracing import flow
from cnncli.models.tracing.flow import UNKNOWN, Sight
from cnncli.models.tracing.operations import Call

MIRRORS = {"reflection_pad2d", "_pad_circular"}
# They work unit by unit on the map, though torch does not mark them so.
UNIT_BY_UNIT = {"batch_norm", "dropout", "native_dropout", "clone", "contiguous", "to", "_to_copy", "type_as", "copy"}
UNIT_BY_UNIT |= {
    "hardswish",
    "hardtanh",
    "elu",
    "leaky_relu",
    "log_sigmoid",
    "prelu",
    "_prelu_kernel",
    "channel_shuffle",
    "native_channel_shuffle",
}


def sight_of(call: Call, layer: Layer | Merge | None, shapes: tuple[Shape, ...], *, pointwise: bool) -> Sight:
    """What a unit of the output sees."""
    out = tuple(call.output.shape)
    if isinstance(layer, Flatten):
        return flow.mix_all(call.sight)
    if isinstance(layer, Layer) and (windows := layer.windows(shapes[0])) is not None:
        return flow.slide(call.sight, call.sizes, out, windows, layer.strides(shapes[0]))
    if call.name in SIGHTS:
        return SIGHTS[call.name](call)
    if pointwise or call.name in UNIT_BY_UNIT:
        return flow.combine([(sight, tensor.shape) for tensor, sight in call.seen], out)
    return _uniform(call)


def leads_elsewhere(call: Call) -> bool:
    """Whether units of the output may see what lies elsewhere than their field: mirrored borders, or units that are repeated."""
    if call.name == "upsample_nearest2d":
        return call.sizes != tuple(call.output.shape)
    return call.name in MIRRORS or (call.name == "pad" and call["mode"] in ("reflect", "circular"))


def _dimensions(call: Call, name: str = "dim") -> list[int]:
    value = call[name]
    count = len(call.sizes)
    given = range(count) if value is None or value == [] else [value] if isinstance(value, int) else value
    return [dimension % count for dimension in given]


def _reduce(call: Call) -> Sight:
    dimensions = _dimensions(call)
    mixed = flow.mix(call.sight, dimensions)
    return mixed if call["keepdim"] else flow.drop(mixed, dimensions)


def _norm(call: Call) -> Sight:
    """Statistics over the last dimensions (layer norm), or over everything but the batch (group and instance norm)."""
    count = len(call.sizes)
    first = count - len(call["normalized_shape"]) if call["normalized_shape"] is not None else 1
    return flow.mix(call.sight, range(first, count))


def _transpose(call: Call) -> Sight:
    count = len(call.sizes)
    one, other = (call[name] if call[name] is not None else i for i, name in enumerate(_two_dimensions(call)))
    order = list(range(count))
    order[one % count], order[other % count] = order[other % count], order[one % count]
    return flow.permute(call.sight, order)


def _two_dimensions(call: Call) -> tuple[str, str]:
    return ("axis0", "axis1") if "axis0" in call.arguments else ("dim0", "dim1")


def _move(call: Call) -> Sight:
    count = len(call.sizes)
    pairs = [[value] if isinstance(value, int) else value for value in (call["source"], call["destination"])]
    order: list[int | None] = [None] * count
    for source, destination in zip(*pairs, strict=True):
        order[destination % count] = source % count
    rest = iter([dimension for dimension in range(count) if dimension not in order])
    return flow.permute(call.sight, [next(rest) if dimension is None else dimension for dimension in order])


def _squeeze(call: Call) -> Sight:
    dimensions = [d for d in _dimensions(call) if call.sizes[d] == 1]
    return flow.drop(call.sight, dimensions)


def _slice(call: Call) -> Sight:
    (dimension,) = _dimensions(call)
    start = call["start"] or 0
    start = max(0, start + call.sizes[dimension]) if start < 0 else start
    size = call.output.shape[dimension]
    return call.sight if size == call.sizes[dimension] else flow.cut(call.sight, dimension, start, call["step"] or 1, size)


def _split(call: Call) -> Sight:
    """Pieces along a dimension; which of them it is does not matter where the units along it see the same."""
    (dimension,) = _dimensions(call)
    sight = call.sight
    return UNKNOWN if any(axis == dimension and n > 1 for axis, n in zip(sight.axes, sight.grid, strict=True)) else sight


def _concatenated(call: Call) -> Sight:
    dimension = (call["dim"] or 0) % call.output.dim()
    if len(call.seen) == 1:
        return call.sight  # with constants, such as a class token, which see nothing
    if any(axis == dimension and n > 1 for _, sight in call.seen for axis, n in zip(sight.axes, sight.grid, strict=True)):
        return UNKNOWN
    sizes = [tuple(1 if i == dimension else n for i, n in enumerate(tensor.shape)) for tensor, _ in call.seen]
    out = tuple(1 if i == dimension else n for i, n in enumerate(call.output.shape))
    return flow.combine([(sight, size) for (_, sight), size in zip(call.seen, sizes, strict=True)], out)


def _matrix_product(call: Call) -> Sight:
    """Rows of the one with columns of the other; a constant factor mixes, and sees nothing."""
    first, second = [tensor for tensor in call.arguments.values() if isinstance(tensor, Tensor)][-2:]
    sights = {id(tensor): sight for tensor, sight in call.seen}
    rows, columns = sights.get(id(first)), sights.get(id(second))
    rows = rows and flow.mix(rows, [first.dim() - 1])
    columns = columns and flow.mix(columns, [max(0, second.dim() - 2)])
    if rows is None or columns is None:
        return rows or columns or UNKNOWN
    if flow.is_uniform(rows) and flow.is_uniform(columns):
        return _together([rows, columns])
    # Scores of attention: unit (i, j) sees tokens i and j, and after the softmax over j all of them.
    tokens = ((first.dim() - 2,) * 2, (second.dim() - 1,) * 2)
    whole = [flow.everything(sight) for sight in (rows, columns)]
    if (flow.is_uniform(rows) or rows.axes == tokens[0]) and columns.axes == tokens[1] and whole[0] and whole[1]:
        return UNKNOWN._replace(pending=(call.output.dim() - 1, union([whole[0], whole[1]])))
    return UNKNOWN


def _stacked(call: Call) -> Sight:
    dimension, out = call["dim"] % call.output.dim(), tuple(call.output.shape)
    sizes = [(*tensor.shape[:dimension], 1, *tensor.shape[dimension:]) for tensor, _ in call.seen]
    return flow.combine([(flow.insert(sight, dimension), size) for (_, sight), size in zip(call.seen, sizes, strict=True)], out)


def _uniform(call: Call) -> Sight:
    """Whatever it does: where every unit of every input sees the same, so does every unit of the output."""
    return _together([sight for _, sight in call.seen]) if all(flow.is_uniform(sight) for _, sight in call.seen) else UNKNOWN


def _together(sights: list[Sight]) -> Sight:
    return flow.combine([(sight._replace(axes=(None, None)), ()) for sight in sights], ())


def _attention(call: Call) -> Sight:
    """Each query reads every key and value: softmax(q k^T / sqrt(d)) v."""
    sights = {id(tensor): (tensor, sight) for tensor, sight in call.seen}
    read: list[tuple[Sight, Sequence[int]]] = []
    for name in ("key", "value"):
        if found := sights.get(id(call[name])):
            mixed = flow.mix(found[1], [found[0].dim() - 2])
            read.append((mixed, found[0].shape))
    if found := sights.get(id(call["query"])):
        read.append((found[1], found[0].shape))
    return flow.combine(read, call.output.shape)


def _padded(call: Call) -> Sight:
    """Zeros before (or, where negative, pixels less) move the first unit's centre; the last dimensions come first in `pad`."""
    sight = call.sight
    for i, before in enumerate(call["pad"][::2]):
        dimension = len(call.sizes) - 1 - i
        sight = flow.cut(sight, dimension, -before, 1, call.output.shape[dimension])
    return sight


# Operations that return several pieces of one tensor.
SPLITS = {"split", "chunk", "split_with_sizes", "tensor_split", "unbind"}

SIGHTS: dict[str, Callable[[Call], Sight]] = {
    **dict.fromkeys(("mean", "sum", "amax", "amin", "linalg_vector_norm", "std", "var", "argmax", "logsumexp"), _reduce),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "cumsum"), lambda call: flow.mix(call.sight, _dimensions(call))),
    **dict.fromkeys(("layer_norm", "rms_norm", "native_layer_norm", "group_norm", "instance_norm"), _norm),
    **dict.fromkeys(("linear",), lambda call: flow.mix(call.sight, [len(call.sizes) - 1])),
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm"), _matrix_product),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        ("flatten", "view", "reshape", "_reshape_copy", "_unsafe_view", "unflatten"),
        lambda call: flow.reshape(call.sight, call.sizes, tuple(call.output.shape)),
    ),
    "permute": lambda call: flow.permute(call.sight, _dimensions(call, "dims")),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t"), _transpose),
    "movedim": _move,
    "unsqueeze": lambda call: flow.insert(call.sight, call["dim"] % call.output.dim()),
    "squeeze": _squeeze,
    **dict.fromkeys(("select", "unbind"), lambda call: flow.drop(call.sight, _dimensions(call))),
    "slice": _slice,
    **dict.fromkeys(("split", "chunk", "split_with_sizes", "tensor_split"), _split),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), lambda call: flow.combine([(call.sight, call.sizes)], call.output.shape)),
    **dict.fromkeys(("alias", "detach", "lift_fresh"), lambda call: call.sight),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenated),
    "stack": _stacked,
    "upsample_nearest2d": lambda call: flow.repeat(call.sight, call.sizes, tuple(call.output.shape)),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
}
