"""`cnn models`: list the nets that have a name, and draw what their accuracy costs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.arch.totals import totals_of
from cnncli.arch.zoo.accuracy import DATA_SETS, PUBLISHED, data_set_of
from cnncli.arch.zoo.table import ZOO, build
from cnncli.cli.options import Json, Overwrite
from cnncli.errors import EnvironmentFault, ExitCode, UsageError, near_miss
from cnncli.reports.models import Listed, print_models
from cnncli.reports.terminal import talk

PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Order:
    """What --sort goes by; None where a net lacks it. best_first: larger is better, so that the list begins with the largest."""

    key: Callable[[Listed], Any]
    best_first: bool = False


ORDERS = {
    "params": Order(lambda entry: entry.totals.params),
    "macs": Order(lambda entry: entry.totals.macs),
    "size": Order(lambda entry: entry.totals.weight_bytes),
    "depth": Order(lambda entry: entry.totals.depth),
    "year": Order(lambda entry: entry.year),
    "top1": Order(lambda entry: entry.accuracy.top1 if entry.accuracy else None, best_first=True),
    "top5": Order(lambda entry: entry.accuracy.top5 if entry.accuracy else None, best_first=True),
    "name": Order(lambda entry: [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", entry.net.name)]),
}


def command(
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Nets with this in their name or summary; 'resnet*' is a pattern. Several times: any of them."),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help=f"Nets made for one of {', '.join(DATA_SETS)}.")] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", help=f"One of {', '.join(ORDERS)}: smallest, oldest or best first. (default: by family)"),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round; nets without the figure stay last.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw ImageNet accuracy against MACs, of the nets listed, as .png, .svg or .pdf.")
    ] = None,
    plot_depth: Annotated[
        Path | None,
        typer.Option("--plot-depth", help="Draw the error and depth of ImageNet's winners over the years; ignores the filters."),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="List the published weights instead: what they score, and whether they are here.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """List the nets that have a name, with their size, cost, depth and published accuracy, and where that was published.

    JSON: {"models": [{"name", "summary", "year", "paper", "input": [C, H, W], "classes", "params", "macs", "weight_bytes",
    "depth", "accuracy": null or {"data", "top1", "top5", "source", "url"}}]}; rates are in 0..1, null where not published.
    With --weights: {"weights": [{"net", "weights": the word for --weights, "top1", "top5", "mebibytes", "cached", "path", "url",
    "recipe"}]}.
    """
    if weights:
        others = {"--dataset": dataset, "--sort": sort, "--reverse": reverse or None, "--plot": plot, "--plot-depth": plot_depth}
        return list_weights(filter or [], [flag for flag, value in others.items() if value is not None], as_json=json)
    if dataset is not None and dataset not in DATA_SETS:
        raise UsageError(f"--dataset {dataset!r} should be {', '.join(DATA_SETS[:-1])} or {DATA_SETS[-1]}", path="--dataset")
    if sort is not None and sort not in ORDERS:
        raise UsageError(f"--sort {sort!r} should be one of {', '.join(ORDERS)}", near_miss(sort, list(ORDERS)), path="--sort")
    if reverse and sort is None:
        raise UsageError("--reverse needs an order", "add --sort, for example --sort params", path="--reverse")
    check_pictures({"--plot": plot, "--plot-depth": plot_depth}, overwrite=overwrite)
    chosen = choose(filter or [], dataset)
    listed = chosen if sort is None else in_order(chosen, ORDERS[sort], reverse=reverse)
    draw(plot, plot_depth, listed)
    print_models(listed, as_json=json)
    for path in (plot, plot_depth):
        if path is not None:
            talk(f"wrote {path}")
    return ExitCode.DONE


def list_weights(filters: list[str], others: list[str], *, as_json: bool) -> int:
    """The published weights of the nets that pass any of the filters. others: flags that were given and say nothing here."""
    if others:
        raise UsageError(f"{others[0]} and --weights exclude each other", "leave one of them out", path=others[0])
    names = [entry.net.name for entry in choose(filters, None)]

    from cnncli.models.catalogue import published_weights
    from cnncli.reports.published import print_weights

    rows = published_weights(names)
    if not rows:
        raise UsageError(f"{', '.join(names[:5])}: no published weights", "`cnn models --weights` lists the nets that have them")
    print_weights(rows, as_json=as_json)
    return ExitCode.DONE


def choose(filters: list[str], dataset: str | None) -> list[Listed]:
    """The nets that pass any of the filters and are made for the data set, in the zoo's order. UsageError when none does."""
    for text in filters:
        if not any(passes(name, text) for name in ZOO):
            raise UsageError(f"no net has {text!r} in its name or summary", near_miss(text, list(ZOO)), path="--filter")
    names = [name for name in ZOO if not filters or any(passes(name, text) for text in filters)]
    nets = [net for name in names if dataset in (None, data_set_of(net := build(name)))]
    if not nets:
        texts = " or ".join(repr(text) for text in filters)
        raise UsageError(f"no net with {texts} is made for {dataset}", "leave out --filter or --dataset", path="--dataset")
    return [Listed(net, totals_of(net), ZOO[net.name].summary, ZOO[net.name].year, PUBLISHED.get(net.name)) for net in nets]


def passes(name: str, text: str) -> bool:
    """Whether the net's name or summary contains the text, or is matched as a whole by it where it has *, ? or [; case does not count."""
    text = text.lower()
    own = (name.lower(), ZOO[name].summary.lower())
    return any(fnmatchcase(one, text) for one in own) if set(text) & set("*?[") else any(text in one for one in own)


def in_order(listed: list[Listed], order: Order, *, reverse: bool) -> list[Listed]:
    """Sorted; nets that lack the figure come last either way, and equal ones stay in the zoo's order."""
    known = [(key, entry) for entry in listed if (key := order.key(entry)) is not None]
    unknown = [entry for entry in listed if order.key(entry) is None]
    ordered = sorted(known, key=lambda pair: pair[0], reverse=order.best_first != reverse)
    return [entry for _, entry in ordered] + unknown


def check_pictures(pictures: dict[str, Path | None], *, overwrite: bool) -> None:
    """UsageError or EnvironmentFault now, before any work, for a picture that could not be written."""
    wanted = {flag: path for flag, path in pictures.items() if path is not None}
    for flag, path in wanted.items():
        if path.suffix.lower() not in PICTURES:
            raise UsageError(f"{flag} {path} should end in .png, .svg or .pdf", f"for example {flag} chart.png", path=flag)
        if path.is_dir():
            raise UsageError(f"{flag} {path} is a folder", f"name a file in it: {flag} {path / 'chart.png'}", path=flag)
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists", f"use --overwrite, or another name for {flag}", path=str(path))
        if not path.parent.is_dir():
            raise EnvironmentFault(f"{flag} {path}: there is no folder {path.parent}", f"mkdir -p {path.parent}", path=str(path))
        if not os.access(path.parent, os.W_OK):
            raise EnvironmentFault(f"cannot write in {path.parent.resolve()}", f"choose another folder for {flag}", path=str(path))
    if len({path.resolve() for path in wanted.values()}) < len(wanted):
        raise UsageError(f"{' and '.join(wanted)} name the same file", "give each its own", path=next(reversed(wanted)))


def draw(plot: Path | None, plot_depth: Path | None, listed: list[Listed]) -> None:
    """The charts that were asked for."""
    if plot is None and plot_depth is None:
        return
    from cnncli.reports.charts import draw_cost, draw_depth, points_of

    if plot is not None:
        points = points_of(listed)
        if not points:
            raise UsageError("--plot shows accuracy on ImageNet, and none of these nets has a published one", "try --dataset imagenet")
        draw_cost(plot, points)
    if plot_depth is not None:
        draw_depth(plot_depth)
