"""`cnn eval`: judge a trained model on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite, Weights, open_images_of, with_settings
from cnncli.data.config import DataConfig
from cnncli.engine.config import VIEWS
from cnncli.errors import ExitCode, InputError, UsageError, near_miss
from cnncli.models.published import check_weights
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import json_text, print_json, talk

if TYPE_CHECKING:
    from cnncli.data.shards.remote import RemoteShards
    from cnncli.data.source import Source
    from cnncli.models.modelfile import ModelInfo

CONFUSION = "confusion.png"
RESULT = "eval.json"


@with_settings(data_config=DataConfig)
def command(
    model: Annotated[str, typer.Argument(help="A run folder, a model file, or a net of the zoo with --weights.")],
    data_config: DataConfig,
    weights: Weights = None,
    classes: Classes = None,
    data: Annotated[str | None, typer.Option("--data", help="Labelled images (default: what the model was trained on).")] = None,
    split: Annotated[
        str, typer.Option("--split", help="train, val, test or all; auto is test where there is one, else val, else all.")
    ] = "auto",
    classes_subset: Annotated[bool, typer.Option("--classes-subset", help="Allow data that lack some of the model's classes.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for eval.json and confusion.png (default: none).")] = None,
    overwrite: Overwrite = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per forward pass; does not change the result.", min=1)] = 256,
    tta: Annotated[
        str,
        typer.Option(
            "--tta", help="Average over views of each image: flips (its mirror image), shifts (both, moved by a pixel each way, too), none."
        ),
    ] = "none",
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Judge a model on labelled images: top-1, top-5, precision, recall and F1 per class, confusion matrix.

    Classes are matched by name. JSON: {"model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class": ({"class",
    "precision", "recall", "f1", "support"}), "confusion": one row per true class}; rates are in 0..1.
    """
    if tta not in VIEWS:
        raise UsageError(f"--tta {tta!r} is not one of {', '.join(VIEWS)}", near_miss(tta, list(VIEWS)), path="--tta")
    return evaluate(Job(model, weights, classes, data, split, classes_subset, out, overwrite, batch_size, tta, device, json), data_config)


@dataclass(frozen=True)
class Job:
    """Which model is judged on what, and where the result goes."""

    model: str
    weights: str | None
    classes: int | None
    data: str | None
    split: str
    classes_subset: bool
    out: Path | None
    overwrite: bool
    batch_size: int
    tta: str
    device: str
    json: bool

    @property
    def title(self) -> str:
        """The model as it was asked for, in results."""
        return self.model if self.weights is None else f"{self.model} --weights {self.weights}"


def evaluate(job: Job, data_config: DataConfig) -> int:
    """Judge, print, and write the files that --out asks for. Exit code 5 when images were left out."""
    spec = resolve(job.model)
    check_weights(spec, job.weights, job.classes)
    if job.weights is not None and job.data is None:
        raise UsageError("--weights needs images to judge on", "say where they are: --data FOLDER", path="--data")
    if data_config.background != DataConfig.background or data_config.no_exif:
        flag = "--no-exif" if data_config.no_exif else "--background"
        raise UsageError(f"{flag}: the model file says how its images are decoded", "leave it out", path=flag)
    targets = _targets(job)

    import torch

    from cnncli.data.classes import match_classes
    from cnncli.data.shards.either import open_images, open_loader
    from cnncli.engine.device import choose_device
    from cnncli.engine.infer import scores
    from cnncli.engine.metrics import judge
    from cnncli.models.weights import open_model
    from cnncli.reports.decoding import DecodingReport
    from cnncli.reports.evaluation import draw_confusion, evaluation_json, print_evaluation

    device = choose_device(job.device)
    module, info = open_model(spec, job.weights, classes=job.classes, device=str(device), tell=talk)
    if job.data is None:
        data_config = with_data_root(data_config, spec.path)
    source = open_images_of(job.data or trained_on(spec.path, info), with_fractions(data_config, info))
    source = match_classes(info.classes, source, subset=job.classes_subset)
    split = choose_split(source, job.split)
    with DecodingReport(f"decoding {split} images") as report:
        pixels = open_images(source, split, info.preprocess, data_config, tell=talk, on_progress=report.show)
    loader = open_loader(pixels, info.preprocess, batch_size=job.batch_size, device=device, threads=data_config.workers)
    labels: list[torch.Tensor] = []

    def images() -> Iterator[torch.Tensor]:
        for batch in loader.epoch(0):
            labels.append(batch.labels.cpu())
            yield batch.images

    found = torch.cat(list(scores(module, images(), job.tta)))
    judgement = judge(found, torch.cat(labels), info.classes)
    result = evaluation_json(judgement, model=job.title, data=source.name, split=split, tta=job.tta)
    if targets:
        _write(targets, result)
        draw_confusion(targets[CONFUSION], judgement, f"{job.title} on {source.name}, {split}: {judgement.top1:.1%}")
    if job.json:
        print_json(result)
    else:
        print_evaluation(judgement, model=job.title, data=source.name, split=split, tta=job.tta)
    for path in targets.values():
        talk(f"wrote {path}")
    for error in pixels.bad:
        talk(f"left out: {error.message}")
    return ExitCode.SKIPPED if pixels.bad else ExitCode.DONE


def trained_on(path: Path, info: ModelInfo) -> str:
    """The --data to use when none is given: what the run folder's config.toml says, or a built-in source of the model file."""
    from cnncli.data.source import SOURCES
    from cnncli.engine.runs import CONFIG, source_of

    if (path.parent / CONFIG).is_file():
        return source_of(path.parent)
    if info.data in SOURCES:
        return info.data
    raise InputError(f"{path} was trained on {info.data or 'unknown data'}", "say where the images are: --data FOLDER", path="--data")


def with_fractions(config: DataConfig, info: ModelInfo) -> DataConfig:
    """Split as the training did unless the flags say otherwise: else training images would be judged as if they were new."""
    val = info.val_fraction if config.val_fraction is None else config.val_fraction
    test = info.test_fraction if config.test_fraction is None else config.test_fraction
    return replace(config, val_fraction=val, test_fraction=test, allow_empty=True)


def with_data_root(config: DataConfig, path: Path) -> DataConfig:
    """Look for a named data set where the training found it, unless the flag says otherwise."""
    import tomllib

    from cnncli.engine.runs import CONFIG

    try:
        kept = tomllib.loads((path.parent / CONFIG).read_text(encoding="utf-8"))["data"].get("data_root")
    except (OSError, KeyError, TypeError, AttributeError, ValueError):
        return config  # `trained_on` says what is wrong
    return config if config.data_root is not None or kept is None else replace(config, data_root=str(kept))


def choose_split(source: Source | RemoteShards, wanted: str) -> str:
    """The split to judge on; `auto` prefers images that no training has seen."""
    if wanted != "auto":
        return wanted
    return next((split for split in ("test", "val") if source.splits.get(split)), "all")


def _targets(job: Job) -> dict[str, Path]:
    """The files that --out asks for, checked before any work."""
    if job.out is None:
        return {}
    if job.out.exists() and not job.out.is_dir():
        raise UsageError(f"--out {job.out} is a file", "give a folder", path=str(job.out))
    targets = {name: job.out / name for name in (RESULT, CONFUSION)}
    for path in targets.values():
        if path.exists() and not job.overwrite:
            raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
    return targets


def _write(targets: dict[str, Path], result: dict[str, Any]) -> None:
    from cnncli import atomic

    atomic.make_folder(targets[RESULT].parent)
    atomic.write_text(targets[RESULT], json_text(result))
