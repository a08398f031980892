"""`cnn eval`: judge a trained model on a data set, or compare several."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.judging import Judged, JudgeJob, check_job, judge_model, judge_models
from cnncli.cli.options import Classes, Device, Json, Overwrite, Weights, with_settings
from cnncli.cli.targets import check_folder
from cnncli.data.config import DataConfig
from cnncli.engine.config import VIEWS, InferConfig
from cnncli.errors import EnvironmentFault, ExitCode, UsageError, near_miss
from cnncli.models.resolve import resolve
from cnncli.reports.comparison import Comparison, JudgedModel, comparison_json, draw_models, print_models
from cnncli.reports.evaluation import evaluation_json, print_evaluation
from cnncli.reports.scored_images import per_image, write_csv, write_parquet
from cnncli.reports.slices import write_slices
from cnncli.reports.terminal import json_text, print_json, talk

if TYPE_CHECKING:
    from cnncli.reports.scored_images import PerImage
    from cnncli.reports.slices import Slices

RESULT, CONFUSION, MATRIX, RELIABILITY, MISTAKES = "eval.json", "confusion.png", "confusion.csv", "reliability.png", "mistakes.png"
PREDICTIONS, SLICES, COMPARISON = "predictions", "slices.csv", "comparison.png"
FORMATS = ("csv", "parquet")
MOST_MISTAKES = 400  # of a picture: a page of 5 a line is 3 m long then


@with_settings(data_config=DataConfig, infer_config=InferConfig)
def command(
    models: Annotated[
        list[str], typer.Argument(help="Run folders, model files, or nets with --weights; several are compared with the first.")
    ],
    data_config: DataConfig,
    infer_config: InferConfig,
    weights: Weights = None,
    classes: Classes = None,
    data: Annotated[str | None, typer.Option("--data", help="Labelled images (default: what the first model was trained on).")] = None,
    split: Annotated[
        str, typer.Option("--split", help="train, val, test or all; auto is test where there is one, else val, else all.")
    ] = "auto",
    classes_subset: Annotated[bool, typer.Option("--classes-subset", help="Allow data that lack some of the model's classes.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the files listed above (default: none).")] = None,
    overwrite: Overwrite = False,
    mistakes: Annotated[
        int, typer.Option("--mistakes", help="Images in mistakes.png, the surest mistakes first; 0 for none.", min=0, max=MOST_MISTAKES)
    ] = 25,
    predictions: Annotated[
        str | None, typer.Option("--predictions", help="Form of the file that lists each image: csv or parquet (default: csv).")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="A column of the data's list: also judge the images of each of its values. Can be repeated."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per forward pass; does not change the result.", min=1)] = 256,
    tta: Annotated[
        str,
        typer.Option(
            "--tta",
            help="Average over views of each image: flips (its mirror image), shifts (both, moved by a pixel each way, too), "
            "ten-crop (corners and centre, and their mirror images), none.",
        ),
    ] = "none",
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Judge a model on labelled images: top-1, top-5 and loss with 95 % intervals, precision, recall and F1 per class, the confusion
    matrix, and how far its confidence can be trusted. Several models are judged on the same images and compared with the first by
    McNemar's exact test.

    -o DIR writes eval.json, confusion.png, confusion.csv, reliability.png, mistakes.png, predictions.csv (or .parquet) and, with --slice,
    slices.csv; of several models eval.json and comparison.png.

    Classes are matched by name. JSON: {"model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class": ({"class",
    "precision", "recall", "f1", "support"}), "confusion": one row per true class, "top1_interval", "top5_interval", "loss_interval":
    low and high, "balanced_accuracy", "macro" and "weighted": {"precision", "recall", "f1"}, "calibration": {"ece", "mce", "brier",
    "temperature", "scaled_ece", "scaled_loss", "bins": ({"low", "high", "count", "confidence", "accuracy"})}, "how", "left_out", "slices":
    {COLUMN: ({"value", "count", "top1", "top1_interval", "loss"})}}; rates are in 0..1. Of several models: {"models": one such object
    each, "comparisons": ({"first", "model", "difference", "interval", "only_first", "only_model", "p", "p_holm"})}.
    """
    if tta not in VIEWS:
        raise UsageError(f"--tta {tta!r} is not one of {', '.join(VIEWS)}", near_miss(tta, list(VIEWS)), path="--tta")
    if predictions is not None and predictions not in FORMATS:
        told = f"--predictions {predictions!r} is not one of {', '.join(FORMATS)}"
        raise UsageError(told, near_miss(predictions, list(FORMATS)), path="--predictions")
    columns = tuple(dict.fromkeys(slices or ()))
    first = JudgeJob(models[0], weights, classes, data, split, classes_subset, batch_size, tta, device, columns)
    return evaluate(Job(_jobs(models, first), out, overwrite, mistakes, predictions, json), data_config, infer_config)


@dataclass(frozen=True)
class Job:
    """Which models are judged on what, and what of it is kept where. predictions: csv, parquet or None for the usual one."""

    jobs: tuple[JudgeJob, ...]
    out: Path | None
    overwrite: bool
    mistakes: int
    predictions: str | None
    json: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data's list by whose values images are judged."""
        return self.jobs[0].columns


def evaluate(job: Job, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Judge, print, and write the files that --out asks for. Exit code 5 when images were left out."""
    for one in job.jobs:
        check_job(one, data_config)
    _check_form(job)
    targets = _targets(job)
    if len(job.jobs) == 1:
        judged = [judge_model(job.jobs[0], data_config, infer_config)]
        written = _one(job, judged[0], targets)
    else:
        judged = judge_models(job.jobs, data_config, infer_config)
        written = _several(job, judged, targets)
    for path in written:
        talk(f"wrote {path}")
    left_out = dict.fromkeys(line for one in judged for line in one.left_out)
    for line in left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if left_out else ExitCode.DONE


def _jobs(models: Sequence[str], first: JudgeJob) -> tuple[JudgeJob, ...]:
    """A job a model. --weights and --classes are for the nets among several models, and left away from trained ones."""
    twice = next((model for number, model in enumerate(models) if model in models[:number]), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice", "name each model once", path=twice)
    trained = [model for model in models if resolve(model).kind == "file"]
    if len(trained) == len(models):
        trained = []  # then no model takes them, which is said of the first
    return tuple(
        replace(first, model=model, weights=None, classes=None) if model in trained else replace(first, model=model) for model in models
    )


def _one(job: Job, judged: Judged, targets: dict[str, Path]) -> list[Path]:
    images = per_image(judged)
    slices = sliced(judged, images, job.columns)
    named: dict[str, Any] = {"model": judged.title, "data": judged.source_name, "split": judged.split, "tta": judged.tta, "how": judged.how}
    result = evaluation_json(judged.judgement, **named, left_out=judged.left_out, slices=slices)
    written = _write(targets, _writers(job, judged, images, slices, result))
    if job.json:
        print_json(result)
    else:
        where = str(targets[RESULT]) if targets else "--json"
        print_evaluation(judged.judgement, **named, slices=slices, all_classes=where)
    return written


def _several(job: Job, judged: Sequence[Judged], targets: dict[str, Path]) -> list[Path]:
    models = [JudgedModel(one.title, one.judgement, one.how) for one in judged]
    comparisons = compared(judged)
    result = {
        "models": [
            evaluation_json(
                one.judgement,
                model=one.title,
                data=one.source_name,
                split=one.split,
                tta=one.tta,
                how=one.how,
                left_out=one.left_out,
                slices=sliced(one, per_image(one), job.columns),
            )
            for one in judged
        ],
        "comparisons": [comparison_json(c) for c in comparisons],
    }
    title = f"{judged[0].source_name}, {judged[0].split}: {judged[0].judgement.count:,} images; lines are 95 % intervals"
    writers: dict[str, Callable[[Path], None]] = {
        COMPARISON: lambda path: draw_models(path, models, title),
        RESULT: lambda path: _write_json(path, result),
    }
    written = _write(targets, writers)
    if job.json:
        print_json(result)
    else:
        print_models(models, comparisons, data=judged[0].source_name, split=judged[0].split, tta=judged[0].tta)
    return written


def compared(judged: Sequence[Judged]) -> list[Comparison]:
    """Each model against the first, on the images that both were given, with p values after Holm's correction."""
    import torch

    from cnncli.engine.paired import compare, holm

    first, found = judged[0], []
    place = {name: row for row, name in enumerate(first.names)}
    for other in judged[1:]:
        common = [(place[name], row) for row, name in enumerate(other.names) if name in place]
        own, rows = (torch.tensor(numbers) for numbers in zip(*common, strict=True))
        order = torch.tensor([other.classes.index(name) for name in first.classes])
        found.append(compare(first.scores[own], other.scores[rows][:, order], first.labels[own]))
    values = holm([paired.p for paired in found])
    return [Comparison(first.title, other.title, paired, p) for other, paired, p in zip(judged[1:], found, values, strict=True)]


def sliced(judged: Judged, images: PerImage, columns: Sequence[str]) -> Slices:
    """For each of these columns of the data's list, how the model does on the images of each value."""
    from cnncli.engine.slices import by_value

    hits, losses = images.correct.tolist(), images.loss.tolist()
    values = {column: [judged.columns[column].get(name) for name in judged.names] for column in columns}
    return {column: by_value(found, hits, losses, order="value", most=None) for column, found in values.items()}


def _check_form(job: Job) -> None:
    """What --predictions and --slice need."""
    if job.predictions is not None and job.out is None:
        raise UsageError("--predictions needs a folder to write to", "say where: --out DIR", path="--predictions")
    if len(job.jobs) > 1 and job.predictions is not None:
        raise UsageError("--predictions lists the images of one model", "judge the models one by one", path="--predictions")
    if job.predictions == "parquet" and find_spec("pyarrow") is None:
        raise EnvironmentFault("--predictions parquet needs the package pyarrow", 'pip install "cnncli[parquet]"', path="--predictions")


def _targets(job: Job) -> dict[str, Path]:
    """The files that --out asks for, checked before any work. eval.json is written last: where it is, all are."""
    if job.out is None:
        return {}
    if os.path.lexists(job.out) and not job.out.is_dir():
        raise UsageError(f"--out {job.out} is a file", "give a folder", path=str(job.out))
    names = [COMPARISON]
    if len(job.jobs) == 1:
        names = [CONFUSION, MATRIX, RELIABILITY, *([MISTAKES] if job.mistakes else []), f"{PREDICTIONS}.{job.predictions or FORMATS[0]}"]
        names += [SLICES] if job.columns else []
    for path in (job.out / name for name in (RESULT, *names)):
        if os.path.lexists(path) and not job.overwrite:
            raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "give another --out", path=str(path))
    check_folder(job.out)
    return {name: job.out / name for name in (*names, RESULT)}


def _writers(job: Job, judged: Judged, images: PerImage, slices: Slices, result: dict[str, Any]) -> dict[str, Callable[[Path], None]]:
    """How each file of a model is written."""
    from cnncli.reports.confusion import draw_confusion, write_confusion
    from cnncli.reports.mistakes import draw_mistakes, worst
    from cnncli.reports.reliability import draw_reliability

    judgement, title = judged.judgement, f"{judged.title} on {judged.source_name}, {judged.split}"

    def gallery(path: Path) -> None:
        found = worst(judged, job.mistakes, images)
        told = f"{title}: {judgement.count - int(images.correct.sum()):,} of {judgement.count:,} images are taken for another class"
        draw_mistakes(path, found, judged.thumbnail, told)

    made: dict[str, Callable[[Path], None]] = {
        CONFUSION: lambda path: draw_confusion(path, judgement, f"{title}: {judgement.top1:.1%}"),
        MATRIX: lambda path: write_confusion(path, judgement),
        RELIABILITY: lambda path: draw_reliability(path, judgement, title),
        MISTAKES: gallery,
        f"{PREDICTIONS}.csv": lambda path: write_csv(path, judged, images),
        f"{PREDICTIONS}.parquet": lambda path: write_parquet(path, judged, images),
        SLICES: lambda path: write_slices(path, slices),
        RESULT: lambda path: _write_json(path, result),
    }
    if not judged.pictured:
        del made[MISTAKES]
    if not judged.pictured and job.mistakes and job.out:
        talk(f"note: no {MISTAKES}: {judged.source_name} is streamed, so its images are not at hand")
    return made


def _write(targets: dict[str, Path], writers: dict[str, Callable[[Path], None]]) -> list[Path]:
    """Write each target that there is a writer for."""
    from cnncli import atomic

    wanted = {name: path for name, path in targets.items() if name in writers}
    for name, path in wanted.items():
        atomic.make_folder(path.parent)
        writers[name](path)
    return list(wanted.values())


def _write_json(path: Path, result: dict[str, Any]) -> None:
    from cnncli import atomic

    atomic.write_text(path, json_text(result))
