"""A judgement as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnncli.errors import printable
from cnncli.reports.confusion import confused_pairs
from cnncli.reports.slices import print_slices, slices_json
from cnncli.reports.terminal import Column, print_result, table, width, write_result

if TYPE_CHECKING:
    from cnncli.engine.calibration import Calibration
    from cnncli.engine.intervals import Interval
    from cnncli.engine.metrics import Averages, Judgement
    from cnncli.reports.slices import Slices

MOST_CONFUSED = 5
MOST_CLASSES = 30  # in the table; of more, the worst are shown
WORST = 10
GUESSES = 5  # of top-5; with no more classes it is always 100 %
VIEWED = {
    "flips": ", averaged with mirror images",
    "shifts": ", averaged over mirror images and shifts by a pixel",
    "ten-crop": ", averaged over ten crops",
}


def evaluation_json(
    judgement: Judgement,
    *,
    model: str,
    data: str,
    split: str,
    tta: str = "none",
    how: str = "",
    left_out: Sequence[str] = (),
    slices: Slices | None = None,
) -> dict[str, Any]:
    """The documented JSON of `cnn eval`; rates in 0..1. tta: the views that scores were averaged over."""
    made: dict[str, Any] = {
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
        "top1_interval": interval_json(judgement.top1_interval),
        "top5_interval": interval_json(judgement.top5_interval),
        "loss_interval": interval_json(judgement.loss_interval),
        "balanced_accuracy": judgement.balanced_accuracy,
        "macro": _averages_json(judgement.macro),
        "weighted": _averages_json(judgement.weighted),
        "calibration": _calibration_json(judgement.calibration),
        "how": how,
        "left_out": list(left_out),
    }
    if slices:
        made["slices"] = slices_json(slices)
    return made


def interval_json(interval: Interval) -> list[float]:
    """[low, high]."""
    return [interval.low, interval.high]


def _averages_json(averages: Averages) -> dict[str, float]:
    return {"precision": averages.precision, "recall": averages.recall, "f1": averages.f1}


def _calibration_json(calibration: Calibration) -> dict[str, Any]:
    names = ("ece", "mce", "brier", "temperature", "scaled_ece", "scaled_loss")
    bins = [{name: getattr(b, name) for name in ("low", "high", "count", "confidence", "accuracy")} for b in calibration.bins]
    return {name: getattr(calibration, name) for name in names} | {"bins": bins}


def print_evaluation(
    judgement: Judgement,
    *,
    model: str,
    data: str,
    split: str,
    tta: str = "none",
    how: str = "",
    slices: Slices | None = None,
    all_classes: str = "--json",
) -> None:
    """Totals with their intervals, the table per class, the confusion matrix where it fits, the pairs confused most, and calibration.

    all_classes: where the classes are that the table has no room for.
    """
    write_result(f"{printable(model)} on {printable(data)}, split {split}{VIEWED.get(tta, '')}: {images(judgement.count)}\n\n")
    print_result(table((Column("measure"), Column("value", number=True), Column("95 % interval", number=True)), _totals(judgement)))
    print_text("")
    _print_classes(judgement, all_classes)
    _print_confusion(judgement)
    print_slices(slices or {})
    print_text(f"\n{_calibration_lines(judgement)}")
    if how:
        print_text(f"computed in {printable(how)}")


def print_text(text: str) -> None:
    """Lines of text, wrapped where the terminal is narrower."""
    from rich.text import Text

    print_result(Text(text, overflow="fold"))


def images(count: int) -> str:
    """`1 image`, `1,200 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def percent(rate: float) -> str:
    """`98.33%`."""
    return f"{rate:.2%}"


def percents(interval: Interval) -> str:
    """`96.40 to 99.23%`."""
    return f"{100 * interval.low:.2f} to {interval.high:.2%}"


def numbers(interval: Interval) -> str:
    """`0.0312 to 0.0830`."""
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _totals(judgement: Judgement) -> list[tuple[str, str, str]]:
    top5 = [("top-5", percent(judgement.top5), percents(judgement.top5_interval))]
    return [
        ("top-1", percent(judgement.top1), percents(judgement.top1_interval)),
        *(top5 if len(judgement.per_class) > GUESSES else []),
        ("loss", f"{judgement.loss:.4f}", numbers(judgement.loss_interval)),
        ("balanced accuracy", percent(judgement.balanced_accuracy), ""),
    ]


def _print_classes(judgement: Judgement, all_classes: str) -> None:
    """A line a class, or a line each of the worst, and the means over all."""
    columns = (
        *(Column("class"), Column("precision", number=True), Column("recall", number=True)),
        *(Column("F1", number=True), Column("images", number=True)),
    )
    shown, classes = judgement.per_class, len(judgement.per_class)
    if classes > MOST_CLASSES:
        shown = tuple(sorted((c for c in shown if c.support), key=lambda c: (c.f1, -c.support))[:WORST])
        print_text(f"the {len(shown)} of {classes:,} classes with the lowest F1; all are in {printable(all_classes)}")
    rows = [(c.name, *_rates(c), f"{c.support:,}") for c in shown]
    rows += [(f"{name} mean", *_rates(found), f"{judgement.count:,}") for name, found in _averages(judgement)]
    print_result(table(columns, rows))


def _averages(judgement: Judgement) -> list[tuple[str, Averages]]:
    return [("macro", judgement.macro), ("weighted", judgement.weighted)]


def _rates(found: Any) -> tuple[str, str, str]:
    return f"{found.precision:.1%}", f"{found.recall:.1%}", f"{found.f1:.1%}"


def _print_confusion(judgement: Judgement) -> None:
    from rich.cells import cell_len

    names = [printable(c.name) for c in judgement.per_class]
    cells = [(name, *(f"{n:,}" if n else "." for n in row)) for name, row in zip(names, judgement.confusion, strict=True)]
    needed = max(map(cell_len, names)) + sum(2 + max(cell_len(name), *(len(row[i + 1]) for row in cells)) for i, name in enumerate(names))
    if needed <= width() and len(names) <= MOST_CLASSES:
        print_text("\nconfusion: rows are the true class, columns the predicted one")
        print_result(table((Column(""), *(Column(name, number=True) for name in names)), cells))
    pairs = confused_pairs(judgement, MOST_CONFUSED)
    if pairs:
        print_text("\nmost confused")
        columns = (Column("true"), Column("taken for"), Column("images", number=True), Column("of the class", number=True))
        print_result(table(columns, [(pair.true, pair.predicted, f"{pair.images:,}", f"{pair.share:.1%}") for pair in pairs]))


def _calibration_lines(judgement: Judgement) -> str:
    """In two lines, so that it fits 80 columns."""
    found = judgement.calibration
    return (
        f"calibration: ECE {found.ece:.2%}, largest gap {found.mce:.1%}, Brier score {found.brier:.4f}\n"
        f"temperature {found.temperature:.3g}, on images it is not fitted to: ECE {found.scaled_ece:.2%}, loss {found.scaled_loss:.4f}"
    )
