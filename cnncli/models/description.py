"""What is known of a net, whatever kind of model it is, and the way to JSON and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncli.arch.blocks import Block, Merge
from cnncli.arch.layers import Layer
from cnncli.arch.net import Net, Row
from cnncli.arch.receptive import Axis, Field
from cnncli.arch.serial import part_from_json, part_to_json

Size = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Description:
    """What is known of a net. classes: None where it does not say. net: None for a traced model. notes: what to know about the rows."""

    name: str
    paper: str
    input: Size
    classes: int | None
    rows: tuple[Row, ...]
    net: Net | None
    notes: tuple[str, ...] = ()


def description_to_json(description: Description) -> dict[str, Any]:
    """The description of a traced model (one without `net`) as JSON values. Equal layers are written once."""
    parts: dict[Layer | Merge, int] = {}
    rows = []
    for row in description.rows:
        number = None if row.part is None else parts.setdefault(row.part, len(parts))
        rows.append([*row[:8], number, row.inputs])
    facts = {name: getattr(description, name) for name in ("name", "paper", "input", "classes", "notes")}
    return facts | {"parts": [part_to_json(part) for part in parts], "rows": rows}


def description_from_json(value: dict[str, Any]) -> Description:
    """The description that `description_to_json` wrote. Anything else raises KeyError, TypeError, ValueError, IndexError or a CnnError."""
    parts = [_layer(part) for part in value["parts"]]
    return Description(
        name=value["name"],
        paper=value["paper"],
        input=size_of(value["input"]),
        classes=value["classes"],
        rows=tuple([_row(row, parts) for row in value["rows"]]),
        net=None,
        notes=tuple(value["notes"]),
    )


def size_of(sizes: Sequence[int]) -> Size:
    """Three numbers as an input's size. ValueError for more or fewer."""
    channels, height, width = sizes
    return channels, height, width


def size_text(size: Sequence[int]) -> str:
    """`3x224x224`, as --input takes it."""
    return "x".join(map(str, size))


def _layer(value: object) -> Layer | Merge:
    part = part_from_json(value)
    if isinstance(part, Block):
        raise TypeError("a row is no block")
    return part


def _row(value: list[Any], parts: list[Layer | Merge]) -> Row:
    name, operation, output, params, macs, field, memory, depth, number, inputs = value
    return Row(
        name=name,
        operation=operation,
        output=tuple(output),
        params=params,
        macs=macs,
        field=None if field is None else Field(*(Axis(*axis) for axis in field)),
        memory=memory,
        depth=depth,
        part=None if number is None else parts[number],
        inputs=tuple([tuple(shape) for shape in inputs]),
    )
