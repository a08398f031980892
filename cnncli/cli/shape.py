"""`cnn shape`: explain a net's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cnncli.arch.folding import fold
from cnncli.arch.net import Net, Row, totals, walk
from cnncli.arch.zoo.table import build
from cnncli.cli.options import Json, parse_input
from cnncli.errors import ExitCode, UsageError
from cnncli.models.resolve import resolve
from cnncli.reports.shape import print_shape, shape_json
from cnncli.reports.terminal import print_json

MOST_ROWS = 60  # what a reader still scrolls through; longer tables are folded unless --depth says otherwise


def command(
    net: Annotated[str, typer.Argument(help="A net's name (`cnn models` lists them) or a trained model.")],
    input: Annotated[
        str | None, typer.Option("--input", help="Input as channels x height x width, 3x227x227. (default: the net's own)")
    ] = None,
    classes: Annotated[int | None, typer.Option("--classes", help="Number of classes. (default: the net's own)")] = None,
    layout: Annotated[str, typer.Option("--layout", help="Order of the printed sizes: chw (torch) or hwc (the lecture).")] = "chw",
    depth: Annotated[
        int | None, typer.Option("--depth", help="Open blocks to this many levels. (default: as many as fit in 60 rows)")
    ] = None,
    json: Json = False,
) -> int:
    """Explain a net: output sizes, parameters, MACs and receptive field of every layer, and their totals.

    JSON: {"net", "input": [C, H, W], "classes", "layers": [{"name", "operation", "output": [...], "params", "macs",
    "receptive_field", "jump"}], "totals": {"params", "macs", "flops", "weight_bytes", "activation_bytes"}}. JSON folds
    nothing unless --depth is given. A field or jump is a list of height and width where they differ.
    """
    if layout not in ("chw", "hwc"):
        raise UsageError(f"--layout {layout!r} should be chw or hwc", path="--layout")
    described = describe(net, input=parse_input(input), classes=classes)
    rows = walk(described)
    sums = totals(rows, described.input)
    if json:
        print_json(shape_json(described, rows if depth is None else fold(rows, depth), sums))
        return ExitCode.DONE
    levels = fitting_depth(rows) if depth is None else depth
    folded = fold(rows, levels)
    print_shape(described, folded, sums, layout=layout, folded_to=levels if len(folded) < len(rows) else None)
    return ExitCode.DONE


def describe(net: str, *, input: tuple[int, int, int] | None, classes: int | None) -> Net:
    """The net behind a spec, with another input if asked; another number of classes only for a net of the zoo."""
    spec = resolve(net)
    if spec.kind == "zoo":
        return build(spec.name, input=input, classes=classes)
    from cnncli.models.modelfile import read_info

    if classes is not None:
        raise UsageError(f"--classes {classes}: {net} is a trained model, its classes are fixed", path="--classes")
    stored = read_info(spec.path).net
    return stored if input is None else replace(stored, input=input)


def fitting_depth(rows: tuple[Row, ...]) -> int:
    """The most levels that give at most MOST_ROWS rows (1 if none does)."""
    deepest = max(row.name.count(".") + 1 for row in rows)
    return next((depth for depth in range(deepest, 1, -1) if len(fold(rows, depth)) <= MOST_ROWS), 1)
