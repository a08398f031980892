"""Trainings beside each other: the list of run folders, and what a few of them differ in, as tables or JSON."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cnncli.engine.events import EpochDone
from cnncli.engine.run_folders import RunRecord, differing
from cnncli.reports.live import duration
from cnncli.reports.terminal import Column, narrowest, print_json, print_result, table, width

NOT_RECORDED = "-"
TRAIN_MARK = " t"
TRAIN_LEGEND = "t: of the training images; there is no validation."


def accuracy_of(row: EpochDone | None) -> float | None:
    """The validation accuracy of an epoch, else that on the training images; None where neither is recorded."""
    if row is None:
        return None
    accuracy = row.train_accuracy if row.val_accuracy is None else row.val_accuracy
    return accuracy if math.isfinite(accuracy) else None


def loss_of(row: EpochDone | None) -> float | None:
    """The loss on the same images."""
    if row is None:
        return None
    loss = row.train_loss if row.val_loss is None else row.val_loss
    return loss if math.isfinite(loss) else None


def speed_of(run: RunRecord) -> float | None:
    """Images per second, the median over the epochs: the first may have compiled, and the last may be short."""
    speeds = [row.images_per_second for row in run.epochs if math.isfinite(row.images_per_second)]
    return statistics.median(speeds) if speeds else None


def run_json(run: RunRecord) -> dict[str, Any]:
    """The documented JSON of a run."""
    return {
        "name": run.name,
        "folder": str(run.folder),
        "net": run.net,
        "data": run.data,
        "state": run.state,
        "reason": run.reason or None,
        "epochs": len(run.epochs),
        "planned": run.planned,
        "monitor": run.monitor,
        "accuracy": accuracy_of(run.best),
        "split": None if run.best is None else "train" if run.best.val_accuracy is None else "val",
        "epoch": run.best.epoch if run.best else None,
        "best": _row_json(run.best),
        "final": _row_json(run.epochs[-1] if run.epochs else None),
        "seconds": run.seconds,
        "images_per_second": speed_of(run),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(run.changed)),
    }


def _row_json(row: EpochDone | None) -> dict[str, Any] | None:
    return None if row is None else {key: value for key, value in asdict(row).items() if value is not None and key != "best"}


def print_runs(runs: Sequence[RunRecord], *, as_json: bool) -> None:
    """The list on standard output; nothing for none, and an empty list as JSON."""
    if as_json:
        print_json([run_json(run) for run in runs])
    elif runs:
        from rich.console import Group
        from rich.text import Text

        found = table(*_that_fits(runs))
        marked = any(run.best is not None and run.best.val_accuracy is None for run in runs)
        print_result(Group(found, Text("\n" + TRAIN_LEGEND, style="dim")) if marked else found)


def _that_fits(runs: Sequence[RunRecord]) -> tuple[list[Column], list[list[str]]]:
    """The table with all there is, else the first that fits of ever smaller ones: nets in notation and names broken, columns left out."""
    choices = [
        _table(runs, clock=True),
        _table(runs),
        _table(runs, breakable=("net",)),
        _table(runs, without=("time",)),
        _table(runs, without=("time", "at")),
        _table(runs, breakable=("net",), without=("time", "at")),
        _table(runs, breakable=("net", "name"), without=("time", "at")),
    ]
    return next((choice for choice in choices if narrowest(*choice) <= width()), choices[0])


def _table(
    runs: Sequence[RunRecord], *, clock: bool = False, breakable: Sequence[str] = (), without: Sequence[str] = ()
) -> tuple[list[Column], list[list[str]]]:
    best = [run.best for run in runs]
    whole = {
        Column("name", path="name" in breakable): names_of(runs),
        Column("net", path="net" in breakable): [run.net for run in runs],
        Column("data"): [run.data if clock else _end_of(run.data) for run in runs],
        Column("state"): [run.state for run in runs],
        Column("epochs", number=True): [_epochs_cell(run) for run in runs],
        Column("accuracy"): [_accuracy_cell(row) for row in best],
        Column("at", number=True): [str(row.epoch) if row else NOT_RECORDED for row in best],
        Column("time", number=True): [duration(run.seconds) for run in runs],
        Column("date"): [time.strftime("%Y-%m-%d %H:%M" if clock else "%Y-%m-%d", time.localtime(run.changed)) for run in runs],
    }
    kept = {column: cells for column, cells in whole.items() if column.title not in without}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def _end_of(source: str) -> str:
    """The last part of a path, which tells sources apart; a short name is left as it is."""
    start, slash, end = source.rstrip("/").rpartition("/")
    return f".../{end}" if slash and len(start) > len("...") else source


def _epochs_cell(run: RunRecord) -> str:
    return f"{len(run.epochs)}/{run.planned}" if run.planned else str(len(run.epochs))


def names_of(runs: Sequence[RunRecord]) -> list[str]:
    """The names of the folders; their whole paths where two have the same name."""
    counts = Counter(run.name for run in runs)
    return [run.name if counts[run.name] == 1 else str(run.folder) for run in runs]


def _accuracy_cell(best: EpochDone | None) -> str:
    """Right under the title, with a mark behind it where it is that of the training images."""
    text = f"{_percent(accuracy_of(best)):>{len('accuracy')}}"
    return text + (TRAIN_MARK if best is not None and best.val_accuracy is None and accuracy_of(best) is not None else "")


def comparison_json(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """{"runs": as in `run_json`, "settings": {name: a value a run, null where it has none}}: the settings that differ."""
    return {"runs": [run_json(run) for run in runs], "settings": {name: list(values) for name, values in differing(runs).items()}}


def print_comparison(runs: Sequence[RunRecord], *, as_json: bool) -> None:
    """What differs in the settings, and all results, a column a run, on standard output."""
    if as_json:
        print_json(_plain(comparison_json(runs)))
        return
    from rich.console import Group
    from rich.text import Text

    names = names_of(runs)
    settings = [[name.replace("_", "-"), *map(_setting, values)] for name, values in differing(runs).items()]
    parts: list[Any] = []
    if settings:
        parts.append(table([Column("setting"), *(Column(name, number=True) for name in names)], settings))
    else:
        parts.append(Text("all settings are the same"))
    parts += [Text(), table([Column("result"), *(Column(name, number=True) for name in names)], _results(runs))]
    if any(run.best is not None and run.best.val_accuracy is None for run in runs):
        parts.append(Text("\naccuracy and loss are those of the training images where there is no validation", style="dim"))
    print_result(Group(*parts))


def _results(runs: Sequence[RunRecord]) -> list[list[str]]:
    last = [run.epochs[-1] if run.epochs else None for run in runs]
    rows = [
        ["state", *(run.state for run in runs)],
        ["epochs", *map(_epochs_cell, runs)],
        ["best accuracy", *(_percent(accuracy_of(run.best)) for run in runs)],
        ["at epoch", *(str(run.best.epoch) if run.best else NOT_RECORDED for run in runs)],
        ["loss there", *(_decimal(loss_of(run.best)) for run in runs)],
        ["final accuracy", *(_percent(accuracy_of(row)) for row in last)],
        ["final loss", *(_decimal(loss_of(row)) for row in last)],
        ["final training loss", *(_decimal(row.train_loss if row else None) for row in last)],
        ["time", *(duration(run.seconds) for run in runs)],
        ["images/s", *(NOT_RECORDED if (speed := speed_of(run)) is None else f"{speed:,.0f}" for run in runs)],
    ]
    if any(run.reason for run in runs):
        rows.insert(1, ["ended early", *(run.reason or NOT_RECORDED for run in runs)])
    return rows


def _setting(value: Any) -> str:
    if value is None:
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return NOT_RECORDED if value is None else f"{value:.2%}"


def _decimal(value: float | None) -> str:
    return NOT_RECORDED if value is None or not math.isfinite(value) else f"{value:.4f}"


def _plain(value: Any) -> Any:
    """Values of TOML that JSON lacks, dates and times, as their text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
