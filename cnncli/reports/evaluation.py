"""A judgement as tables, as JSON and as a picture of the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnncli.engine.metrics import Judgement
from cnncli.errors import printable
from cnncli.reports.pictures import write_picture
from cnncli.reports.terminal import Column, print_result, table, width, write_result

MOST_CONFUSED = 5
VIEWED = {"flips": ", averaged with mirror images", "shifts": ", averaged over mirror images and shifts by a pixel"}


def evaluation_json(judgement: Judgement, *, model: str, data: str, split: str, tta: str = "none") -> dict[str, Any]:
    """The documented JSON of `cnn eval`; rates in 0..1. tta: the views that scores were averaged over."""
    return {
        "model": model,
        "data": data,
        "split": split,
        "tta": tta,
        "count": judgement.count,
        "top1": judgement.top1,
        "top5": judgement.top5,
        "loss": judgement.loss,
        "per_class": [
            {"class": c.name, "precision": c.precision, "recall": c.recall, "f1": c.f1, "support": c.support} for c in judgement.per_class
        ],
        "confusion": [list(row) for row in judgement.confusion],
    }


def print_evaluation(judgement: Judgement, *, model: str, data: str, split: str, tta: str = "none") -> None:
    """Totals, the table per class, and the confusion matrix (or, where it is too wide, the pairs confused most)."""
    from rich.cells import cell_len

    write_result(
        f"{printable(model)} on {printable(data)}, split {split}{VIEWED.get(tta, '')}: {judgement.count:,} images\n"
        f"top-1 {judgement.top1:.2%}   top-5 {judgement.top5:.2%}   loss {judgement.loss:.4f}\n\n"
    )
    columns = (
        *(Column("class"), Column("precision", number=True), Column("recall", number=True)),
        *(Column("F1", number=True), Column("images", number=True)),
    )
    rows = [(c.name, f"{c.precision:.1%}", f"{c.recall:.1%}", f"{c.f1:.1%}", f"{c.support:,}") for c in judgement.per_class]
    print_result(table(columns, rows))
    names = [printable(c.name) for c in judgement.per_class]
    cells = [(name, *(f"{n:,}" if n else "." for n in row)) for name, row in zip(names, judgement.confusion, strict=True)]
    needed = max(map(cell_len, names)) + sum(2 + max(cell_len(name), *(len(row[i + 1]) for row in cells)) for i, name in enumerate(names))
    if needed <= width():
        write_result("\nconfusion: rows are the true class, columns the predicted one\n")
        print_result(table((Column(""), *(Column(name, number=True) for name in names)), cells))
        return
    pairs = confused_pairs(judgement)
    if pairs:
        write_result("\nmost confused\n")
        print_result(table((Column("true"), Column("taken for"), Column("images", number=True)), [(a, b, f"{n:,}") for a, b, n in pairs]))


def confused_pairs(judgement: Judgement) -> list[tuple[str, str, int]]:
    """(true class, class it was taken for, images), the most frequent first."""
    names = [c.name for c in judgement.per_class]
    pairs = [(names[i], names[j], n) for i, row in enumerate(judgement.confusion) for j, n in enumerate(row) if i != j and n]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_CONFUSED]


def draw_confusion(path: Path, judgement: Judgement, title: str) -> None:
    """The confusion matrix as a PNG: colour is the share of the true class, numbers are images (up to 25 classes)."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    names = [c.name for c in judgement.per_class]
    counts = np.array(judgement.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    count = len(names)
    side = min(3.2 + 0.38 * count, 24)
    figure = Figure(figsize=(side + 1.2, side), dpi=150 if count <= 60 else 200, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 25 else max(2.5, 9 * 25 / count)
    ticks = range(count)
    axes.set_xticks(ticks, _labels(names), rotation=0 if max(map(len, names)) <= 3 else 90, fontsize=size)
    axes.set_yticks(ticks, _labels(names), fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.tick_params(length=0)
    if count <= 25:
        for i in ticks:
            for j in ticks:
                if counts[i, j]:
                    axes.text(
                        j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.55 else "0.2"
                    )
    figure.colorbar(image, ax=axes, label="share of the true class", format=PercentFormatter(1.0), shrink=0.8)
    write_picture(path, figure)


def _labels(names: Sequence[str]) -> list[str]:
    """Names for the axes: long ones cut in the middle, `$` kept from being read as a formula."""
    short = [name if len(name) <= 24 else f"{name[:12]}...{name[-9:]}" for name in names]
    return [name.replace("$", r"\$") for name in short]
