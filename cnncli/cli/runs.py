"""`cnn runs`: list the trainings there are, and compare a few."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.cli.models import check_pictures
from cnncli.cli.options import Json, Overwrite
from cnncli.engine.run_folders import RunRecord, find_runs, is_run, natural, read_run
from cnncli.errors import ExitCode, InputError, UsageError, near_miss, printable
from cnncli.reports.runs import accuracy_of, names_of, print_comparison, print_runs
from cnncli.reports.terminal import talk

HOME = Path("runs")
COMPARE = "compare"

# What --sort goes by: the newest and the best first.
ORDERS: dict[str, Callable[[RunRecord], Any]] = {
    "date": lambda run: (-run.changed, natural(run.name)),
    "accuracy": lambda run: (-(accuracy_of(run.best) or -1), natural(run.name)),
    "name": lambda run: natural(run.name),
    "net": lambda run: (natural(run.net), natural(run.name)),
}


def command(
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders, or folders of them (default: runs); or the word compare and two or more runs."),
    ] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Runs with this in their name, net or data; 'resnet*' is a pattern. Several times: any of them."),
    ] = None,
    sort: Annotated[str | None, typer.Option("--sort", help=f"One of {', '.join(ORDERS)}: newest or best first. (default: date)")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With compare: draw the curves over each other, as .png, .svg or .pdf.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """List the runs that `cnn train` made: net, data, state, epochs, best accuracy, at which epoch, time, date.

    `cnn runs compare A B` shows two runs, or more, side by side: the settings that differ, the results, and with -o their curves.
    A and B are folders, or names in runs/. A folder that is called compare is ./compare.

    JSON: [{"name", "folder", "net", "data", "state": "finished", "running" or "stopped", "reason": null or why it ended early,
    "epochs", "planned", "monitor", "accuracy": 0..1, "split": "val" or "train", "epoch", "best": {its figures}, "final":
    {those of the last epoch}, "seconds", "images_per_second", "date"}], null where not known; of compare: {"runs": [...],
    "settings": {name: [a value a run]}}.
    """
    words = folders or []
    if words[:1] == [COMPARE]:
        if filter or sort:
            flag = "--filter" if filter else "--sort"
            raise UsageError(f"{flag} is for the list, not for compare", "leave it away", path=flag)
        return compare(words[1:], out, overwrite=overwrite, as_json=json)
    if out is not None:
        raise UsageError("--out draws the curves of compare", "for example cnn runs compare A B -o compare.png", path="--out")
    if sort is not None and sort not in ORDERS:
        raise UsageError(f"--sort {sort!r} should be one of {', '.join(ORDERS)}", near_miss(sort, list(ORDERS)), path="--sort")
    return list_runs([Path(word) for word in words] or [HOME], filter or [], sort or "date", as_json=json)


def list_runs(places: list[Path], filters: list[str], sort: str, *, as_json: bool) -> int:
    """Print the runs in these places. What cannot be read, and places without runs, are told on standard error."""
    there = [place for place in places if place.is_dir()]
    runs, complaints = find_runs(there)
    for complaint in complaints:
        talk(f"note: {complaint}")
    for place in places:
        if place not in there:
            what = f"{place} is a file" if place.exists() else f"there is no folder {place}"
            talk(f"{what}; `cnn train` makes runs")
    if there and not runs:
        talk(f"no run in {', '.join(map(str, there))}; `cnn train` makes runs")
    chosen = [run for run in runs if not filters or any(passes(run, text) for text in filters)]
    if runs and not chosen:
        texts = " or ".join(repr(text) for text in filters)
        talk(f"none of {len(runs)} run{'' if len(runs) == 1 else 's'} has {texts} in its name, net or data")
    print_runs(sorted(chosen, key=ORDERS[sort]), as_json=as_json)
    return ExitCode.DONE


def passes(run: RunRecord, text: str) -> bool:
    """Whether name, net or data contain the text, or one is matched as a whole by it where it has *, ? or [; case does not count."""
    text = text.lower()
    own = (run.name.lower(), run.net.lower(), run.data.lower())
    return any(fnmatchcase(one, text) for one in own) if set(text) & set("*?[") else any(text in one for one in own)


def compare(words: list[str], out: Path | None, *, overwrite: bool, as_json: bool) -> int:
    """Print these runs side by side, and draw their curves where asked for."""
    if len(words) < 2:
        given = f"only {words[0]}" if words else "none"
        raise UsageError(f"cnn runs compare needs two runs or more, {given} is given", "`cnn runs` lists them", path=COMPARE)
    check_pictures({"--out": out}, overwrite=overwrite)
    runs = [read_run(run_folder(word)) for word in words]
    real = [run.folder.resolve() for run in runs]
    twice = next((word for place, word in enumerate(words) if real[place] in real[:place]), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice", "compare different runs", path=twice)
    for complaint in (complaint for run in runs for complaint in run.complaints):
        talk(f"note: {complaint}")
    if out is not None:
        if not any(run.epochs for run in runs):
            raise InputError("none of these runs has finished an epoch: there are no curves", "leave out --out", path=str(out))
        from cnncli.reports.curves import draw_comparison

        draw_comparison(out, [(printable(name), run.epochs) for name, run in zip(names_of(runs), runs, strict=True)])
    print_comparison(runs, as_json=as_json)
    if out is not None:
        talk(f"wrote {out}")
    return ExitCode.DONE


def run_folder(word: str) -> Path:
    """The run folder that a word of compare names: a path, or a name in runs/."""
    for folder in (Path(word), HOME / word):
        if is_run(folder):
            return folder
    if Path(word).is_dir():
        return Path(word)  # reading it says what is wrong with it
    known = [run.name for run in find_runs([HOME])[0]] if HOME.is_dir() else []
    raise InputError(f"there is no run {word}", near_miss(word, known) or "`cnn runs` lists those in runs/", path=word)
