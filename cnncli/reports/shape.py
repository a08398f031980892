"""The rows of a net as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.arch.fit import Misfits, consequence, misfits, remedy, size_arithmetic
from cnncli.arch.layers import Shape
from cnncli.arch.net import Row, Totals
from cnncli.errors import printable
from cnncli.reports.terminal import Column, listing, narrowest, print_result, table, width

if TYPE_CHECKING:
    from rich.console import RenderableType

LEGEND = (
    "parameters: every learnable number. MACs: multiply-adds of convolutions, fully connected layers and matrix products, one image; "
    "FLOPs = 2 x MACs. field: the receptive field, the square of input pixels that one unit sees, padding included. activations: the "
    "input and every output that is stored, one image; activation functions, dropout and flatten reuse their input's memory."
)
LEGEND_WHEN_WIDE = (
    " jump: distance in input pixels between neighbouring units. start: centre of the first unit's field, in pixels from the centre "
    "of the first; padding moves it to the left."
)
MISFIT_MARK = "!"
MOST_MISFITS = 4  # told below the table; --explain tells all


class Heading(NamedTuple):
    """What stands above the rows. classes: None where a traced model does not say. notes: what there is to know about the rows."""

    name: str
    paper: str
    input: Shape
    classes: int | None
    notes: tuple[str, ...] = ()


def size_text(shape: Shape, layout: str = "chw") -> str:
    """`96x55x55`, or `55x55x96` for layout hwc."""
    ordered = (*shape[1:], shape[0]) if layout == "hwc" else shape
    return "x".join(map(str, ordered))


def heading_text(heading: Heading, layout: str) -> RenderableType:
    """The net's name, input and classes, and where it was published."""
    from rich.text import Text

    classes = "" if heading.classes is None else f", {heading.classes} classes"
    text = Text(f"{printable(heading.name)}: input {size_text(heading.input, layout)}{classes}", style="bold")
    if heading.paper:
        text.append(f"\n{printable(heading.paper)}", style="not bold dim")
    return text


def print_shape(heading: Heading, rows: Sequence[Row], totals: Totals, unfitting: Sequence[Misfits], *, layout: str, folded: bool) -> None:
    """The table of a net on standard output. rows: as they are shown; unfitting: of all layers, shown or folded."""
    from rich.console import Group
    from rich.text import Text

    columns, cells, more = _columns_that_fit(rows, layout, f" {MISFIT_MARK}" if unfitting else "")
    parts: list[RenderableType] = [heading_text(heading, layout), Text(""), table(columns, cells), Text(""), totals_text(totals), Text("")]
    if unfitting:
        parts += [_misfits_text(unfitting), Text("")]
    parts += [Text(note, style="dim") for note in heading.notes]
    if folded:
        parts.append(
            Text("Equal blocks and deep ones are folded into one row; --all shows every layer, --depth N opens N levels.", style="dim")
        )
    print_result(Group(*parts, Text(LEGEND + (LEGEND_WHEN_WIDE if more else ""), style="dim")))


def _columns_that_fit(rows: Sequence[Row], layout: str, mark: str) -> tuple[tuple[Column, ...], list[tuple[str, ...]], bool]:
    """Columns and cells for the terminal's width, and whether it is wide enough for jump and start. mark: behind what does not tile."""
    columns = (
        *(Column("layer"), Column("operation", text=True), Column("output", number=True)),
        *(Column("parameters", number=True), Column("MACs", number=True), Column("field", number=True)),
    )
    cells: list[tuple[str, ...]] = [
        (
            *(row.name, row.operation, size_text(row.output, layout) + (mark if misfits(row) else " " * len(mark))),
            *(_count(row.params), _count(row.macs), both(row.receptive_field)),
        )
        for row in rows
    ]
    wide = (*columns, Column("jump", number=True), Column("start", number=True))
    wide_cells = [(*cell, both(row.jump), both(row.start)) for cell, row in zip(cells, rows, strict=True)]
    if narrowest(wide, wide_cells, wrapped=False) <= width():
        return wide, wide_cells, True
    shorter = _under_headings(cells)
    broken = (Column("layer", path=True), *columns[1:])
    ways = ((columns, cells), (columns, shorter), (broken, shorter))
    chosen, shown = next((way for way in ways if narrowest(*way) <= width()), ways[0])
    return chosen, shown, False


def _under_headings(cells: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Shorter names: a block's path stands once above its layers, which are indented and named by the rest of their path."""
    groups: list[tuple[str, list[tuple[str, ...]]]] = []
    for row in cells:
        name = row[0]
        if not groups or not groups[-1][0] or not name.startswith(f"{groups[-1][0]}."):
            groups.append((name.rpartition(".")[0], []))
        groups[-1][1].append(row)
    shortened: list[tuple[str, ...]] = []
    for heading, rows in groups:
        if not heading or len(rows) == 1:
            shortened += rows
            continue
        shortened.append((heading, *("" for _ in rows[0][1:])))
        shortened += [(f"  {name.removeprefix(heading + '.')}", *facts) for name, *facts in rows]
    return shortened


def _misfits_text(unfitting: Sequence[Misfits]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    told = sorted(unfitting, key=lambda found: found.misfit.dropped == 0)[:MOST_MISFITS]  # lost pixels first, then lost padding
    lines = []
    for names, row, misfit in told:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append((names[0] + others, f"{row.operation}: {size_arithmetic(misfit.n, misfit.window)}; {consequence(misfit)}"))
    rest = sum(len(names) for names, _, _ in unfitting) - sum(len(names) for names, _, _ in told)
    more = f"{rest} more layer{'s' if rest > 1 else ''}: " if rest else ""
    advice = f"{more}--explain tells {'all, with ' if rest else ''}the values that fit, --strict makes it an error"
    return Group(Text(f"{MISFIT_MARK} the windows do not tile their input:"), listing(lines), Text(advice, style="dim"))


def misfit_error(unfitting: Misfits) -> tuple[str, str]:
    """The message and the hint with which --strict refuses a net."""
    names, row, misfit = unfitting
    message = f"layer {names[0]}: {row.operation} does not fit the {misfit.axis} of its input: {size_arithmetic(misfit.n, misfit.window)}"
    return f"{message}; {consequence(misfit)}", remedy(misfit)


def totals_text(totals: Totals) -> RenderableType:
    """Parameters, MACs, activations and depth of a net, a line each."""
    from rich.text import Text

    entries = (
        ("parameters", totals.params, f"{mebibytes(totals.weight_bytes)} of weights in float32"),
        ("MACs", totals.macs, f"{totals.flops:,} FLOPs"),
        ("activations", totals.activations, f"{mebibytes(totals.activation_bytes)} per image in float32"),
        ("depth", totals.depth, "layers with weights on the longest path"),
    )
    digits = max(len(f"{number:,}") for _, number, _ in entries)
    return Text("\n".join(f"{name:<12}{number:>{digits},}   {note}" for name, number, note in entries))


def shape_json(heading: Heading, rows: Sequence[Row], totals: Totals, *, explained: bool) -> dict[str, Any]:
    """The documented JSON of `cnn shape`. A field, jump or start is a number, or [height, width] where they differ, or null."""
    return {
        "net": heading.name,
        "input": list(heading.input),
        "classes": heading.classes,
        "layers": [_row_json(row, explained=explained) for row in rows],
        "totals": {
            "params": totals.params,
            "macs": totals.macs,
            "flops": totals.flops,
            "weight_bytes": totals.weight_bytes,
            "activation_bytes": totals.activation_bytes,
            "depth": totals.depth,
        },
    }


def _row_json(row: Row, *, explained: bool) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "name": row.name,
        "operation": row.operation,
        "output": list(row.output),
        "params": row.params,
        "macs": row.macs,
        "receptive_field": one_or_both(row.receptive_field),
        "jump": one_or_both(row.jump),
        "start": one_or_both(row.start),
    }
    if unfitting := misfits(row):
        layer["misfits"] = [
            {
                "axis": misfit.axis,
                "input": misfit.n,
                "exact": float(misfit.window.exact(misfit.n)),
                "output": misfit.size,
                "dropped": misfit.dropped,
                "unseen_padding": misfit.unseen_padding,
                "overhang": misfit.overhang,
                "fitting": {"stride": list(misfit.strides), "pad": list(misfit.paddings), "input": list(misfit.inputs)},
            }
            for misfit in unfitting
        ]
    if explained:
        from cnncli.arch.explain import explain

        layer["explanation"] = [list(line) for line in explain(row).lines]
    return layer


def mebibytes(count: int) -> str:
    """Bytes as MiB, or KiB below one, or bytes below one of those."""
    if count < 2**10:
        return f"{count} bytes"
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def compact(number: int) -> str:
    """Three significant digits and a unit: 62.4 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.{2 if number < 10 * size else 1 if number < 100 * size else 0}f} {unit}"
    return str(number)


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def both(pair: tuple[float, float] | None) -> str:
    """`11`, or `11x13` where height and width differ; `-` where it is not known."""
    if pair is None:
        return "-"
    texts = [str(int(number)) if number == int(number) else f"{number:.4g}" for number in pair]
    return texts[0] if pair[0] == pair[1] else "x".join(texts)


def one_or_both(pair: tuple[int | float, int | float] | None) -> Any:
    """For JSON: a number, [height, width] where they differ, None where it is not known."""
    if pair is None:
        return None
    height, width = (int(number) if number == int(number) else number for number in pair)
    return height if height == width else [height, width]
