"""`cnn finetune`: a pretrained net learns other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.options import AcceptDataChange, Json, Overwrite, Resume, RunFolder, StrictResume, open_data, with_settings
from cnncli.cli.train import Job, check_processes, device_of, gone_on, launched
from cnncli.cli.train_settings import FINETUNE, Settings, new_settings, resumed_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.engine.recipe import combined, read_recipe
from cnncli.errors import ExitCode, UsageError
from cnncli.models.resolve import Spec, resolve
from cnncli.reports.terminal import mute, talk
from cnncli.settings import flag_name
from cnncli.transfer.config import CLASSIFIER, DEFAULTS, FinetuneConfig

if TYPE_CHECKING:
    from cnncli.cli.finetune_compare import Asked
    from cnncli.data.source import Source
    from cnncli.engine.distributed import World
    from cnncli.models.adapt import Adapted
    from cnncli.transfer.chain import Structure
    from cnncli.transfer.plan import Stage

KEPT_IN, PLANNED = "kept_in", "planned"
# Settings of a training that a finetuning cannot heed.
WITHOUT_USE = {
    **dict.fromkeys(("whiten", "identity"), "is about how a net begins, and this one begins with weights"),
    **dict.fromkeys(("dropout", "stochastic_depth"), "changes the net, and this one is taken as it is"),
    "shard": "shares out weights that all learn alike, which these do not",
}
FINETUNE_FIELDS = tuple(FinetuneConfig.__dataclass_fields__)


@dataclass(frozen=True)
class Tuning:
    """What is finetuned how.

    weights: as --weights has them. given: settings that were typed. kept_in: in which numbers a run that goes on has computed what is
    frozen.
    """

    settings: Settings
    finetune: FinetuneConfig
    weights: str | None
    given: dict[str, Any]
    kept_in: str | None = None

    def table(self, kept_in: str | None, stages: Sequence[Stage]) -> dict[str, Any]:
        """As config.toml holds what only `cnn finetune` knows, and how many epochs its stages have together."""
        epochs = [1 if stage.solver == "lbfgs" else stage.train.passes for stage in stages]
        planned = None if None in epochs else sum(filter(None, epochs))
        values = {"weights": self.weights, KEPT_IN: kept_in, PLANNED: planned} | asdict(self.finetune)
        if stages[0].name == CLASSIFIER and stages[0].solver != "lbfgs":
            values["head_epochs"] = stages[0].train.epochs
        return {FINETUNE: {name: value for name, value in values.items() if value is not None}}


@with_settings(given=(FinetuneConfig, TrainConfig, OptimConfig, AugmentConfig, DataConfig, ComputeConfig, KeepConfig))
def command(
    given: dict[str, Any],
    net: Annotated[
        str | None,
        typer.Argument(
            help="What to start from: a net of the zoo with published weights (`cnn models --weights`), torchvision/NAME, timm/NAME, a "
            "model file or run folder, or file.py:Name, whose code is run."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="The images: a folder with one folder per class, a list FILE.csv, or a name.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="imagenet (default), imagenet-v2, a .pth or .safetensors file, a model file or run folder."),
    ] = None,
    input: Annotated[str | None, typer.Option("--input", help="Input as channels x height x width (default: that of the weights).")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Your own settings, TOML like a run's config.toml.")] = None,
    out: RunFolder = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    accept_data_change: AcceptDataChange = False,
    strict_resume: StrictResume = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Train the classifier alone, the deepest block, everything, and the net from scratch, and compare them on images that "
            "none has seen: the test split, or the folds of a cross-validation.",
        ),
    ] = False,
    per_class: Annotated[
        str | None, typer.Option("--per-class", help="With --compare: on so many training images of each class, such as 1,2,5,10,20,all.")
    ] = None,
    folds: Annotated[int | None, typer.Option("--folds", help="With --compare: folds of the cross-validation (default: 5).", min=2)] = None,
    json: Json = False,
) -> int:
    """Teach a pretrained net the classes of a folder of images, and write a run folder.

    Its last layer is replaced by a new classifier, which learns alone at first; then everything learns, or the deepest blocks, with smaller
    rates. --freeze leaves it at the classifier. What is frozen is computed once for each image, so that this takes seconds.
    """
    check_processes(given)
    asked = _asked(given, compare=compare, per_class=per_class, folds=folds, json=json, resume=resume)
    job = Job(out, overwrite, resume, accept_data_change, strict_resume, FINETUNE)
    own = {name: given[name] for name in given if name in FINETUNE_FIELDS}
    usual = {name: value for name, value in given.items() if name not in own}
    if resume is None:
        return tune(job, _new(net, data, weights, input, config, own, usual), asked)
    words: dict[str, Any] = {"--config": config, "--out": out, "--overwrite": overwrite or None, "--weights": weights}
    for flag, value in words.items():
        if value is not None:
            raise UsageError(f"--resume {resume} and {flag} contradict each other", f"leave out {flag}", path=flag)
    longer = [name for name in TrainConfig.LENGTHS if name in usual]
    return _resume(job, resume, lambda stored: _resumed(resume, stored, (net, data, input), own, usual), longer)


def _new(
    net: str | None,
    data: str | None,
    weights: str | None,
    size: str | None,
    config: Path | None,
    own: dict[str, Any],
    usual: dict[str, Any],
) -> Tuning:
    """What the words of a command say. UsageError without a net or images."""
    stored = {} if config is None else dict(read_recipe(config, beside=(FINETUNE,)))
    table = stored.pop(FINETUNE, {})
    if (net or stored.get("net")) is None or (data or stored.get("source")) is None:
        what, flag = ("which net?", "NET") if (net or stored.get("net")) is None else ("which images?", "--data")
        raise UsageError(what, "for example: cnn finetune resnet18 --data photos", path=flag)
    own = {name: value for name, value in table.items() if name in FINETUNE_FIELDS} | own
    weights = weights or table.get("weights")
    for name, why in WITHOUT_USE.items():
        if usual.get(name):
            raise UsageError(f"{flag_name(name)} {why}", "leave it out", path=flag_name(name))
    settings = new_settings(net, data, size, {}, name=None, file=None, given=usual, defaults=combined([DEFAULTS, stored]))
    return Tuning(settings, _finetune(own, usual), weights, usual)


def _asked(
    given: dict[str, Any], *, compare: bool, per_class: str | None, folds: int | None, json: bool, resume: Path | None
) -> Asked | None:
    """What --compare is to compare; None without it. UsageError for flags that go with it alone, or not with it."""
    if not compare:
        for flag, value in (("--per-class", per_class), ("--folds", folds), ("--json", json or None)):
            if value is not None:
                raise UsageError(f"{flag} goes with --compare", "add it, or leave this out", path=flag)
        return None
    from cnncli.cli.finetune_compare import Asked, parse_sizes

    fixed = [name for name in ("freeze", "freeze_until", "unfreeze", "gpus", "processes") if given.get(name)]
    if resume is not None or fixed:
        flag = "--resume" if resume is not None else flag_name(fixed[0])
        raise UsageError(f"--compare trains in several ways, in one process, and {flag} says how", f"leave out {flag}", path=flag)
    return Asked(parse_sizes(per_class), folds, json)


def _finetune(own: dict[str, Any], usual: dict[str, Any]) -> FinetuneConfig:
    """The configuration that flags make. Where the classifier alone learns, both words for epochs are about it."""
    if own.get("freeze") and "epochs" in usual:
        if own.get("head_epochs", usual["epochs"]) != usual["epochs"]:
            raise UsageError("with --freeze, --epochs and --head-epochs are the same, and two are given", "leave out one", path="--epochs")
        own = own | {"head_epochs": usual["epochs"]}
    return FinetuneConfig(**own)


def _resumed(run: Path, stored: dict[str, Any], words: tuple[str | None, ...], own: dict[str, Any], usual: dict[str, Any]) -> Tuning:
    """What a run was told, with what may be said anew."""
    tables = dict(stored)
    table = tables.pop(FINETUNE, None)
    if table is None:
        raise UsageError(f"{run} was made by `cnn train`", f"cnn train --resume {run}", path="--resume")
    weights = table.get("weights")
    finetune = FinetuneConfig(**{name: value for name, value in table.items() if name in FINETUNE_FIELDS})
    for name, value in own.items():
        if value != getattr(finetune, name):
            flag = flag_name(name)
            raise UsageError(
                f"--resume {run} goes on as it began, but is given {flag} {value} (was {getattr(finetune, name)})",
                f"leave out {flag}",
                path=flag,
            )
    net, data, size = words
    settings = resumed_settings(run, tables, net, data, size, {}, usual)
    return Tuning(settings, finetune, weights, usual | tables.get("train", {}), table.get(KEPT_IN))


def _resume(job: Job, run: Path, tuning_of: Any, longer: list[str]) -> int:
    from cnncli.cli.training_run import complete
    from cnncli.engine.launch import is_first
    from cnncli.engine.runs import RESULT, refuse_in_use
    from cnncli.engine.state import read_description

    described = read_description(run, strict=job.strict_resume)
    if is_first():
        refuse_in_use(run)
    tuning: Tuning = tuning_of(described["settings"])
    if (run / RESULT).is_file():
        if longer:
            hint = f"cnn finetune {run} --data ... goes on from its model"
            raise UsageError(f"{run} is already finished, and a finetuning is not made longer", hint, path=flag_name(longer[0]))
        if is_first():
            complete(run, described)
        talk(f"{run} is already finished ({len(described['facts']['history'])} epochs)")
        return ExitCode.DONE
    return tune(replace(job, out=run), tuning)


def tune(job: Job, tuning: Tuning, asked: Asked | None = None) -> int:
    """Check everything that can be checked, then train. Nothing is written before the data have been read.

    asked: what to compare; None for one training.
    """
    from cnncli.engine.distributed import is_one_of_many, joined, restarts
    from cnncli.engine.launch import is_first
    from cnncli.models.adapt import check_adaptable

    settings = tuning.settings
    spec = resolve(settings.net)
    check_adaptable(spec, tuning.weights)
    if not is_one_of_many() and (code := launched(settings.compute)) is not None:
        return code
    if is_one_of_many() and restarts() and job.out is not None and job.resume is None:
        job = gone_on(job)
    device = device_of(settings)
    if not is_first():
        mute()
    with joined(device, settings.keep.stall_timeout) as world:
        if not world.first:
            mute(errors=True)
        if asked is not None:
            from cnncli.cli.finetune_compare import compare

            return compare(job, spec, tuning, asked, world)
        return _tuned(job, spec, tuning, world)


def _tuned(job: Job, spec: Spec, tuning: Tuning, world: World) -> int:
    from cnncli.cli.finetune_data import mannered
    from cnncli.cli.training_data import tell_leaks
    from cnncli.data.preprocess import background_of
    from cnncli.engine.runs import check_writable, choose_folder

    data_config = tuning.settings.of(DataConfig)
    background_of(data_config.background)
    with world.first_before_others("source"):
        source = open_data(tuning.settings.data, data_config)
        if world.first:
            tell_leaks(source, strict=data_config.strict)
    tuning = replace(tuning, settings=mannered(source, tuning.settings, tuning.given, talk))
    name = f"{spec.name}-{source.name}"
    chosen = choose_folder(job.out, name, overwrite=job.overwrite or job.resume is not None) if world.first else None
    folder = Path(world.from_first(str(chosen)))
    if world.first:
        check_writable(folder)
    with world.first_before_others("weights"):
        adapted, structure, stages = planned_stages(spec, tuning, source)
    if world.first:
        from cnncli.reports.finetune import print_plan

        own = set(adapted.head.paths)
        blocks = sum(not own.issuperset(name.rpartition(".")[0] for name in block.parameters) for block in structure.blocks)
        views = None if tuning.finetune.features == "off" else _views(tuning, source, adapted)
        print_plan(adapted.info.name, adapted.weights, adapted.head, stages, blocks, views=views)
    from cnncli.cli.finetune_run import run_stages

    return run_stages(job, tuning, world, source, (adapted, structure, stages), folder)


def _views(tuning: Tuning, source: Source, adapted: Adapted) -> int:
    """Of each image, for which what is frozen is computed."""
    from cnncli.cli.training_data import chosen_augment

    form = adapted.info.preprocess
    size = (form.channels, form.height, form.width)
    return tuning.finetune.views * (2 if chosen_augment(tuning.settings.of(AugmentConfig), source.name, size).flip else 1)


def planned_stages(spec: Spec, tuning: Tuning, source: Source) -> tuple[Adapted, Structure, tuple[Stage, ...]]:
    """The model with its new classifier, what it is made of, and what is to be done with it."""
    import torch

    from cnncli.models.adapt import adapt
    from cnncli.transfer.chain import structure_of
    from cnncli.transfer.plan import plan_stages

    settings, finetune = tuning.settings, tuning.finetune
    adapted = adapt(spec, tuning.weights, source.classes, head=finetune.head, input=settings.input, seed=settings.train.seed, tell=talk)
    form = adapted.info.preprocess
    structure = structure_of(adapted.model, torch.zeros(1, form.channels, form.height, form.width))
    sizes = {name: parameter.numel() for name, parameter in adapted.model.named_parameters()}

    def planned(config: FinetuneConfig) -> tuple[Stage, ...]:
        return plan_stages(structure, adapted.head, sizes, config, train=settings.train, optim=settings.optim)

    stages = planned(finetune)
    if len(stages) == 1 and stages[0].cut is not None and finetune.head_epochs is None and "epochs" in tuning.given and not stages[0].rates:
        stages = planned(replace(finetune, head_epochs=tuning.given["epochs"]))  # --freeze-until the classifier
    return adapted, structure, stages
