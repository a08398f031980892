"""Several models judged on the same images, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.errors import printable
from cnncli.reports.confusion import label
from cnncli.reports.evaluation import GUESSES, VIEWED, images, interval_json, numbers, percent, percents, print_text
from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture
from cnncli.reports.terminal import Column, narrowest, print_result, table, width, write_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnncli.engine.metrics import Judgement
    from cnncli.engine.paired import Paired

DOTS_PER_INCH = 200
COLOUR = "#004488"  # Paul Tol's high-contrast blue


class JudgedModel(NamedTuple):
    """A model, what it is worth, and how it was computed."""

    title: str
    judgement: Judgement
    how: str


class Comparison(NamedTuple):
    """A model against the first one. p: of `paired`, after Holm's correction for the number of comparisons."""

    first: str
    title: str
    paired: Paired
    p: float


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The documented JSON. difference: of top-1, the model's less the first's; p_holm: p after Holm's correction."""
    paired = comparison.paired
    return {
        "first": comparison.first,
        "model": comparison.title,
        "difference": paired.difference,
        "interval": interval_json(paired.interval),
        "only_first": paired.only_a,
        "only_model": paired.only_b,
        "p": paired.p,
        "p_holm": comparison.p,
    }


def print_models(models: Sequence[JudgedModel], comparisons: Sequence[Comparison], *, data: str, split: str, tta: str) -> None:
    """A line a model with its intervals, as far as there is room for them; then a line a comparison with the first."""
    judgement = models[0].judgement
    write_result(f"{len(models)} models on {printable(data)}, split {split}{VIEWED.get(tta, '')}: {images(judgement.count)}\n\n")
    _print_totals(models)
    tests = "exact McNemar test" + (f"s, p after Holm's correction for {len(comparisons)}" if len(comparisons) > 1 else "")
    print_text(f"\ntop-1 against {printable(models[0].title)}, and images that only one of both has right; {tests}")
    columns = (
        *(Column("model"), Column("change", number=True), Column("95 % interval", number=True)),
        *(Column("only it", number=True), Column("only first", number=True), Column("p", number=True)),
    )
    rows = []
    for c in comparisons:
        found = c.paired
        between = f"{100 * found.interval.low:+.1f} to {found.interval.high:+.1%}"
        difference = f"{found.difference:+.2%}"
        rows.append((c.title, difference, between, f"{found.only_b:,}", f"{found.only_a:,}", f"{c.p:.3g}"))
    print_result(table(columns, rows))
    ways: dict[str, list[str]] = {}
    for model in models:
        ways.setdefault(model.how, []).append(printable(model.title))
    print_text("")
    for how, titles in ways.items():
        print_text(f"computed in {printable(how)}" + (f": {', '.join(titles)}" if len(ways) > 1 else ""))


def _print_totals(models: Sequence[JudgedModel]) -> None:
    interval = "95 % interval"
    facts: list[tuple[Column, list[str]]] = [
        (Column("model"), [m.title for m in models]),
        (Column("top-1", number=True), [percent(m.judgement.top1) for m in models]),
        (Column(interval, number=True), [percents(m.judgement.top1_interval) for m in models]),
        (Column("top-5", number=True), [percent(m.judgement.top5) for m in models]),
        (Column(interval, number=True), [percents(m.judgement.top5_interval) for m in models]),
        (Column("loss", number=True), [f"{m.judgement.loss:.4f}" for m in models]),
        (Column(interval, number=True), [numbers(m.judgement.loss_interval) for m in models]),
        (Column("ECE", number=True), [percent(m.judgement.calibration.ece) for m in models]),
    ]
    kept = [place for place in range(len(facts)) if place not in (3, 4) or len(models[0].judgement.per_class) > GUESSES]
    for spared in (None, 4, 6, 2):  # intervals, in the order in which they can be spared
        kept = [place for place in kept if place != spared]
        columns, cells = [facts[place][0] for place in kept], [facts[place][1] for place in kept]
        rows = list(zip(*cells, strict=True))
        if narrowest(columns, rows) <= width():
            break
    print_result(table(columns, rows))


def draw_models(path: Path, models: Sequence[JudgedModel], title: str) -> None:
    """Top-1, loss and calibration error of each model, a line a model, with 95 % intervals, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(8.4, 1.3 + 0.32 * len(models)), dpi=DOTS_PER_INCH)
    top1, loss, ece = figure.subplots(1, 3, sharey=True, width_ratios=(1.2, 1.2, 0.8))
    found = [m.judgement for m in models]
    _dots(top1, [(j.top1, j.top1_interval.low, j.top1_interval.high) for j in found])
    _dots(loss, [(j.loss, j.loss_interval.low, j.loss_interval.high) for j in found])
    _dots(ece, [(j.calibration.ece, j.calibration.ece, j.calibration.ece) for j in found])
    for axes, name in ((top1, "top-1"), (loss, "loss, nats"), (ece, "calibration error (ECE)")):
        axes.set_xlabel(name)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
        if axes is not loss:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    ece.set_xlim(0, 1.15 * max((j.calibration.ece for j in found if isfinite(j.calibration.ece)), default=1) or 1)
    top1.set_yticks(range(len(models)), [label(m.title, 36) for m in models])
    top1.set_ylim(len(models) - 0.5, -0.5)
    figure.suptitle(fitted(title, figure.get_figwidth() - 0.3, 10), fontsize=10)
    figure.set_layout_engine("constrained", wspace=0.06)
    write_picture(path, figure)


def _dots(axes: Axes, values: Sequence[tuple[float, float, float]]) -> None:
    """A dot a model with a line from low to high; what is not finite is left out."""
    for place, (value, low, high) in enumerate(values):
        if isfinite(low) and isfinite(high):
            axes.plot((low, high), (place, place), color=COLOUR, linewidth=1.6)
        if isfinite(value):
            axes.plot([value], [place], marker="o", color=COLOUR, markersize=5)
