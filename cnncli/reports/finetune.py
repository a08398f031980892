"""A finetuning: its plan, told before anything is trained, and what it is compared with, as tables and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.errors import printable
from cnncli.reports.evaluation import images, interval_json, percent, percents, print_text
from cnncli.reports.live import duration
from cnncli.reports.terminal import Column, console, narrowest, print_json, print_result, table, talk, width

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cnncli.models.head import Head
    from cnncli.transfer.comparison import Comparison, Outcome
    from cnncli.transfer.plan import Group, Stage

MOST_ROWS = 12  # of a plan's table, and of its stages; more, and those in the middle are told as one
FIRST_ROWS, LAST_ROWS = 4, 7  # of these
SOLVED = "lbfgs"
LEAST_P = 1e-4  # that is told as a number
REFERENCE = "everything"


# ---- the plan ----


class Stretch(NamedTuple):
    """Layers next to each other that are treated alike in every stage.

    learns: for each stage, whether they do. rates: those with which they learn, in the order of the stages; a solver has none.
    """

    first: str
    last: str
    params: int
    learns: tuple[bool, ...]
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """`conv1 to fire5`, or `fc`."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


def print_plan(model: str, weights: str, head: Head, stages: Sequence[Stage], blocks: int, *, views: int | None = 1) -> None:
    """The plan on standard error: the model, its new classifier, the stages, and what learns when and how fast.

    weights: where they are from. blocks: how many there are before the classifier. views: of each image, for which what comes before a
    stage's cut is computed once; None where it is computed anew in every epoch.
    """
    lines = [f"{model}, weights: {weights}", _classifier_line(head), f"{blocks:,} block{'' if blocks == 1 else 's'} before it", ""]
    for line in [*lines, *_shortened([_stage_lines(stage, views) for stage in stages]), ""]:
        indent = "    " if line.startswith(" ") else "  "
        for part in wrap(printable(line), width(), subsequent_indent=indent, break_on_hyphens=False) or [""]:
            talk(part)
    made = _plan_table(stretches(stages))
    # Plain lines of talk, so that a standard error that was closed stops nothing.
    for drawn in console(sys.stderr).render_lines(made, pad=False):
        talk("".join(segment.text for segment in drawn if not segment.control).rstrip(" "))


def _classifier_line(head: Head) -> str:
    before = f"{head.features} -> {head.before}"
    change = f"{before} becomes {head.features} -> {head.after}" if head.before != head.after else f"{before} is drawn anew"
    further = f" with {', '.join(head.others)}" if head.others else ""
    return f"classifier {head.path}: {head.kind} {change}{further}, {_parameters(head.params)}"


def _parameters(count: int) -> str:
    return f"{count:,} parameter{'' if count == 1 else 's'}"


def _shortened(told: Sequence[Sequence[str]]) -> list[str]:
    """The lines of all stages, or, of many stages, of the first and the last ones."""
    if len(told) > MOST_ROWS:
        hidden = len(told) - FIRST_ROWS - LAST_ROWS
        told = [*told[:FIRST_ROWS], [f"... {hidden:,} more stage{'' if hidden == 1 else 's'}"], *told[-LAST_ROWS:]]
    return [line for lines in told for line in lines]


def _stage_lines(stage: Stage, views: int | None) -> list[str]:
    all_learn = f"all {_parameters(stage.trained)} learn"
    learns = f"{_parameters(stage.trained)} learn, {stage.frozen:,} are frozen" if stage.frozen else all_learn
    lines = [f"stage {stage.number + 1}, {stage.name}: {_length(stage)}, {learns}"]
    if stage.cut is not None:
        how = {1: "once an image", None: "anew in every epoch, without gradients"}.get(views, f"once for each of {views} views of an image")
        lines.append(f"  what comes before {stage.cut.path} is computed {how}")
    return lines


def _length(stage: Stage) -> str:
    if stage.solver == SOLVED:
        return "solved by L-BFGS"
    train = stage.train
    if train.minutes is not None:
        return f"{train.minutes:g} minute{'' if train.minutes == 1 else 's'}"
    count, unit = (train.passes, "epoch") if train.steps is None else (train.steps, "step")
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def stretches(stages: Sequence[Stage]) -> list[Stretch]:
    """The layers, cut wherever the groups of any stage are; the groups of each cover the same layers in the same order."""
    starting: dict[int, str] = {}
    ending: dict[int, str] = {}
    spans: list[list[tuple[int, Group]]] = []
    for stage in stages:
        end, own = 0, []
        for group in stage.groups:
            if group.params:
                starting.setdefault(end, group.first)
                end += group.params
                ending.setdefault(end, group.last)
                own.append((end, group))
        spans.append(own)
    found = []
    for low, high in pairwise(sorted({0, *ending})):
        groups = [next(group for end, group in own if end >= high) for own in spans]
        learns = tuple(group.rate is not None for group in groups)
        rates = (group.rate for group, stage in zip(groups, stages, strict=True) if stage.solver != SOLVED)
        found.append(Stretch(starting[low], ending[high], high - low, learns, tuple(rate for rate in rates if rate is not None)))
    return found


def _plan_table(found: Sequence[Stretch]) -> RenderableType:
    columns = (Column("layers", text=True), Column("parameters", number=True), Column("learns"), Column("peak rate", number=True))
    rows = [(part.name, f"{part.params:,}", _when(part.learns), _rate(part.rates)) for part in found]
    if len(rows) > MOST_ROWS:
        hidden = found[FIRST_ROWS:-LAST_ROWS]
        when = {_when(part.learns) for part in hidden}
        params, rates = sum(part.params for part in hidden), [rate for part in hidden for rate in part.rates]
        told = (f"... {len(hidden):,} more", f"{params:,}", when.pop() if len(when) == 1 else "", _rate(rates))
        rows[FIRST_ROWS:-LAST_ROWS] = [told]
    return table(columns, rows)


def _when(learns: Sequence[bool]) -> str:
    """`frozen`, `always`, `from stage 2`, or `in stages 1, 3`."""
    stages = [number for number, does in enumerate(learns, start=1) if does]
    if not stages:
        return "frozen"
    if len(stages) == len(learns):
        return "always" if len(stages) > 1 else "yes"
    if stages == list(range(stages[0], len(learns) + 1)) and len(stages) > 1:
        return f"from stage {stages[0]}"
    return f"in stage{'' if len(stages) == 1 else 's'} {', '.join(map(str, stages))}"


def _rate(rates: Sequence[float]) -> str:
    if not rates:
        return ""
    low, high = f"{min(rates):.3g}", f"{max(rates):.3g}"
    return low if low == high else f"{low} to {high}"


# ---- the comparison ----


def comparison_to_json(comparison: Comparison, picture: Path | None = None) -> dict[str, Any]:
    """The documented JSON: rates in 0..1, seconds, `per_class` null for all images that there are.

    `against_everything` is null for `everything` itself; its difference is the method's accuracy less that of everything, on the same
    images, with its 95 % interval; p of the exact McNemar test, and p_holm after Holm's correction for all comparisons.
    """
    corrected = _corrected(comparison.outcomes)
    return {
        "model": comparison.model,
        "data": comparison.data,
        "folds": comparison.folds,
        "outcomes": [
            {
                "method": o.method,
                "per_class": o.per_class,
                "images": o.images,
                "tested": o.tested,
                "accuracy": o.accuracy,
                "interval": interval_json(o.interval),
                "seconds": o.seconds,
                "trained": o.trained,
                "against_everything": _against_json(o, p),
            }
            for o, p in zip(comparison.outcomes, corrected, strict=True)
        ],
        "picture": None if picture is None else str(picture),
    }


def _against_json(outcome: Outcome, corrected: float | None) -> dict[str, Any] | None:
    found = outcome.against
    if found is None:
        return None
    return {
        "difference": 0.0 - found.difference,
        "interval": [0.0 - found.interval.high, 0.0 - found.interval.low],
        "only_method": found.only_a,
        "only_everything": found.only_b,
        "p": found.p,
        "p_holm": corrected,
    }


def _corrected(outcomes: Sequence[Outcome]) -> list[float | None]:
    """For each outcome the p of its comparison with everything, after Holm's correction for their number."""
    from cnncli.engine.paired import holm

    corrected = iter(holm([o.against.p for o in outcomes if o.against is not None]))
    return [None if o.against is None else next(corrected) for o in outcomes]


def print_comparison(comparison: Comparison, picture: Path | None, *, json: bool) -> None:
    """The comparison on standard output: a line a method and number of images. picture: what was drawn of it, if anything was."""
    if json:
        print_json(comparison_to_json(comparison, picture))
        return
    outcomes = comparison.outcomes
    tested = max((o.tested for o in outcomes), default=0)
    folds = f", {comparison.folds}-fold cross-validation" if comparison.folds > 1 else ""
    print_text(f"finetuning {printable(comparison.model)} on {printable(comparison.data)}: {images(tested)} to test on{folds}")
    everything = max((o.images for o in outcomes if o.per_class is None), default=None)
    if everything is not None:
        all_there_are = "all: " if any(o.per_class is not None for o in outcomes) else ""
        print_text(f"{all_there_are}{images(everything)} to train on{', in the mean over the folds' if folds else ''}")
    print_text("")
    _print_outcomes(outcomes)
    count = sum(o.against is not None for o in outcomes)
    if count:
        holm = f", p after Holm's correction for {count} tests" if count > 1 else ""
        print_text(f"\nless {REFERENCE}: its accuracy on the same images less that of {REFERENCE}; exact McNemar test{holm}")
    if picture is not None:
        talk(f"wrote {picture}")


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """In one table, or in two where the terminal is too narrow for it: what each is worth and takes, and what sets it apart."""
    own = [Column("accuracy", number=True), Column("95 % interval", number=True)]
    paired = [Column(f"less {REFERENCE}", number=True), Column("95 % interval", number=True), Column("p", number=True)]
    effort = [Column("time", number=True), Column("trained", number=True)]
    named = [Column("method")]
    several = len({o.per_class for o in outcomes}) > 1
    if several:
        named.insert(0, Column("images a class", number=True))
    names = [(*(["all" if o.per_class is None else f"{o.per_class:,}"] if several else []), o.method) for o in outcomes]
    values = [(percent(o.accuracy), percents(o.interval)) for o in outcomes]
    against = [_against_cells(o, p) for o, p in zip(outcomes, _corrected(outcomes), strict=True)]
    costs = [(duration(o.seconds), f"{o.trained:,}") for o in outcomes]

    def joined(*parts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        return [sum(cells, ()) for cells in zip(*parts, strict=True)]

    columns, rows = [*named, *own, *paired, *effort], joined(names, values, against, costs)
    if narrowest(columns, rows) <= width():
        print_result(table(columns, rows))
        return
    print_result(table([*named, *own, *effort], joined(names, values, costs)))
    compared = [row for row, o in zip(joined(names, against), outcomes, strict=True) if o.against is not None]
    if compared:
        print_text("")
        print_result(table([*named, *paired], compared))


def _against_cells(outcome: Outcome, corrected: float | None) -> tuple[str, str, str]:
    found = outcome.against
    if found is None or corrected is None:
        return "", "", ""
    between = f"{0.0 - 100 * found.interval.high:+.2f} to {0.0 - found.interval.low:+.2%}"  # 0 - 0 is no -0
    return f"{0.0 - found.difference:+.2%}", between, f"< {LEAST_P:g}" if corrected < LEAST_P else f"{corrected:.3g}"
