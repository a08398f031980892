"""Nets side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cnncli.arch.layers import Conv, Linear
from cnncli.arch.net import Row, Totals
from cnncli.arch.zoo.accuracy import CIFAR10, IMAGENET, MNIST, PUBLISHED, Accuracy
from cnncli.errors import printable
from cnncli.reports.models import accuracy_json
from cnncli.reports.shape import Heading, both, compact, mebibytes, one_or_both, size_text
from cnncli.reports.terminal import Column, narrowest, print_result, table, width

NOTE = (
    "field, jump: of the last convolution, in input pixels. depth: layers with weights on the longest path. MACs: multiply-adds for one "
    "image; FLOPs = 2 x MACs."
)
NOTE_OF_SEVERAL = " In brackets: relative to the first net."


class Compared(NamedTuple):
    """One net of a comparison, with what its rows add up to."""

    heading: Heading
    rows: Sequence[Row]
    totals: Totals

    @property
    def last_convolution(self) -> Row | None:
        """The row of the last convolution."""
        return next((row for row in reversed(self.rows) if isinstance(row.part, Conv)), None)

    def count(self, kind: type) -> int:
        """How many layers of a kind."""
        return sum(isinstance(row.part, kind) for row in self.rows)

    @property
    def accuracy(self) -> Accuracy | None:
        """What is published of a net of the zoo in its own size."""
        known = PUBLISHED.get(self.heading.name)
        return known if known is not None and self.heading.classes == CLASSES[known.data] else None


def _percent(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f} %"


# title: the number that is compared, printed with its ratio to the first net's
NUMBERS: tuple[tuple[str, Callable[[Compared], int]], ...] = (
    ("parameters", lambda net: net.totals.params),
    ("MACs", lambda net: net.totals.macs),
    ("FLOPs", lambda net: net.totals.flops),
    ("activations", lambda net: net.totals.activations),
)
# title: a text without a ratio
TEXTS: tuple[tuple[str, Callable[[Compared], str]], ...] = (
    ("weights, float32", lambda net: mebibytes(net.totals.weight_bytes)),
    ("activations, float32", lambda net: mebibytes(net.totals.activation_bytes)),
    ("depth", lambda net: str(net.totals.depth)),
    ("convolutions", lambda net: str(net.count(Conv))),
    ("fully connected", lambda net: str(net.count(Linear))),
    ("output", lambda net: size_text(net.rows[-1].output)),
    ("field", lambda net: both(net.last_convolution.receptive_field if net.last_convolution else None)),
    ("jump", lambda net: both(net.last_convolution.jump if net.last_convolution else None)),
    ("published top-1", lambda net: _percent(net.accuracy.top1 if net.accuracy else None)),
    ("published top-5", lambda net: _percent(net.accuracy.top5 if net.accuracy else None)),
)
CLASSES = {IMAGENET: 1000, CIFAR10: 10, MNIST: 10}  # a net with another number of classes is not the published one


def print_comparison(nets: Sequence[Compared], *, layout: str) -> None:
    """A column a net, a row a fact."""
    from rich.console import Group
    from rich.text import Text

    columns = (Column("fact"), *(Column(printable(net.heading.name), number=True) for net in nets))
    rows = _facts(nets, layout, lambda number: f"{number:,}")
    shorter = _facts(nets, layout, compact)
    if narrowest(columns, rows) > width() >= narrowest(columns, shorter):
        rows = shorter
    published: dict[tuple[str, str], list[str]] = {}
    for net in nets:
        if net.accuracy:
            published.setdefault((net.accuracy.data, net.accuracy.source.text), []).append(net.heading.name)
    sources = [f"{', '.join(map(printable, names))}: {data}, {source}." for (data, source), names in published.items()]
    if not published:
        rows = [row for row in rows if not row[0].startswith("published")]
    print_result(
        Group(table(columns, rows), Text(""), Text(" ".join([NOTE + (NOTE_OF_SEVERAL if len(nets) > 1 else ""), *sources]), style="dim"))
    )


def _facts(nets: Sequence[Compared], layout: str, written: Callable[[int], str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("input", *(size_text(net.heading.input, layout) for net in nets))]
    for title, fact in NUMBERS:
        first, *others = (fact(net) for net in nets)
        rows.append((title, written(first), *(f"{written(number)} ({_ratio(number, first)})" for number in others)))
    return rows + [(title, *(text(net) for net in nets)) for title, text in TEXTS]


def _ratio(number: int, first: int) -> str:
    if not first:
        return "-"
    ratio = number / first
    return f"{ratio:.2f}x" if ratio >= 0.01 or not number else f"{ratio:.2g}x"


def comparison_json(nets: Sequence[Compared]) -> dict[str, Any]:
    """{"nets": [...]}: the facts of `print_comparison`."""
    return {
        "nets": [
            {
                "net": net.heading.name,
                "input": list(net.heading.input),
                "classes": net.heading.classes,
                "params": net.totals.params,
                "macs": net.totals.macs,
                "flops": net.totals.flops,
                "weight_bytes": net.totals.weight_bytes,
                "activation_bytes": net.totals.activation_bytes,
                "depth": net.totals.depth,
                "convolutions": net.count(Conv),
                "fully_connected": net.count(Linear),
                "output": list(net.rows[-1].output),
                "receptive_field": one_or_both(net.last_convolution.receptive_field if net.last_convolution else None),
                "jump": one_or_both(net.last_convolution.jump if net.last_convolution else None),
                "accuracy": accuracy_json(net.accuracy),
            }
            for net in nets
        ]
    }
