"""Net <-> JSON. A model file stores its net this way, so a trained model needs no source code to be opened again.

A part is an object with its class as `part` and every field by name, defaults included: a default that changes later must
not change a stored net. Reading takes nothing on trust: classes come from the table below, unknown or missing fields
are refused, numbers are checked by the layers themselves, and size and depth are bounded.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from cnncli.arch.blocks import PART_NAME, Add, Block, Chain, Concat, Concatenate, Dense, Graph, Merge, Part, Residual
from cnncli.arch.checks import check_number
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pool, SubsamplePad
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, DropPath, LocalResponseNorm
from cnncli.arch.shift import Shift
from cnncli.errors import InputError, UsageError

PARTS: dict[str, type[Part]] = {
    kind.__name__: kind
    for kind in (
        *(Conv, Pool, AdaptivePool, Linear, BatchNorm, LocalResponseNorm, Activation, Dropout, Flatten, SubsamplePad, Shift),
        *(DropPath, Add, Concatenate, Chain, Residual, Concat, Dense, Graph),
    )
}
MOST_PARTS = 100_000
DEEPEST = 32
LONGEST_TEXT = 1000


def net_to_json(net: Net) -> dict[str, Any]:
    """The net as JSON values."""
    return {"name": net.name, "input": list(net.input), "classes": net.classes, "paper": net.paper, "root": part_to_json(net.root)}


def net_from_json(value: object) -> Net:
    """The net that `net_to_json` wrote. InputError, naming the place, for anything else."""
    if not isinstance(value, dict):
        raise InputError("net: expected a JSON object")
    try:
        shape = value.get("input")
        if not isinstance(shape, list) or len(shape) != 3:
            raise InputError(f"net: input={repr(shape)[:80]} should be [channels, height, width]")
        for number in (*shape, value.get("classes")):
            check_number("net", "input or classes", number, least=1)
        root = _Reader().part(value.get("root"), "root", 0)
        if isinstance(root, Merge) or (isinstance(root, Block) and len(root.sources) != 1):
            raise InputError("net: root has several inputs; it stands only inside a block")
        return Net(
            name=_text(value, "name"),
            root=root,
            input=(shape[0], shape[1], shape[2]),
            classes=value["classes"],
            paper=_text(value, "paper"),
        )
    except UsageError as error:  # a layer refused its numbers: here they came from a file, not from a command line
        raise InputError(error.message[:500], error.hint) from None


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise InputError(f"net: {key} should be a text of at most {LONGEST_TEXT} characters")
    return text


def part_to_json(part: Part) -> dict[str, Any]:
    """A layer or block as JSON values."""
    return {"part": type(part).__name__} | {field.name: _field_to_json(getattr(part, field.name)) for field in fields(part)}  # type: ignore[arg-type]


def part_from_json(value: object) -> Part:
    """The part that `part_to_json` wrote. InputError or UsageError for anything else."""
    return _Reader().part(value, "part", 0)


def _field_to_json(value: Any) -> Any:
    if isinstance(value, Layer | Merge | Block):
        return part_to_json(value)
    if isinstance(value, tuple):  # a pair of numbers, or (name, part) entries
        return [_field_to_json(item) for item in value]
    return value


class _Reader:
    """Counts the parts it reads, so that a small hostile file cannot become endless work."""

    def __init__(self) -> None:
        self.parts = 0

    def part(self, value: object, place: str, depth: int) -> Part:
        self.parts += 1
        if self.parts > MOST_PARTS or depth > DEEPEST:
            raise InputError(f"net: more than {MOST_PARTS} parts or deeper than {DEEPEST} at {place[:200]}")
        kind = PARTS.get(str(value.get("part"))) if isinstance(value, dict) else None
        if kind is None:
            raise InputError(f"net: {place[:200]} is not one of {', '.join(PARTS)}")
        assert isinstance(value, dict)
        known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
        given = {key: item for key, item in value.items() if key != "part"}
        if unknown := [key for key in given if key not in known]:
            raise InputError(f"net: {place[:200]} has a field {unknown[0][:80]!r} that {kind.__name__} does not know")
        if missing := [name for name, field in known.items() if name not in given and field.default is MISSING]:
            raise InputError(f"net: {place[:200]} lacks the field {missing[0]!r}")
        arguments = {key: self.field(item, f"{place}.{key}", depth) for key, item in given.items()}
        self.check_blocks(kind, arguments, place)
        made: Part = kind(**arguments)
        return made

    def field(self, value: object, place: str, depth: int) -> Any:
        if isinstance(value, dict):
            return self.part(value, place, depth + 1)
        if isinstance(value, list) and all(isinstance(item, list) for item in value):
            return tuple(self.entry(item, place, depth) for item in value)
        if isinstance(value, list):
            return tuple(value)
        return value

    def entry(self, value: list[Any], place: str, depth: int) -> tuple[str, Part] | tuple[str, Part, tuple[str, ...]]:
        """[name, part], or in a graph [name, part, [what it reads]]."""
        if len(value) not in (2, 3) or not isinstance(value[0], str):
            raise InputError(f"net: {place[:200]} should be a list of [name, part]")
        if not PART_NAME.fullmatch(value[0]):  # before it becomes part of a place: it may be long, or not fit to print
            raise InputError(f"net: {place[:200]} has a part name {value[0][:80]!r}, which should be letters, digits and underscores")
        part = self.part(value[1], f"{place}.{value[0]}", depth + 1)
        if len(value) == 2:
            return value[0], part
        if not isinstance(value[2], list) or not all(isinstance(name, str) for name in value[2]):
            raise InputError(f"net: {place[:200]}.{value[0]} should read a list of names")
        return value[0], part, tuple(value[2])

    def check_blocks(self, kind: type[Part], arguments: dict[str, Any], place: str) -> None:
        """Layers check their own numbers; what a block is made of is checked here."""
        if not issubclass(kind, Block):
            return
        wanted: dict[str, tuple[type, ...]] = {
            "body": (Chain,),
            "shortcut": (Layer, Block, type(None)),
            "then": (Activation, type(None)),
            **dict.fromkeys(("parts", "branches", "layers", "nodes"), (tuple,)),
        }
        for name, kinds in wanted.items():
            if name not in arguments:
                continue
            value = arguments[name]
            if not isinstance(value, kinds):
                raise InputError(f"net: {place[:200]}.{name} is not a {' or '.join(k.__name__ for k in kinds)}")
            length = 3 if name == "nodes" else 2
            if isinstance(value, tuple) and not all(
                isinstance(entry, tuple) and len(entry) == length and (length == 3 or not isinstance(entry[1], Merge)) for entry in value
            ):
                raise InputError(f"net: {place[:200]}.{name} should be a list of [{'name, part, reads' if length == 3 else 'name, part'}]")
        names = arguments.get("inputs", ())
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(f"net: {place[:200]}.inputs should be a list of names")
