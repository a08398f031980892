"""The published weights of the zoo's nets: a table that fits the terminal, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncli.arch.zoo.weights import PublishedWeights
from cnncli.reports.terminal import Column, print_json, print_result, table, width

WIDTH_FOR_FILES = 110  # below, there is no room for the names of the files
LEGEND = (
    "top-1 and top-5: accuracy on ImageNet's validation images in percent, as torchvision published it with the weights. MiB: the file. "
    "cached: it is here, and needs no network."
)


def weights_json(rows: Sequence[PublishedWeights]) -> dict[str, Any]:
    """The documented JSON of `cnn models --weights`. Rates are in 0..1, sizes in bytes, as in the rest of `cnn models`."""
    return {
        "weights": [
            {
                "net": row.net,
                "weights": row.weights,
                "top1": _rate(row.top1),
                "top5": _rate(row.top5),
                "mebibytes": row.mebibytes,
                "cached": row.cached,
                "path": row.path,
                "url": row.url,
                "recipe": row.recipe or None,
            }
            for row in rows
        ]
    }


def print_weights(rows: Sequence[PublishedWeights], *, as_json: bool) -> None:
    """The list on standard output."""
    if as_json:
        print_json(weights_json(rows))
        return
    from rich.console import Group
    from rich.text import Text

    columns: list[tuple[Column, list[str]]] = [
        (Column("net"), [row.net for row in rows]),
        (Column("--weights"), [row.weights for row in rows]),
        (Column("top-1", number=True), [_percent(row.top1) for row in rows]),
        (Column("top-5", number=True), [_percent(row.top5) for row in rows]),
        (Column("MiB", number=True), ["-" if row.mebibytes is None else f"{row.mebibytes:.1f}" for row in rows]),
        (Column("cached"), ["yes" if row.cached else "no" for row in rows]),
    ]
    if width() >= WIDTH_FOR_FILES:
        columns.append((Column("file"), [row.url.rpartition("/")[2] for row in rows]))
    lines = list(zip(*(cells for _, cells in columns), strict=True))
    folder = rows[0].path.rpartition("/")[0]
    ends = [Text(), Text(LEGEND, style="dim"), Text(f"cache: {folder}", style="dim", overflow="fold")]
    ends.append(Text(f"\n`cnn predict {rows[0].net} IMAGES --weights {rows[0].weights}` uses them; --json lists addresses and recipes."))
    print_result(Group(table([column for column, _ in columns], lines), *ends))


def _rate(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
