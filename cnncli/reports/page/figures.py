"""The figures that answer the mouse, as plotly describes them: dictionaries with `data` and `layout`.

They are written as data rather than built with plotly's classes, whose import would take a second of every report; the tests hand them to
these classes, which refuse what plotly does not know. Colours are those of the light page. Two things are left to the page's script, which
knows them better: the size, from `layout.meta` (aspect: height to width; least and most pixels of height; buttons: whether one can
zoom), and the hover texts of the confusion matrix, which are made from the counts and would be most of the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cnncli.engine.events import EpochDone
from cnncli.engine.metrics import Judgement
from cnncli.errors import printable
from cnncli.reports.curves import LINEAR_RANGE
from cnncli.reports.page.palette import light

Figure = dict[str, Any]

MOST_CLASSES = 250  # cells a side: with more, a cell is no pixel any more, and a page of 10 MB no longer holds their numbers
MOST_NUMBERS = 20  # classes up to which the counts stand in the cells
LONGEST_LABEL = 18
CLEAR = "rgba(0,0,0,0)"  # the page shines through, light or dark


def confusion(judgement: Judgement) -> Figure:
    """The confusion matrix: colour is the share of the true class; cells without an image stay empty, so that a single mistake is seen.

    Of more than MOST_CLASSES classes, those that were confused most are shown; `shown_classes` says which.
    """
    shown = shown_classes(judgement)
    names = [printable(judgement.per_class[i].name) for i in shown]
    counts = [[judgement.confusion[i][j] for j in shown] for i in shown]
    totals = [sum(judgement.confusion[i]) for i in shown]
    shares = [[round(n / total, 4) if n else None for n in row] for row, total in zip(counts, totals, strict=True)]
    labels = short_labels(names)
    # Steeper at its foot where no numbers stand in the cells: of many classes one takes a hundredth of another's images, and four
    # hundredths are news.
    foot = [[0.08, light("few")]] if len(shown) > MOST_NUMBERS else []
    heatmap: dict[str, Any] = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, light("least")], *foot, [0.5, light("middle")], [1, light("most")]],
        "colorbar": {"title": {"text": "share of the true class", "side": "right"}, "tickformat": ".0%", "thickness": 12},
        "hovertemplate": "%{hovertext}<extra></extra>",
        "xgap": 1 if len(shown) <= MOST_NUMBERS else 0,
        "ygap": 1 if len(shown) <= MOST_NUMBERS else 0,
    }
    if len(shown) <= MOST_NUMBERS:
        heatmap |= {"text": [[str(n) if n else "" for n in row] for row in counts], "texttemplate": "%{text}"}
    layout = _layout(aspect=0.92, least=400, most=720, buttons=True) | {
        "xaxis": _axis("predicted class", type="category", showgrid=False, side="bottom"),
        "yaxis": _axis("true class", type="category", showgrid=False, autorange="reversed"),
    }
    layout["meta"] |= {"names": [_plain(name) for name in names], "counts": counts, "totals": totals}
    return {"data": [heatmap], "layout": layout}


def shown_classes(judgement: Judgement) -> tuple[int, ...]:
    """The classes in the confusion matrix, by number: all, or of too many the MOST_CLASSES with most mistakes, as true or predicted."""
    matrix = judgement.confusion
    if len(matrix) <= MOST_CLASSES:
        return tuple(range(len(matrix)))
    right = [row[i] for i, row in enumerate(matrix)]
    given, taken = [sum(row) for row in matrix], [sum(column) for column in zip(*matrix, strict=True)]
    worst = sorted(range(len(matrix)), key=lambda i: 2 * right[i] - given[i] - taken[i])
    return tuple(sorted(worst[:MOST_CLASSES]))


def calibration(judgement: Judgement) -> Figure:
    """The reliability diagram: accuracy over confidence in bins, the diagonal of a model that knows what it knows, and the bins' images."""
    bins = [b for b in judgement.calibration.bins if b.count]
    middles, widths = [(b.low + b.high) / 2 for b in bins], [0.94 * (b.high - b.low) for b in bins]
    told = [
        f"confidence {b.low:.0%} to {b.high:.0%}: {b.count:,} images<br>mean confidence {b.confidence:.1%}<br>accuracy {b.accuracy:.1%}"
        for b in bins
    ]
    bars: dict[str, Any] = {"type": "bar", "x": middles, "width": widths, "hovertext": told, "hoverinfo": "text", "showlegend": False}
    data = [
        bars | {"y": [b.accuracy for b in bins], "marker": {"color": light("training")}, "name": "accuracy"},
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": light("muted"), "dash": "dash", "width": 1.5},
            "name": "perfectly calibrated",
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [b.confidence for b in bins],
            "y": [b.accuracy for b in bins],
            "marker": {"color": light("validation"), "size": 8, "line": {"color": light("paper"), "width": 1}},
            "name": "mean confidence of the bin",
            "hoverinfo": "skip",
        },
        bars | {"y": [b.count for b in bins], "marker": {"color": light("rate")}, "yaxis": "y2", "name": "images"},
    ]
    layout = _layout(aspect=0.8, least=360, most=480) | {
        "xaxis": _axis("confidence", range=[0, 1], tickformat=".0%", anchor="y2"),
        "yaxis": _axis("accuracy", range=[0, 1.02], tickformat=".0%", domain=[0.3, 1]),
        "yaxis2": _axis("images", domain=[0, 0.2], nticks=3, rangemode="tozero"),
        "legend": _legend(),
    }
    return {"data": data, "layout": layout}


def curves(epochs: Sequence[EpochDone]) -> list[tuple[str, Figure]]:
    """(what it shows, figure) for loss, accuracy and learning rate over the epochs; what was not recorded has no figure."""
    best = next((e for e in reversed(epochs) if e.best), None)
    made = []
    for title, fields in (
        ("cross-entropy loss", (("training", "train_loss"), ("validation", "val_loss"))),
        ("accuracy", (("training", "train_accuracy"), ("validation", "val_accuracy"))),
        ("learning rate", (("rate", "lr"),)),
    ):
        lines = [_line(epochs, name, field) for name, field in fields]
        known = [line for line in lines if any(value is not None for value in line["y"])]
        if known:
            made.append((title, {"data": known, "layout": _curve_layout(title, known, best)}))
    return made


def _line(epochs: Sequence[EpochDone], name: str, field: str) -> dict[str, Any]:
    """One figure over the epochs, without those that have none; what is not finite breaks the line."""
    pairs = [(e.epoch, value) for e in epochs if (value := getattr(e, field)) is not None]
    finite = [value if math.isfinite(value) else None for _, value in pairs]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(pairs) <= 30 or len(pairs) < len(epochs) else "lines",
        "x": [epoch for epoch, _ in pairs],
        "y": finite,
        "name": "learning rate" if name == "rate" else name,
        "line": {"color": light(name), "width": 2},
        "marker": {"size": 5},
    }


def _curve_layout(title: str, lines: Sequence[dict[str, Any]], best: EpochDone | None) -> dict[str, Any]:
    values = [value for line in lines for value in line["y"] if value is not None]
    scale: dict[str, Any] = {"rangemode": "tozero"}
    if title == "accuracy":
        scale = {"tickformat": ".0%"}
    elif title == "cross-entropy loss" and min(values) > 0 and max(values) > LINEAR_RANGE * min(values):
        scale = {"type": "log"}
    longest = max(len(line["x"]) for line in lines)
    layout = _layout(aspect=0.72, least=260, most=340) | {
        "xaxis": _axis("epoch", tickformat="d", **({"dtick": 1} if longest <= 8 else {"nticks": 8})),
        "yaxis": _axis(title, **scale),
        "showlegend": True,  # of a single line too, so that the figures side by side are alike
        "legend": _legend(),
        "hovermode": "x unified",
    }
    if best is not None:
        rule = {"color": light("muted"), "width": 1, "dash": "dot"}
        layout["shapes"] = [{"type": "line", "x0": best.epoch, "x1": best.epoch, "y0": 0, "y1": 1, "yref": "paper", "line": rule}]
    return layout


def _layout(*, aspect: float, least: int, most: int, buttons: bool = False) -> dict[str, Any]:
    return {
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"color": light("ink"), "size": 12, "family": "system-ui, sans-serif"},
        "margin": {"l": 8, "r": 8, "t": 32 if buttons else 8, "b": 8},
        "hoverlabel": {"bgcolor": light("panel"), "bordercolor": light("line"), "font": {"color": light("ink")}, "align": "left"},
        "modebar": {"bgcolor": CLEAR, "color": light("muted"), "activecolor": light("ink")},
        "dragmode": False,  # else a finger on a phone would zoom where it wants to scroll; the buttons turn it on
        "meta": {"aspect": aspect, "least": least, "most": most, "buttons": buttons},
    }


def _axis(title: str, **more: Any) -> dict[str, Any]:
    look = {"automargin": True, "gridcolor": light("line"), "linecolor": light("line"), "tickcolor": light("line"), "zeroline": False}
    return {"title": {"text": title, "standoff": 8}, "ticks": "outside", "ticklen": 4, **look, **more}


def _legend() -> dict[str, Any]:
    return {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "bgcolor": CLEAR}


def short_labels(names: Sequence[str]) -> list[str]:
    """Names for an axis: long ones cut in the middle, unless two would then read the same (plotly would take them for one)."""
    short = [name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 8]}…{name[-7:]}" for name in names]
    distinct = short if len(set(short)) == len(short) else names
    return [_plain(name) for name in distinct]


def _plain(text: str) -> str:
    """The text as it is: plotly reads labels as a small HTML, so a class named <b> would be bold print."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
