"""`cnn report`: everything about a trained model on one HTML page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnncli.cli.judging import JudgeJob, check_job, judge_model
from cnncli.cli.options import Classes, Device, Json, Overwrite, Weights, with_settings
from cnncli.data.config import DataConfig
from cnncli.engine.config import VIEWS, InferConfig
from cnncli.engine.run_folders import RunRecord, is_run, read_run
from cnncli.errors import CnnError, EnvironmentFault, ExitCode, InputError, UsageError, near_miss
from cnncli.models.resolve import BEST, LAST, Spec
from cnncli.reports.terminal import print_json, talk, write_result

if TYPE_CHECKING:
    from torch import nn

    from cnncli.cli.judging import Judged
    from cnncli.models.modelfile import ModelInfo
    from cnncli.reports.page.data import Filters, NetFacts, PageData

NAME = "report.html"
SUFFIXES = (".html", ".htm")
PACKAGES = ("jinja2", "plotly")
THUMBNAIL = 160  # pixels of the longer side


@with_settings(data_config=DataConfig, infer_config=InferConfig)
def command(
    model: Annotated[
        str, typer.Argument(help="A run folder, a model file, torchvision/NAME, timm/NAME, or a net of the zoo with --weights.")
    ],
    data_config: DataConfig,
    infer_config: InferConfig,
    weights: Weights = None,
    classes: Classes = None,
    data: Annotated[str | None, typer.Option("--data", help="Labelled images (default: what the model was trained on).")] = None,
    split: Annotated[
        str, typer.Option("--split", help="train, val, test or all; auto is test where there is one, else val, else all.")
    ] = "auto",
    classes_subset: Annotated[bool, typer.Option("--classes-subset", help="Allow data that lack some of the model's classes.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page (default: RUN/report.html, for other models NAME-report.html here).")
    ] = None,
    overwrite: Overwrite = False,
    mistakes: Annotated[int, typer.Option("--mistakes", help="How many of the worst mistakes are shown.", min=0, max=1000)] = 24,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per forward pass; does not change the result.", min=1)] = 256,
    tta: Annotated[str, typer.Option("--tta", help=f"Views of each image that scores are averaged over: {', '.join(VIEWS)}.")] = "none",
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Judge a model on labelled images and put everything about it on one HTML page: figures with intervals, classes, confusion matrix,
    the worst mistakes, calibration, curves of the training, layers, drawing, first filters, settings.

    The page is one file that asks the network for nothing; it opens without cnn, by mail or from a stick, and prints.

    JSON: {"model", "data", "split", "count", "top1", "top1_interval": [low, high], "left_out", "report", "bytes"}. Exit code 5 when some
    images could not be read.
    """
    if tta not in VIEWS:
        raise UsageError(f"--tta {tta!r} is not one of {', '.join(VIEWS)}", near_miss(tta, list(VIEWS)), path="--tta")
    judging = JudgeJob(model, weights, classes, data, split, classes_subset, batch_size, tta, device)
    return report(Job(judging, out, overwrite, mistakes, json), data_config, infer_config)


@dataclass(frozen=True)
class Job:
    """What is judged, how many mistakes are shown, and where the page goes."""

    judging: JudgeJob
    out: Path | None
    overwrite: bool
    mistakes: int
    json: bool


def report(job: Job, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Judge, write the page and print its path. Exit code 5 when images were left out."""
    spec = check_job(job.judging, data_config)
    target = _target(job, spec)
    for package in PACKAGES:
        import_module(package)  # what is missing is said now, not after minutes of judging
    run = _run_of(spec)
    judged = judge_model(job.judging, data_config, infer_config)

    from cnncli import atomic
    from cnncli.reports.page.page import page_html

    atomic.make_folder(target.parent)
    atomic.write_text(target, page_html(gather(judged, run, mistakes=job.mistakes)))
    for line in judged.left_out:
        talk(f"left out: {line}")
    found = judged.judgement
    if job.json:
        print_json(
            {
                "model": judged.title,
                "data": judged.source_name,
                "split": judged.split,
                "count": found.count,
                "top1": found.top1,
                "top1_interval": [found.top1_interval.low, found.top1_interval.high],
                "left_out": list(judged.left_out),
                "report": str(target),
                "bytes": target.stat().st_size,
            }
        )
    else:
        talk(f"top-1 {found.top1:.2%} of {found.count:,} images")
        write_result(f"{target}\n")
    return ExitCode.SKIPPED if judged.left_out else ExitCode.DONE


def gather(judged: Judged, run: RunRecord | None, *, mistakes: int) -> PageData:
    """All that the page tells. mistakes: how many are shown."""
    from datetime import datetime
    from importlib.metadata import version

    from cnncli.reports.mistakes import worst
    from cnncli.reports.page.data import PageData, Pictured

    shown = worst(judged, mistakes)
    return PageData(
        model=judged.title,
        source=judged.source_name,
        split=judged.split,
        views=judged.tta,
        how=judged.how,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=version("cnncli"),
        judgement=judged.judgement,
        net=net_facts(judged.info),
        run=run,
        filters=first_filters(judged.module),
        mistakes=tuple(Pictured(mistake, judged.thumbnail(mistake.row, THUMBNAIL) if judged.pictured else None) for mistake in shown),
        left_out=judged.left_out,
    )


def net_facts(info: ModelInfo) -> NetFacts | None:
    """The table of a net of ours by walking it, of a library's model by tracing it; None, with a word, where that fails."""
    from cnncli.arch.net import totals, walk
    from cnncli.cli.shape import fitting
    from cnncli.models.describe import describe
    from cnncli.models.description import Description
    from cnncli.reports.page.data import NetFacts

    if info.net is not None:
        found = Description(info.net.name, info.net.paper, info.net.input, info.net.classes, walk(info.net), info.net)
    else:
        size = (info.preprocess.channels, info.preprocess.height, info.preprocess.width)
        try:
            found = describe(info.spec, input=size, classes=len(info.classes))
        except CnnError as error:
            talk(f"note: the page has no table of layers: {error.message}")
            return None
    rows = tuple(fitting(found.rows))
    sums, folded = totals(found.rows, found.input), len(rows) < len(found.rows)
    return NetFacts(found.name, found.paper, found.input, found.classes, rows, sums, folded, found.net, found.notes)


def first_filters(module: nn.Module) -> Filters | None:
    """The weights of the first convolution, where it reads grey or coloured images and is more than a point; else None."""
    import torch

    from cnncli.reports.page.data import Filters

    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            weights = layer.weight.detach().float().cpu().numpy()
            pictures = layer.groups == 1 and weights.shape[1] in (1, 3) and weights[0, 0].size > 1
            return Filters(name, weights) if pictures else None
    return None


def _run_of(spec: Spec) -> RunRecord | None:
    """The training that a model comes from, where it lies in its run folder; None, with a word, where that cannot be read."""
    if spec.kind != "file" or spec.path.name not in (BEST, LAST) or not is_run(spec.path.parent):
        return None
    try:
        run = read_run(spec.path.parent)
    except InputError as error:
        talk(f"note: the page does not tell of the training: {error.message}")
        return None
    for line in run.complaints:
        talk(f"note: {line}")
    return run


def _target(job: Job, spec: Spec) -> Path:
    """Where the page goes; whether it may, and can, is found out before any work."""
    target = job.out if job.out is not None else _usual_target(spec)
    if target.is_dir():
        raise UsageError(f"--out {target} is a folder", f"name the file: -o {target / NAME}", path=str(target))
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {target} should end in {' or '.join(SUFFIXES)}", f"for example -o {target.name}.html", path=str(target))
    if os.path.lexists(target) and not job.overwrite:
        raise UsageError(f"{target} exists", "use --overwrite, or another --out", path=str(target))
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        place = "the current folder" if folder == Path() else str(folder)  # which may be gone: it is not asked for its name
        reason = ": it is a file" if folder.is_file() else ""
        raise EnvironmentFault(f"cannot write in {place}{reason}", "choose another --out", path=str(folder))
    return target


def _usual_target(spec: Spec) -> Path:
    """RUN/report.html for a run folder, else a file here that has the model's name."""
    if spec.kind != "file":
        return Path(f"{spec.text.replace('/', '-')}-{NAME}")
    if Path(spec.text).is_dir():
        return spec.path.parent / NAME
    return Path(f"{spec.path.stem}-{NAME}")
