"""`cnn train`: train a net on images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.arch.net import Net, totals, walk
from cnncli.cli.options import (
    AcceptDataChange,
    Overwrite,
    Resume,
    RunFolder,
    Set,
    StrictResume,
    open_images_of,
    parse_settings,
    with_settings,
)
from cnncli.cli.train_settings import Settings, new_settings, resumed_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.errors import ExitCode, InputError, UsageError
from cnncli.models.describe import described_net
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import mute, talk

if TYPE_CHECKING:
    from torch import nn

    from cnncli.cli.training_data import Images
    from cnncli.engine.distributed import World
    from cnncli.engine.state import State


@with_settings(given=(TrainConfig, OptimConfig, AugmentConfig, DataConfig, ComputeConfig, KeepConfig))
def command(
    given: dict[str, Any],
    net: Annotated[
        str | None,
        typer.Argument(help="The net to train (`cnn models` lists them), or one in notation (`cnn shape --help` has its grammar)."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="The images (default: digits): a name (`cnn data --list`), a folder with one folder per class, a list FILE.csv, or tar "
            "shards: 'shards/train-{000..009}.tar', a folder of them, or their https addresses.",
        ),
    ] = None,
    input: Annotated[str | None, typer.Option("--input", help="Input as channels x height x width (default: the net's own).")] = None,
    set: Set = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Settings of the package, before which flags go; `--recipe list` lists them.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Your own settings, TOML like a run's config.toml.")] = None,
    out: RunFolder = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    accept_data_change: AcceptDataChange = False,
    strict_resume: StrictResume = False,
    find_lr: Annotated[
        bool,
        typer.Option("--find-lr", help="Try rates from small to large for some steps, draw the losses and suggest one; train nothing."),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time the parts of some steps and say what bounds them; train nothing.")
    ] = False,
) -> int:
    """Train a net on images and write a run folder: best and last model, state, metrics, settings, curves.

    `cnn train lenet5` with no other word trains on the built-in digits, and
    `cnn train "[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-SOFTMAX"` a net in the lecture's notation.
    """
    if recipe == "list":
        return _list_recipes()
    check_processes(given)
    if find_lr and profile:
        raise UsageError("--find-lr and --profile are two commands", "give one of them", path="--profile")
    job = Job(out, overwrite, resume, accept_data_change, strict_resume, "find-lr" if find_lr else "profile" if profile else "train")
    arguments = parse_settings(set)
    if resume is None:
        for flag, is_given in (("--accept-data-change", accept_data_change), ("--strict-resume", strict_resume)):
            if is_given:
                raise UsageError(f"{flag} goes with --resume RUN", "leave it out, or name the run to go on with", path=flag)
        return train(job, new_settings(net, data, input, arguments, name=recipe, file=config, given=given))
    words: dict[str, Any] = {"--recipe": recipe, "--config": config, "--out": out}
    words |= {flag: True for flag, is_given in (("--overwrite", overwrite), ("--find-lr", find_lr), ("--profile", profile)) if is_given}
    for flag, value in words.items():
        if value is not None:
            raise UsageError(f"--resume {resume} and {flag} contradict each other", f"leave out {flag}", path=flag)
    return _resume(job, resume, lambda stored: resumed_settings(resume, stored, net, data, input, arguments, given), given)


@dataclass(frozen=True)
class Job:
    """Where the result goes, and what is to be done: `train`, `find-lr` or `profile`."""

    out: Path | None = None
    overwrite: bool = False
    resume: Path | None = None
    accept_data_change: bool = False
    strict_resume: bool = False
    task: str = "train"


def check_processes(given: dict[str, Any]) -> None:
    """Of several processes one talks. UsageError for flags that would start processes in those that torchrun has started."""
    from cnncli.engine.launch import is_first, started_elsewhere

    if not is_first():
        mute(errors=True)
    for name in ("gpus", "processes"):
        if started_elsewhere() and name in given:
            raise UsageError(f"--{name} starts processes, and torchrun has started these", f"leave out --{name}", path=f"--{name}")


def _list_recipes() -> int:
    from cnncli.engine.recipe import bundled
    from cnncli.reports.terminal import listing, print_result

    print_result(listing(list(bundled().items()), indent=0))
    return ExitCode.DONE


def _resume(job: Job, run: Path, settings_of: Any, given: dict[str, Any]) -> int:
    from cnncli.engine.launch import is_first
    from cnncli.engine.runs import RESULT, refuse_in_use
    from cnncli.engine.state import read_description

    described = read_description(run, strict=job.strict_resume)
    if is_first():  # looking takes the lock for a moment, in which another one would find it taken
        refuse_in_use(run)
    settings: Settings = settings_of(described["settings"])
    epochs = len(described["facts"]["history"])
    if (run / RESULT).is_file() and not any(name in given for name in TrainConfig.LENGTHS):
        if is_first():
            from cnncli.cli.training_run import complete

            complete(run, described)
        whole = settings.train.passes
        talk(f"{run} is already finished ({epochs}{f'/{whole}' if whole else ''} epochs); use --epochs {2 * epochs} to extend it")
        return ExitCode.DONE
    return train(replace(job, out=run), settings)


def train(job: Job, settings: Settings) -> int:
    """Check everything that can be checked, then train. Nothing is written before the data have been read."""
    spec = resolve(settings.net)
    if spec.kind not in ("zoo", "notation"):
        kind = "a trained model" if spec.kind == "file" else "only described, by `cnn shape`"
        raise UsageError(
            f"{settings.net} is {kind}",
            "`cnn train` starts from a net of the zoo (`cnn models` lists them) or in notation",
            path=settings.net,
        )
    walk(_net(settings))  # an input that does not fit is told before the data are read

    from cnncli.engine.distributed import is_one_of_many, joined, restarts
    from cnncli.engine.launch import is_first

    if not is_one_of_many() and (code := launched(settings.compute)) is not None:
        return code
    if is_one_of_many() and restarts() and job.out is not None and job.resume is None:
        job = gone_on(job)

    device = device_of(settings)
    if not is_first():
        mute()  # but who does not find the others says so
    with joined(device, settings.keep.stall_timeout) as world:
        if not world.first:
            mute(errors=True)  # until training begins all do the same, and what stops one stops the first, too
        return _train(job, settings, world)


def _net(settings: Settings, classes: int | None = None) -> Net:
    from cnncli.arch.regularise import with_dropout, with_stochastic_depth

    net = described_net(resolve(settings.net), input=settings.input, classes=classes, settings=settings.arguments)
    config = settings.train
    if config.dropout is not None:
        net = with_dropout(net, config.dropout)
    return net if config.stochastic_depth is None else with_stochastic_depth(net, config.stochastic_depth)


def launched(compute: ComputeConfig) -> int | None:
    """The exit code of the processes that were started for this command; None where this one does it."""
    from cnncli.engine.launch import chosen_gpus, launch

    if compute.gpus is None and compute.processes is None:
        return None
    from cnncli.cli.main import command_line

    if compute.gpus is None:
        return launch(command_line(), compute.processes or 1)
    import torch

    if compute.device != "auto" or compute.processes is not None:
        raise UsageError("--gpus says where to compute, and so does --device or --processes", "give one of them", path="--gpus")
    gpus = chosen_gpus(compute.gpus, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return launch(command_line(), len(gpus), gpus)


def gone_on(job: Job) -> Job:
    """The launcher has started this command anew after a failure: what it had reached in its run folder is taken up."""
    from cnncli.engine.state import STATE

    assert job.out is not None
    return replace(job, resume=job.out) if (job.out / STATE).is_file() else replace(job, overwrite=True)


def device_of(settings: Settings) -> Any:
    """Where this process computes, made ready for what the settings ask of it."""
    import os

    import torch

    from cnncli.engine.device import choose_device
    from cnncli.engine.distributed import LOCAL_RANK, is_one_of_many

    wanted = settings.compute.device
    if wanted == "auto" and is_one_of_many() and torch.cuda.is_available():
        wanted = f"cuda:{os.environ.get(LOCAL_RANK, '0')}"
    device = choose_device("cpu" if wanted == "auto" and settings.compute.processes else wanted)
    if settings.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(mode=True)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    return device


def _train(job: Job, settings: Settings, world: World) -> int:
    import torch

    from cnncli.cli.training_data import read_images, tell_leaks
    from cnncli.data.preprocess import background_of
    from cnncli.engine.runs import check_writable, choose_folder
    from cnncli.models.assemble import assemble
    from cnncli.models.whitening import pass_on, whiten

    data_config, augment = settings.of(DataConfig), settings.of(AugmentConfig)
    background_of(data_config.background)  # a colour that is none is told before the data are read
    with world.first_before_others("source"):
        source = open_images_of(settings.data, data_config)
        if world.first:
            tell_leaks(source, strict=data_config.strict)
    folder = Path()
    if job.task == "train":
        name = f"{resolve(settings.net).name}-{source.name}"
        chosen = choose_folder(job.out, name, overwrite=job.overwrite or job.resume is not None) if world.first else None
        folder = Path(world.from_first(str(chosen)))
        if world.first:
            check_writable(folder)
    net = _net(settings, len(source.classes))
    with world.first_before_others("images"):
        images = read_images(source, net.input, data_config, augment)
    torch.manual_seed(settings.train.seed)
    model = assemble(net)
    if settings.train.identity:
        pass_on(model)
    if settings.train.whiten:
        whiten(model, images.preprocess.normalise(images.looked_at))
    model = model.to(world.device)
    if job.task == "train":
        return _trained(job, settings, world, images, net, model, folder)
    from cnncli.cli.train_trials import try_out

    return try_out(job, settings, world, images, net, model)


def _trained(job: Job, settings: Settings, world: World, images: Images, net: Net, model: nn.Module, folder: Path) -> int:
    from cnncli.cli.training_plan import planned
    from cnncli.cli.training_run import Staged, run_training
    from cnncli.engine.fit import fit
    from cnncli.engine.pause import Pause
    from cnncli.engine.runs import Run
    from cnncli.engine.training import Training
    from cnncli.models.modelfile import ModelInfo

    data_config = settings.of(DataConfig)
    state = state_of(job, images) if job.resume is not None else None
    sums = totals(walk(net), net.input)
    plan, batches, chosen = planned(settings, world, images, model, activations=sums.activations)
    talk(f"{net.name}: {sums.params:,} parameters, input {'x'.join(map(str, net.input))}, {net.classes} classes, on {world.device}")
    info = ModelInfo(
        net,
        images.source.classes,
        images.preprocess,
        data=images.source.name,
        val_fraction=data_config.val_fraction,
        test_fraction=data_config.test_fraction,
    )
    training = Training(model, plan, world)
    run = Run(folder, info, settings.tables(net.input, chosen | vars(images.augment)), images.facts(), writes=world.first)
    if state is not None:
        for difference in training.restore(state.facts, state.tensors):
            talk(f"note: the end will not be the same to the bit: {difference}")
        del state
    pause = Pause(60 * settings.keep.save_every)
    with run:
        run.begin(training.history if job.resume is not None else None)
        run.list_bad(images.bad())
        stage = Staged(training, fit(training, *batches, pause))
        run_training(run, [stage], images, world, pause, tensorboard=settings.keep.tensorboard)
    if bad := images.bad():
        run.list_bad(bad)  # again: what is streamed may have been lost while it was needed
        talk(f"{len(bad)} images could not be read and were left out: {folder / 'bad_images.txt'}")
    return ExitCode.SKIPPED if bad else ExitCode.DONE


def state_of(job: Job, images: Images) -> State:
    """The state to go on from. InputError when its images were others than these, unless that is accepted."""
    from cnncli.engine.state import load_state

    assert job.resume is not None
    state = load_state(job.resume, strict=job.strict_resume, tell=talk)
    now = images.facts()
    if state.data.get("classes") != now["classes"]:
        raise InputError(
            f"the classes of {images.source.name} are not those that {job.resume} learned", "train anew", path=images.source.name
        )
    changed = [split for split in ("train", "val") if state.data.get(split) != now.get(split)]
    if changed:
        counts = ", ".join(
            f"{split} had {(state.data.get(split) or {}).get('images', 0):,} images and has {(now.get(split) or {}).get('images', 0):,}"
            for split in changed
        )
        message = f"the images of {images.source.name} have changed since the run began: {counts}"
        if not job.accept_data_change:
            raise InputError(message, "--accept-data-change goes on with these", path=images.source.name)
        talk(f"warning: {message}")
    return state
