"""The arithmetic of every layer, stacks of convolutions, and the fully connected layers that convolutions save, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnncli.arch.explain import Equivalent, Stack, explain
from cnncli.arch.layers import Conv
from cnncli.arch.net import Row, Totals
from cnncli.errors import printable
from cnncli.reports.shape import Heading, heading_text, size_text, totals_text
from cnncli.reports.terminal import Column, listing, print_result, table

if TYPE_CHECKING:
    from rich.console import RenderableType

SYMBOLS = (
    "N input size, F kernel, P padding on each side, S stride, D dilation, C input channels, K filters. "
    "size: (N - F + 2P)/S + 1. weights: F*F*C*K + K. cost: one multiply-add for every weight at every output position. "
    "field: r + (F - 1)*j, where r is the field before and j the jump, the distance in input pixels between neighbouring units; "
    "j grows by S. first centre: of the first unit's field, counted from the first pixel's centre; padding moves it to the left."
)


def print_explanations(heading: Heading, rows: Sequence[Row], totals: Totals, stacks: Sequence[Stack], *, layout: str) -> None:
    """Every row with its arithmetic; then what stacked convolutions save; then the totals."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [heading_text(heading, layout)]
    before = 2
    for row in rows:
        text = _row_text(row, layout)
        if max(before, len(text)) > 1:  # layers without arithmetic stand close together
            parts.append(Text(""))
        parts += text
        before = len(text)
    for stack in stacks:
        parts += [Text(""), Text(_stack_text(stack))]
    parts += [Text(""), totals_text(totals), Text("")]
    parts += [Text(note, style="dim") for note in heading.notes]
    print_result(Group(*parts, Text(SYMBOLS, style="dim")))


def _row_text(row: Row, layout: str) -> list[RenderableType]:
    from rich.text import Text

    head = Text(printable(row.name), style="bold")
    sizes = f"{size_text(row.inputs[0], layout)} -> " if row.inputs and row.inputs[0] != row.output else ""
    head.append(f"  {printable(row.operation)}, {sizes}{size_text(row.output, layout)}", style="not bold")
    lines = explain(row).lines
    return [head, listing(lines)] if lines else [head]


def _stack_text(stack: Stack) -> str:
    count, side, kernel = len(stack.names), stack.side, stack.kernel
    first, last = printable(stack.names[0]), printable(stack.names[-1])
    return (
        f"{first} to {last}: {count} convolutions of {side}x{side} in series see {kernel}x{kernel} of their input with {stack.weights:,} "
        f"weights and {_activations(stack.activations)}; one {kernel}x{kernel} would need {stack.single:,} weights "
        f"({stack.single / stack.weights:.2f} times as many) and have {_activations(stack.behind)}. Biases are left out."
    )


def _activations(count: int) -> str:
    return f"{count or 'no'} activation{'' if count == 1 else 's'}"


EQUIVALENT_NOTE = (
    "fully connected: one weight for every pair of an input and an output, biases left out, for a layer that reads the whole input and "
    "gives the same outputs. times: how many times the weights of the convolution, biases left out."
)


def print_equivalents(heading: Heading, equivalents: Sequence[Equivalent], *, layout: str) -> None:
    """Each convolution beside the fully connected layer that it replaces, with input, padding and output."""
    from rich.console import Group
    from rich.text import Text

    columns = (
        *(Column("layer"), Column("input", number=True), Column("pad", number=True), Column("output", number=True)),
        *(Column("conv weights", number=True), Column("fully connected", number=True), Column("times", number=True)),
    )
    cells = [
        (
            *(one.row.name, size_text(one.row.inputs[0], layout), _padding(one.row), size_text(one.row.output, layout)),
            *(f"{one.weights:,}", f"{one.connected:,}", f"{one.connected / one.weights:,.0f}"),
        )
        for one in equivalents
    ]
    body = table(columns, cells) if cells else Text("It has no convolutions.")
    print_result(Group(heading_text(heading, layout), Text(""), body, Text(""), Text(EQUIVALENT_NOTE, style="dim")))


def equivalents_json(equivalents: Sequence[Equivalent]) -> list[dict[str, Any]]:
    """One object a convolution."""
    return [
        {
            "name": one.row.name,
            "input": list(one.row.inputs[0]),
            "pad": one.row.part.padding if isinstance(one.row.part, Conv) else None,
            "output": list(one.row.output),
            "conv_weights": one.weights,
            "connected_weights": one.connected,
        }
        for one in equivalents
    ]


def stacks_json(stacks: Sequence[Stack]) -> list[dict[str, Any]]:
    """One object a stack of convolutions."""
    return [
        {
            "layers": list(stack.names),
            "kernel": stack.side,
            "sees": stack.kernel,
            "weights": stack.weights,
            "single_weights": stack.single,
            "activations": stack.activations,
            "single_activations": stack.behind,
        }
        for stack in stacks
    ]


def _padding(row: Row) -> str:
    assert isinstance(row.part, Conv)
    padding = row.part.padding
    return str(padding) if isinstance(padding, int) else "x".join(map(str, padding))
