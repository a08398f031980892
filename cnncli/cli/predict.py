"""`cnn predict`: classify images with a trained model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite, Weights, with_settings
from cnncli.cli.predicting import PredictConfig, look_ahead, predict
from cnncli.cli.prediction_output import Form, Output
from cnncli.engine.config import InferConfig
from cnncli.errors import UsageError
from cnncli.models.published import check_weights
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk, write_result

if TYPE_CHECKING:
    from torch import Tensor

    from cnncli.engine.infer import Forward

SUFFIXES: dict[str, Form] = {".csv": "csv", ".jsonl": "json", ".ndjson": "json"}
MOST_WITH_BARS = 4  # images: the bars of more do not fit on a screen
LOOKED_AHEAD = 10_000  # names: whether there are at least so many says what is worth trying to compute them faster


@with_settings(predict_config=PredictConfig, infer_config=InferConfig)
def command(
    model: Annotated[
        str, typer.Argument(help="A run folder, a model file, torchvision/NAME, timm/NAME, or a net of the zoo with --weights.")
    ],
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns in quotes, or - for standard input (an image or a list of paths).")
    ],
    predict_config: PredictConfig,
    infer_config: InferConfig,
    weights: Weights = None,
    classes: Classes = None,
    copy_to: Annotated[
        Path | None,
        typer.Option("--copy-to", help="Copy each image into a folder for its class in here; uncertain ones into `uncertain`."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the result to this file instead: .csv, .jsonl, or as --csv or --json say.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    bars: Annotated[
        bool | None, typer.Option("--bars/--no-bars", help="Bars of probability (default: on a terminal, for up to 4 images).")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print a table with commas: path,class,probability,class2,probability2,...")] = False,
    json: Json = False,
) -> int:
    """Classify images: the most probable classes of each, in the order given. Addresses are refused: download first.

    JSON: one line an image, {"path", "predictions": ({"class", "probability"})} or {"path", "error"}; probabilities are in
    0..1. --threshold adds "accepted", false where the best guess is below it; --copy-to adds "copied", the copy's path. In CSV, texts
    that a spreadsheet would take for a formula begin with '. --out is written whole or not at all. Exit code 5 when some images
    could not be read, 3 when none could.
    """
    form = _form(out, csv=csv, json=json)
    if bars and form != "text":
        raise UsageError(f"--bars draws for people, and the result is {form.upper()}", "leave one of them out", path="--bars")
    job = Job(model, tuple(images), weights, classes, copy_to, out, overwrite, device, bars, form)
    return predict_images(job, predict_config, infer_config)


@dataclass(frozen=True)
class Job:
    """Which model is asked about which images, and where its answers go."""

    model: str
    images: tuple[str, ...]
    weights: str | None
    classes: int | None
    copy_to: Path | None
    out: Path | None
    overwrite: bool
    device: str
    bars: bool | None
    form: Form


def predict_images(job: Job, config: PredictConfig, infer_config: InferConfig) -> int:
    """Predict, print or write, and copy. Exit code 5 when images were left out."""
    spec = resolve(job.model)
    check_weights(spec, job.weights, job.classes)
    _check_targets(job)

    from cnncli.data.inputs import expand

    inputs = expand(job.images, getattr(sys.stdin, "buffer", None), left_out=job.copy_to)

    from cnncli.engine.device import choose_device
    from cnncli.engine.infer import prepare
    from cnncli.models.weights import open_model

    place = choose_device(job.device)
    module, info = open_model(spec, job.weights, classes=job.classes, device=str(place), tell=talk)
    images, inputs = look_ahead(inputs, LOOKED_AHEAD)
    how: list[str] = []

    def prepared(example: Callable[[], Tensor]) -> Forward:
        forward = prepare(module, example, infer_config, device=place, images=images)
        how.append(forward.how)
        return forward

    found = predict(
        *(module, info.preprocess, info.classes, inputs),
        top=config.top,
        batch_size=config.batch_size,
        max_pixels=config.max_pixels,
        threads=config.workers,
        views=config.tta,
        prepared=prepared,
    )
    on_terminal = sys.stdout.isatty()
    few = images is not None and images <= MOST_WITH_BARS
    output = Output(
        info.classes,
        job.form,
        top=config.top,
        threshold=config.threshold,
        copy_to=job.copy_to,
        bars=few and on_terminal if job.bars is None else job.bars,
        seen=on_terminal and job.out is None,
    )
    with closing(found):
        if job.out is None:
            output.give(found, write_result)
        else:
            _write(job.out, lambda write: output.give(found, write))
            talk(f"wrote {job.out}: {output.pace} ({how[0]})")
    return output.end()


def _form(out: Path | None, *, csv: bool, json: bool) -> Form:
    """What the result looks like, by the flags and the suffix of --out. UsageError where they contradict each other."""
    if csv and json:
        raise UsageError("--csv and --json are two forms of one result", "leave one of them out", path="--csv")
    asked: Form | None = "csv" if csv else "json" if json else None
    if out is None:
        return asked or "text"
    by_suffix = SUFFIXES.get(out.suffix.lower())
    if by_suffix and asked and by_suffix != asked:
        named = out.with_suffix(next(suffix for suffix, form in SUFFIXES.items() if form == asked))
        raise UsageError(f"--out {out} would hold {asked.upper()}", f"leave --{asked} out, or name it {named}", path="--out")
    if not asked and not by_suffix:
        raise UsageError(f"--out {out} should end in .csv or .jsonl", "or say --csv or --json", path="--out")
    return asked or by_suffix or "text"


def _check_targets(job: Job) -> None:
    """What would be written, before any work."""
    if job.out is not None and job.out.is_dir():
        raise UsageError(f"--out {job.out} is a folder", f"give a file: --out {job.out / 'predictions.csv'}", path="--out")
    if job.out is not None and job.out.exists() and not job.overwrite:
        raise UsageError(f"{job.out} exists", "use --overwrite, or another --out", path=str(job.out))
    if job.copy_to is not None and job.copy_to.exists() and not job.copy_to.is_dir():
        raise UsageError(f"--copy-to {job.copy_to} is a file", "give a folder", path="--copy-to")


def _write(path: Path, give: Callable[[Callable[[str], object]], None]) -> None:
    """Let `give` write the file, whole or not at all. Names that are not UTF-8 keep their bytes."""
    from cnncli import atomic

    def fill(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            give(file.write)

    atomic.make_folder(path.parent)
    atomic.write_with(path, fill)
