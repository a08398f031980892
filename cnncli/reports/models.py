"""The list of the zoo: a table that fits the terminal, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from cnncli.arch.net import Net, Totals
from cnncli.arch.zoo.accuracy import Accuracy, Source
from cnncli.reports.shape import compact, size_text
from cnncli.reports.terminal import Column, print_json, print_result, table, width

WIDTH_FOR_SUMMARY = 110  # below, a summary would be a word or two a line

LEGEND = (
    "params: every learnable number. MACs: multiply-adds, one image; FLOPs = 2 x MACs. MiB: the weights in float32. "
    "depth: layers with weights on the longest path."
)
ACCURACY_LEGEND = (
    " top-1 and top-5 accuracy as published, in percent: on ImageNet's validation images; of nets with 10 classes, on the test images "
    "of CIFAR-10 (3 channels) or MNIST (1 channel). Published by:"
)


@dataclass(frozen=True)
class Listed:
    """A net of the zoo and what the list says of it."""

    net: Net
    totals: Totals
    summary: str
    year: int
    accuracy: Accuracy | None


def models_json(listed: Sequence[Listed]) -> dict[str, Any]:
    """The documented JSON of `cnn models`. Rates are in 0..1, as in `cnn eval`."""
    return {
        "models": [
            {
                "name": entry.net.name,
                "summary": entry.summary,
                "year": entry.year,
                "paper": entry.net.paper,
                "input": list(entry.net.input),
                "classes": entry.net.classes,
                "params": entry.totals.params,
                "macs": entry.totals.macs,
                "weight_bytes": entry.totals.weight_bytes,
                "depth": entry.totals.depth,
                "accuracy": accuracy_json(entry.accuracy),
            }
            for entry in listed
        ]
    }


def accuracy_json(accuracy: Accuracy | None) -> dict[str, Any] | None:
    """{"data", "top1", "top5", "source", "url"}, rates in 0..1; None where nothing is published."""
    if accuracy is None:
        return None
    source = accuracy.source
    return {
        "data": accuracy.data,
        "top1": _rate(accuracy.top1),
        "top5": _rate(accuracy.top5),
        "source": source.text,
        "url": source.url,
    }


def _rate(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)  # no more digits than were published


def print_models(listed: Sequence[Listed], *, as_json: bool) -> None:
    """The list on standard output."""
    if as_json:
        print_json(models_json(listed))
        return
    from rich.console import Group
    from rich.text import Text

    marks = _marks(listed)
    columns: list[tuple[Column, list[str]]] = [
        (Column("net"), [entry.net.name for entry in listed]),
        (Column("year", number=True), [str(entry.year) for entry in listed]),
        (Column("input", number=True), [size_text(entry.net.input) for entry in listed]),
        (Column("params", number=True), [compact(entry.totals.params) for entry in listed]),
        (Column("MACs", number=True), [compact(entry.totals.macs) for entry in listed]),
        (Column("MiB", number=True), [_mebibytes(entry.totals.weight_bytes) for entry in listed]),
        (Column("depth", number=True), [str(entry.totals.depth) for entry in listed]),
        (Column("top-1", number=True), [_percent(entry.accuracy.top1 if entry.accuracy else None) for entry in listed]),
        (Column("top-5"), [_marked(entry.accuracy, marks) for entry in listed]),
    ]
    if width() >= WIDTH_FOR_SUMMARY:
        columns.append((Column("what it is", text=True), [entry.summary for entry in listed]))
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    legend = [Text(LEGEND + (ACCURACY_LEGEND if marks else ""), style="dim")]
    legend += [Text(f"{mark}  {source.text}", style="dim") for source, mark in marks.items()]
    lines = [Text(), *legend, Text("\n`cnn shape NET` explains one, `cnn train NET` trains it.")]
    print_result(Group(table([column for column, _ in columns], rows), *lines))


def _marks(listed: Sequence[Listed]) -> dict[Source, str]:
    """A letter for each source, in the order in which the table names them."""
    sources = dict.fromkeys(entry.accuracy.source for entry in listed if entry.accuracy)
    return dict(zip(sources, ascii_lowercase, strict=False))


def _marked(accuracy: Accuracy | None, marks: dict[Source, str]) -> str:
    """The top-5 accuracy, right under its title, and behind it the letter of the source."""
    text = f"{_percent(accuracy.top5 if accuracy else None):>{len('top-5')}}"
    return f"{text} {marks[accuracy.source]}" if accuracy else text


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mebibytes(count: int) -> str:
    """At most four characters below 10,000: 0.24, 1.03, 23.5, 528."""
    size = count / 2**20
    return f"{size:.{2 if size < 10 else 1 if size < 100 else 0}f}"
