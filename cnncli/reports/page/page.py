"""The page of a judged model: one HTML file that asks the network for nothing.

Style, script, plotly and pictures stand in the file itself. Its Content-Security-Policy forbids every request, and every script but those
two whose sha256 it names, so that a class called `<script>` could do nothing even if its name were not escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnncli.engine.metrics import Judgement
from cnncli.reports.confusion import confused_pairs
from cnncli.reports.evaluation import numbers, percents
from cnncli.reports.page import figures
from cnncli.reports.page.data import NetFacts, PageData
from cnncli.reports.page.palette import PALETTE, TWINS
from cnncli.reports.page.pictures import diagram, filter_picture, thumbnail
from cnncli.reports.shape import both, compact, size_text
from cnncli.reports.standalone import plain_lines, plotly_script, policy, script_json, templates

FOLDER = Path(__file__).parent
TEMPLATE = "page.html.jinja"
MOST_PAIRS = 15
MOST_LEFT_OUT = 100
CONFIDENCE = "95%"  # of every interval


def page_html(data: PageData) -> str:
    """The page as HTML, from the facts alone. ImportError where plotly or jinja2 is missing."""
    from markupsafe import Markup

    environment = templates(FOLDER)
    environment.filters |= {"percent": lambda share, digits=2: f"{share:.{digits}%}", "count": "{:,}".format}
    plotly = plotly_script()
    script = plain_lines((FOLDER / "page.js").read_text(encoding="utf-8"))
    return environment.get_template(TEMPLATE).render(
        data=data,
        judgement=data.judgement,
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        palette=PALETTE,
        twins=script_json(TWINS),
        plotly=Markup(plotly),  # noqa: S704 - it is made to stand in pages
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy([script, plotly]),
        headline=_headline(data),
        metrics=_metrics(data.judgement),
        pairs=confused_pairs(data.judgement, MOST_PAIRS),
        plots=_plots(data),
        shown=len(figures.shown_classes(data.judgement)),
        layers=None if data.net is None else _layers(data.net),
        net_facts=None if data.net is None else _net_facts(data.net),
        diagram=None if data.net is None or data.net.net is None else diagram(data.net.net),
        filters=None if data.filters is None else filter_picture(data.filters.weights),
        mistakes=[(shown.mistake, None if shown.picture is None else thumbnail(shown.picture)) for shown in data.mistakes],
        training=_training(data),
        settings=_settings(data),
        most_left_out=MOST_LEFT_OUT,
        confidence=CONFIDENCE,
    )


def _headline(data: PageData) -> list[tuple[str, str]]:
    """What the page is about, as (what, which)."""
    facts = [
        ("data", data.source),
        ("split", f"{data.split}, {data.judgement.count:,} images, {len(data.judgement.per_class):,} classes"),
        ("computed", data.how),
        ("date", data.date),
        ("version", f"cnn {data.version}"),
    ]
    if data.views != "none":
        facts.insert(2, ("averaged over", f"views of each image: {data.views}"))
    return [(what, which) for what, which in facts if which]


def _metrics(judgement: Judgement) -> list[tuple[str, str, str, str]]:
    """(figure, value, interval or nothing, what it means)."""
    j, c = judgement, judgement.calibration
    top5 = min(5, len(j.per_class))
    return [
        ("top-1 accuracy", f"{j.top1:.2%}", percents(j.top1_interval), "images whose first guess is right"),
        (f"top-{top5} accuracy", f"{j.top5:.2%}", percents(j.top5_interval), f"images whose class is among the first {top5} guesses"),
        ("cross-entropy loss", f"{j.loss:.4f}", numbers(j.loss_interval), "mean, in nats"),
        ("balanced accuracy", f"{j.balanced_accuracy:.2%}", "", "mean of the classes' recalls"),
        ("macro F1", f"{j.macro.f1:.2%}", "", f"mean over classes; precision {j.macro.precision:.2%}, recall {j.macro.recall:.2%}"),
        ("weighted F1", f"{j.weighted.f1:.2%}", "", f"by images; precision {j.weighted.precision:.2%}, recall {j.weighted.recall:.2%}"),
        ("calibration error (ECE)", f"{c.ece:.2%}", "", "mean distance of confidence from accuracy, in 15 bins"),
        ("Brier score", f"{c.brier:.4f}", "", "mean squared error of the probabilities"),
    ]


def _plots(data: PageData) -> dict[str, Any]:
    """Every figure as JSON for the page: the curves as a list of (what it shows, JSON)."""
    epochs = data.run.epochs if data.run is not None else ()
    return {
        "confusion": script_json(figures.confusion(data.judgement)),
        "calibration": script_json(figures.calibration(data.judgement)),
        "curves": [(title, script_json(figure)) for title, figure in figures.curves(epochs)],
    }


def _layers(net: NetFacts) -> list[tuple[str, str, str, int, int, str]]:
    """(layer, operation, output, parameters, MACs, receptive field) a row."""
    return [(r.name, r.operation, size_text(r.output), r.params, r.macs, both(r.receptive_field)) for r in net.rows]


def _net_facts(net: NetFacts) -> list[tuple[str, str]]:
    sums = net.totals
    return [
        ("input", size_text(net.input)),
        ("parameters", f"{sums.params:,}"),
        ("MACs for one image", f"{sums.macs:,}" if sums.macs < 10**6 else f"{compact(sums.macs)} ({sums.macs:,})"),
        ("depth", f"{sums.depth} layers with weights on the longest path"),
    ]


def _training(data: PageData) -> list[tuple[str, str]]:
    """How the training went, as (what, which); nothing without one."""
    run = data.run
    if run is None or not run.epochs:
        return []
    planned = f" of {run.planned}" if run.planned else ""
    facts = [
        ("run", run.name),
        ("trained on", run.data),
        ("epochs", f"{run.epochs[-1].epoch}{planned}"),
        ("state", run.state + (f": {run.reason}" if run.reason else "")),
    ]
    if run.best is not None:
        reached = "" if run.best.val_accuracy is None else f", validation accuracy {run.best.val_accuracy:.2%}"
        facts.append(("best epoch", f"{run.best.epoch}{reached}"))
    return facts


def _settings(data: PageData) -> Sequence[str]:
    """config.toml, line by line."""
    if data.run is None:
        return []
    import tomli_w

    return tomli_w.dumps(data.run.settings).splitlines()
