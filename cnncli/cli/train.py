"""`cnn train`: train a net on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.arch.net import Net, totals, walk
from cnncli.cli.options import Device, Overwrite, Set, open_data, parse_input, parse_settings, with_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import TrainConfig
from cnncli.errors import ExitCode, UsageError, printable
from cnncli.models.describe import described_net
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk, write_result

if TYPE_CHECKING:
    from cnncli.data.augment import Augment
    from cnncli.data.pixels import Pixels
    from cnncli.data.source import Source

# Mirrored digits are other signs or none; every other source is taken for photos.
NEVER_MIRRORED = ("digits",)
SHIFT_SHARE = 8  # 4 pixels for 32: the padding of He et al. 2015, section 4.2


@with_settings(config=TrainConfig, data_config=DataConfig, augment_config=AugmentConfig)
def command(
    net: Annotated[
        str, typer.Argument(help="The net to train (`cnn models` lists them), or one in notation (`cnn shape --help` has its grammar).")
    ],
    config: TrainConfig,
    data_config: DataConfig,
    augment_config: AugmentConfig,
    data: Annotated[str, typer.Option("--data", help="Where the images are: digits, or a folder with one folder per class.")] = "digits",
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

    from cnncli.data.loader import Loader
    from cnncli.data.preprocess import measure
    from cnncli.engine.device import choose_device
    from cnncli.engine.runs import Run, check_writable, choose_folder
    from cnncli.models.assemble import assemble
    from cnncli.models.modelfile import ModelInfo

    device = choose_device(job.device)
    source = open_data(job.data, data_config)
    folder = choose_folder(job.out, f"{spec.name}-{source.name}", overwrite=job.overwrite)
    check_writable(folder)
    net = described_net(spec, input=job.input, classes=len(source.classes), settings=job.settings)
    train_pixels, val_pixels, preprocess = _read(source, net, data_config)
    mean, std = measure(train_pixels.images)
    preprocess = replace(preprocess, mean=mean, std=std)
    augment = chosen_augment(augment_config, source.name, net)
    loader = Loader(
        train_pixels,
        preprocess,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=_augmentation(augment, train_pixels),
        shuffle=True,
        device=device,
    )
    val_loader = Loader(val_pixels, preprocess, batch_size=config.batch_size, device=device) if val_pixels else None
    torch.manual_seed(config.seed)
    model = assemble(net).to(device)
    info = ModelInfo(
        net, source.classes, preprocess, data=source.name, val_fraction=data_config.val_fraction, test_fraction=data_config.test_fraction
    )
    bad = [error.message for pixels in (train_pixels, val_pixels) if pixels for error in pixels.bad]
    run = Run(folder, info, _settings(job, net, config, data_config, augment), bad)
    sums = totals(walk(net), net.input)
    talk(f"{net.name}: {sums.params:,} parameters, input {'x'.join(map(str, net.input))}, {net.classes} classes, on {device}")
    _fit(run, model, loader, val_loader, config)
    if bad:
        talk(f"{len(bad)} images could not be read and were left out: {folder / 'bad_images.txt'}")
    return ExitCode.SKIPPED if bad else ExitCode.DONE


def _read(source: Source, net: Net, data_config: DataConfig) -> tuple[Pixels, Pixels | None, Any]:
    from cnncli.data.pixels import load_pixels
    from cnncli.data.preprocess import Preprocess

    channels, height, width = net.input
    preprocess = Preprocess(channels, height, width)
    bad_images: Any = data_config.bad_images
    how = {"bad_images": bad_images, "max_pixels": data_config.max_pixels}
    train_pixels = load_pixels(source, "train", preprocess, **how)
    val_pixels = load_pixels(source, "val", preprocess, **how) if source.splits.get("val") else None
    return train_pixels, val_pixels, preprocess


def chosen_augment(config: AugmentConfig, source: str, net: Net) -> AugmentConfig:
    """The augmentation with its defaults filled in for this source and input size."""
    flip = source not in NEVER_MIRRORED if config.flip is None else config.flip
    return AugmentConfig(flip=flip, shift=min(net.input[1:]) // SHIFT_SHARE if config.shift is None else config.shift)


def _augmentation(config: AugmentConfig, pixels: Pixels) -> Augment:
    from cnncli.data.augment import Augment, usual_border

    return Augment(flip=bool(config.flip), shift=config.shift or 0, fill=usual_border(pixels.images))


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
