"""The rows of a net as a table or as JSON, and the list of nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnncli.arch.layers import Shape
from cnncli.arch.net import Net, Row, Totals
from cnncli.errors import printable
from cnncli.reports.terminal import Column, print_json, print_result, table

if TYPE_CHECKING:
    from rich.console import RenderableType

LEGEND = (
    "parameters: every learnable number. MACs: multiply-adds of convolutions and fully connected layers, one image; FLOPs = 2 x MACs. "
    "field: the receptive field, the square of input pixels that one unit sees. activations: the input and every output that is "
    "stored, one image; activation functions, dropout and flatten reuse their input's memory."
)


def size_text(shape: Shape, layout: str = "chw") -> str:
    """`96x55x55`, or `55x55x96` for layout hwc."""
    ordered = (*shape[1:], shape[0]) if layout == "hwc" else shape
    return "x".join(map(str, ordered))


def print_shape(net: Net, rows: Sequence[Row], totals: Totals, *, layout: str, folded_to: int | None) -> None:
    """The table of a net on standard output."""
    from rich.console import Group
    from rich.text import Text

    columns = (
        *(Column("layer"), Column("operation", text=True), Column("output", number=True)),
        *(Column("parameters", number=True), Column("MACs", number=True), Column("field", number=True)),
    )
    cells = [
        (row.name, row.operation, size_text(row.output, layout), _count(row.params), _count(row.macs), _both(row.receptive_field))
        for row in rows
    ]
    parts: list[RenderableType] = [
        Text(f"{printable(net.name)}: input {size_text(net.input, layout)}, {net.classes} classes", style="bold"),
        Text(printable(net.paper), style="dim"),
        Text(""),
        table(columns, cells),
        Text(""),
        _totals_text(totals),
        Text(""),
    ]
    if folded_to is not None:
        parts.append(Text(f"Blocks are folded to {folded_to} levels; --depth {folded_to + 1} opens them further.", style="dim"))
    print_result(Group(*parts, Text(LEGEND, style="dim")))


def _totals_text(totals: Totals) -> RenderableType:
    from rich.text import Text

    entries = (
        ("parameters", totals.params, f"{mebibytes(totals.weight_bytes)} of weights in float32"),
        ("MACs", totals.macs, f"{totals.flops:,} FLOPs"),
        ("activations", totals.activations, f"{mebibytes(totals.activation_bytes)} per image in float32"),
    )
    digits = max(len(f"{number:,}") for _, number, _ in entries)
    return Text("\n".join(f"{name:<12}{number:>{digits},}   {note}" for name, number, note in entries))


def shape_json(net: Net, rows: Sequence[Row], totals: Totals) -> dict[str, Any]:
    """The documented JSON of `cnn shape`. A field or jump is a number, or [height, width] where they differ."""
    return {
        "net": net.name,
        "input": list(net.input),
        "classes": net.classes,
        "layers": [
            {
                "name": row.name,
                "operation": row.operation,
                "output": list(row.output),
                "params": row.params,
                "macs": row.macs,
                "receptive_field": _one_or_both(row.receptive_field),
                "jump": _one_or_both(row.jump),
            }
            for row in rows
        ],
        "totals": {
            "params": totals.params,
            "macs": totals.macs,
            "flops": totals.flops,
            "weight_bytes": totals.weight_bytes,
            "activation_bytes": totals.activation_bytes,
        },
    }


def print_models(entries: Sequence[tuple[Net, Totals, str, int]], *, as_json: bool) -> None:
    """The zoo: (net, totals, summary, year) each."""
    if as_json:
        keys = [
            {"name": net.name, "summary": summary, "year": year, "paper": net.paper, "input": list(net.input), "classes": net.classes}
            | {"params": totals.params, "macs": totals.macs}
            for net, totals, summary, year in entries
        ]
        print_json({"models": keys})
        return
    from rich.console import Group
    from rich.text import Text

    columns = (
        *(Column("net"), Column("year", number=True), Column("input", number=True)),
        *(Column("parameters", number=True), Column("MACs", number=True), Column("what it is", text=True)),
    )
    rows = [
        (net.name, str(year), size_text(net.input), compact(totals.params), compact(totals.macs), summary)
        for net, totals, summary, year in entries
    ]
    print_result(Group(table(columns, rows), Text("\n`cnn shape NET` explains one, `cnn train NET` trains it.")))


def mebibytes(count: int) -> str:
    """Bytes as MiB, or KiB below one."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def compact(number: int) -> str:
    """Three significant digits and a unit: 62.4 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.{2 if number < 10 * size else 1 if number < 100 * size else 0}f} {unit}"
    return str(number)


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _both(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return "-"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _one_or_both(pair: tuple[int | float, int | float] | None) -> Any:
    if pair is None:
        return None
    height, width = (int(number) if number == int(number) else number for number in pair)
    return height if height == width else [height, width]
