"""`cnn train`: train a net on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.arch.net import Net, totals, walk
from cnncli.cli.options import Device, Overwrite, Set, open_images_of, parse_input, parse_settings, with_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.data.named import NEVER_MIRRORED
from cnncli.engine.config import TrainConfig
from cnncli.errors import ExitCode, InputError, UsageError, printable
from cnncli.models.describe import described_net
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk, write_result

if TYPE_CHECKING:
    import torch

    from cnncli.data.augment import Augment
    from cnncli.data.held import Held
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.shards.remote import RemoteShards
    from cnncli.data.shards.stream import ShardStream
    from cnncli.data.source import Source

MOST_COMPARED = 200_000  # images that are looked through for leaks before each training, some seconds; `cnn data` looks through any number
MIDDLE = 0.875  # 224 of 256, as in Krizhevsky et al. 2012 and since
SHIFT_SHARE = 8  # 4 pixels for 32: the padding of He et al. 2015, section 4.2


@with_settings(config=TrainConfig, data_config=DataConfig, augment_config=AugmentConfig)
def command(
    net: Annotated[
        str, typer.Argument(help="The net to train (`cnn models` lists them), or one in notation (`cnn shape --help` has its grammar).")
    ],
    config: TrainConfig,
    data_config: DataConfig,
    augment_config: AugmentConfig,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="The images: a name (`cnn data --list`), a folder with one folder per class, a list FILE.csv, or tar shards: "
            "'shards/train-{000..009}.tar', a folder of them, or their https addresses.",
        ),
    ] = "digits",
    input: Annotated[str | None, typer.Option("--input", help="Input as channels x height x width (default: the net's own).")] = None,
    set: Set = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder (default: a new one in runs/).")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> int:
    """Train a net on images and write a run folder: best and last model, metrics, settings, curves.

    `cnn train lenet5` with no other word trains on the built-in digits, and
    `cnn train "[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-SOFTMAX"` a net in the lecture's notation.
    """
    job = Job(net, data, parse_input(input), parse_settings(set), out, overwrite, device)
    return train(job, config, data_config, augment_config)


@dataclass(frozen=True)
class Job:
    """What is trained on what, and where the result goes."""

    net: str
    data: str
    input: tuple[int, int, int] | None
    settings: dict[str, str]
    out: Path | None
    overwrite: bool
    device: str


def train(job: Job, config: TrainConfig, data_config: DataConfig, augment_config: AugmentConfig) -> int:
    """Check everything that can be checked, then train. Nothing is written before the data have been read."""
    spec = resolve(job.net)
    if spec.kind not in ("zoo", "notation"):
        kind = "a trained model" if spec.kind == "file" else "only described, by `cnn shape`"
        raise UsageError(
            f"{job.net} is {kind}", "`cnn train` starts from a net of the zoo (`cnn models` lists them) or in notation", path=job.net
        )
    walk(described_net(spec, input=job.input, settings=job.settings))  # an input that does not fit is told before the data are read

    import torch

    from cnncli.data.preprocess import background_of, measure
    from cnncli.data.shards.either import open_loader
    from cnncli.engine.device import choose_device
    from cnncli.engine.runs import Run, check_writable, choose_folder
    from cnncli.models.assemble import assemble
    from cnncli.models.modelfile import ModelInfo

    device = choose_device(job.device)
    background_of(data_config.background)  # a colour that is none is told before the data are read
    source = open_images_of(job.data, data_config)
    _tell_leaks(source, strict=data_config.strict)
    folder = choose_folder(job.out, f"{spec.name}-{source.name}", overwrite=job.overwrite)
    check_writable(folder)
    net = described_net(spec, input=job.input, classes=len(source.classes), settings=job.settings)
    augment = chosen_augment(augment_config, source.name, net)
    train_pixels, val_pixels, preprocess = _read(source, net, data_config, augment)
    looked_at = train_pixels.some()
    mean, std = measure(looked_at)
    preprocess = replace(preprocess, mean=mean, std=std)
    loader = open_loader(
        train_pixels,
        preprocess,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=_augmentation(augment, looked_at),
        shuffle=True,
        device=device,
        threads=data_config.workers,
    )
    del looked_at
    val_loader = None
    if val_pixels:
        val_loader = open_loader(val_pixels, preprocess, batch_size=config.batch_size, device=device, threads=data_config.workers)
    torch.manual_seed(config.seed)
    model = assemble(net).to(device)
    info = ModelInfo(
        net, source.classes, preprocess, data=source.name, val_fraction=data_config.val_fraction, test_fraction=data_config.test_fraction
    )
    run = Run(folder, info, _settings(job, net, config, data_config, augment))
    run.list_bad(_bad(train_pixels, val_pixels))
    sums = totals(walk(net), net.input)
    talk(f"{net.name}: {sums.params:,} parameters, input {'x'.join(map(str, net.input))}, {net.classes} classes, on {device}")
    _fit(run, model, loader, val_loader, config)
    if bad := _bad(train_pixels, val_pixels):
        run.list_bad(bad)  # again: what is streamed may have been lost while it was needed
        talk(f"{len(bad)} images could not be read and were left out: {folder / 'bad_images.txt'}")
    return ExitCode.SKIPPED if bad else ExitCode.DONE


def _read(
    source: Source | RemoteShards, net: Net, data_config: DataConfig, augment: AugmentConfig
) -> tuple[Held | ShardStream, Held | ShardStream | None, Preprocess]:
    from cnncli.data.preprocess import Preprocess, background_of
    from cnncli.data.shards.either import open_images
    from cnncli.reports.decoding import DecodingReport

    channels, height, width = net.input
    background = background_of(data_config.background)
    # Random crops show things larger than they are in whole images; the middle of a validation image does so, too.
    share = MIDDLE if crops(augment) else 1.0
    preprocess = Preprocess(channels, height, width, share, background=background, exif=not data_config.no_exif)

    def opened(split: str, *, whole: bool) -> Held | ShardStream:
        with DecodingReport(f"decoding {split} images") as report:
            return open_images(source, split, preprocess, data_config, whole=whole, tell=talk, on_progress=report.show)

    train_pixels = opened("train", whole=crops(augment))
    return train_pixels, opened("val", whole=False) if source.splits.get("val") else None, preprocess


def _tell_leaks(source: Source | RemoteShards, *, strict: bool) -> None:
    """Say which images are in train and in another split too, byte for byte; with `strict` an InputError."""
    from cnncli.data.duplicates import leaks
    from cnncli.data.source import Source

    if not isinstance(source, Source):
        return  # what is streamed is not compared with itself
    samples = source.samples("all")
    # Sets that come as arrays have their publishers' splits, which nobody here can mend; hashing CIFAR-10 took 6 s.
    if not samples or len(samples) > MOST_COMPARED or not isinstance(source.locate(samples[0]), Path | bytes):
        return
    found = leaks(source)
    if not found:
        return
    one, split, other = found[0]
    message = f"{len(found)} image{'s' if len(found) > 1 else ''} of {printable(source.name)} for training also in another split:"
    message += f" {printable(one.path)} is {printable(other.path)} of {split}"
    hint = "`cnn data SOURCE --fix clean.csv` writes a list without them"
    if strict:
        raise InputError(message, hint, path=source.name)
    talk(f"warning: {message}; {hint}")


def crops(config: AugmentConfig) -> bool:
    """Whether training images are random crops of whole ones."""
    return config.crop_scale not in (None, 1)


def _bad(*splits: Held | ShardStream | None) -> list[str]:
    return [error.message for pixels in splits if pixels for error in pixels.bad]


def chosen_augment(config: AugmentConfig, source: str, net: Net) -> AugmentConfig:
    """The augmentation with its defaults filled in for this source and input size."""
    flip = source not in NEVER_MIRRORED if config.flip is None else config.flip
    crop_scale = 1.0 if config.crop_scale is None else config.crop_scale
    # A random crop moves what it shows, so that a shift would add nothing.
    shift = (0 if crop_scale < 1 else min(net.input[1:]) // SHIFT_SHARE) if config.shift is None else config.shift
    return replace(config, flip=flip, shift=shift, crop_scale=crop_scale)


def _augmentation(config: AugmentConfig, images: torch.Tensor) -> Augment:
    from cnncli.data.augment import Augment, usual_border

    chosen = {name: value for name, value in asdict(config).items() if value is not None}
    return Augment(**chosen, fill=usual_border(images))


def _settings(job: Job, net: Net, config: TrainConfig, data_config: DataConfig, augment: AugmentConfig) -> dict[str, Any]:
    """What config.toml says: every setting in force."""
    train_settings = asdict(config) | {"lr": config.peak_lr, "weight_decay": config.decay}
    data_settings = {"source": job.data} | {key: value for key, value in asdict(data_config).items() if value is not None}
    return {
        "net": job.net,
        **({"set": job.settings} if job.settings else {}),
        "input": "x".join(map(str, net.input)),
        "train": train_settings,
        "data": data_settings,
        "augment": asdict(augment),
    }


def _fit(run: Any, model: Any, loader: Any, val_loader: Any, config: TrainConfig) -> None:
    from cnncli.engine.events import Finished
    from cnncli.engine.fit import fit
    from cnncli.engine.runs import CURVES
    from cnncli.models.resolve import BEST
    from cnncli.reports.training import TrainingReport, draw_curves

    finished: Finished | None = None
    with TrainingReport() as report:
        try:
            for event in fit(model, loader, val_loader, config):
                report.show(event)  # first: whatever stops the run from here on, an epoch that is saved is also in the curves
                run.record(event, model)
                if isinstance(event, Finished):
                    finished = event
        finally:
            if report.epochs:  # also after Ctrl-C or a loss that is not finite: what was reached is kept and shown
                draw_curves(run.folder / CURVES, report.epochs, f"{run.info.net.name} on {run.info.data}")
                talk(f"run folder: {run.folder}")
    assert finished is not None
    best = finished.best
    reached = (
        f"validation accuracy {best.val_accuracy:.2%}" if best.val_accuracy is not None else f"training accuracy {best.train_accuracy:.2%}"
    )
    write_result(f"{printable(run.folder / BEST)}: {reached} at epoch {best.epoch}\n")
