"""`cnn experiment`: an experiment of the lecture, repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.cli.options import with_settings
from cnncli.cli.train import Job, train
from cnncli.cli.train_settings import Settings, new_settings, resumed_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.reports.terminal import talk

DEPTHS = (20, 32, 44, 56, 110)  # that the zoo has plain and residual nets of


@dataclass(frozen=True)
class Experiment:
    """about: one line. recipe: how all its nets are trained. families: the nets that are compared, by the word before their depth."""

    about: str
    recipe: str
    families: tuple[str, str]


EXPERIMENTS = {
    "plain-vs-residual": Experiment(
        "plain and residual nets of two depths under one recipe: degradation and its cure (He et al. 2015, figure 6)",
        "resnet-cifar",
        ("plain", "resnet"),
    )
}


def epilog() -> str:
    """The list of experiments, for the help."""
    return "Experiments: " + "; ".join(f"{name}: {experiment.about}" for name, experiment in EXPERIMENTS.items())


@with_settings(given=(TrainConfig, OptimConfig, AugmentConfig, DataConfig, ComputeConfig, KeepConfig))
def command(
    given: dict[str, Any],
    name: Annotated[str, typer.Argument(help="The experiment: plain-vs-residual.")],
    depths: Annotated[str, typer.Option("--depths", help="The two depths, of 20, 32, 44, 56, 110.")] = "20,56",
    data: Annotated[str | None, typer.Option("--data", help="The images (default: cifar10).")] = None,
    input: Annotated[str | None, typer.Option("--input", help="Input as channels x height x width (default: 3x32x32).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder of its runs (default: runs/NAME).")] = None,
) -> int:
    """Train the nets of an experiment one after another, and draw what they show.

    The folder gets a run for each net and the figure. Called again, it goes on where it was interrupted. The recipe is the paper's, days on
    a CPU; `cnn experiment plain-vs-residual --epochs 10 --subset 0.2` shows the same in less time.
    """
    if name not in EXPERIMENTS:
        known = list(EXPERIMENTS)
        raise UsageError(f"unknown experiment {name!r}", near_miss(name, known) or f"there is {', '.join(known)}", path=name)
    experiment = EXPERIMENTS[name]
    numbers = _depths(depths)
    folder = out or Path("runs") / name
    nets = [f"{family}{depth}" for depth in numbers for family in experiment.families]
    # Before the first net is trained, what is wrong with the flags is told for all.
    fresh = {net: new_settings(net, data, input, {}, name=experiment.recipe, file=None, given=given) for net in nets}
    for number, net in enumerate(nets, start=1):
        code = _trained(folder / net, fresh[net], given, f"{net}, {number} of {len(nets)}")
        if code not in (ExitCode.DONE, ExitCode.SKIPPED):
            return code
    _tell(folder, numbers, experiment)
    return ExitCode.DONE


def _depths(text: str) -> tuple[int, int]:
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(parts) != 2 or len(numbers) != 2 or numbers[0] >= numbers[1] or not set(numbers) <= set(DEPTHS):
        raise UsageError(f"--depths {text!r} should be two of {', '.join(map(str, DEPTHS))}, the smaller first", path="--depths")
    return numbers[0], numbers[1]


def _trained(folder: Path, fresh: Settings, given: dict[str, Any], title: str) -> int:
    """Train one net, or the rest of it. UsageError when its run was begun with other flags."""
    from cnncli.engine.runs import RESULT
    from cnncli.engine.state import STATE, read_description

    if not (folder / STATE).is_file():
        talk(f"{title}: {folder}")
        return train(Job(out=folder), fresh)
    settings = resumed_settings(folder, read_description(folder)["settings"], fresh.net, fresh.data, None, {}, given)
    if (folder / RESULT).is_file():
        talk(f"{title}: {folder} is there already")
        return ExitCode.DONE
    talk(f"{title}: going on in {folder}")
    return train(Job(out=folder, resume=folder), settings)


def _tell(folder: Path, depths: tuple[int, int], experiment: Experiment) -> None:
    from cnncli.engine.run_folders import read_run
    from cnncli.reports.experiment import draw_depths, print_depths

    runs = {(family, depth): read_run(folder / f"{family}{depth}").epochs for family in experiment.families for depth in depths}
    picture = folder / "figure.png"
    data = read_run(folder / f"{experiment.families[0]}{depths[0]}").data
    draw_depths(picture, runs, f"Plain and residual nets on {data}")
    print_depths(runs, picture)
