"""`cnn export`: a trained model as a file for other programs, checked against the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.judging import choose_split, trained_on, with_data_root, with_fractions
from cnncli.cli.options import Classes, Json, Overwrite, Weights
from cnncli.errors import CnnError, EnvironmentFault, ExitCode, InputError, UsageError, near_miss, printable
from cnncli.models.published import check_weights
from cnncli.models.resolve import BEST, LAST, Spec, resolve
from cnncli.reports.terminal import print_json, talk

if TYPE_CHECKING:
    import torch

    from cnncli.data.source import Source
    from cnncli.models.export import Deployed
    from cnncli.models.exported import Agreement, Run
    from cnncli.models.modelfile import ModelInfo

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
BATCHES = (1, 7, 8)  # one image alone, and two sizes that no part of a graph can have been fixed to
TOLERANCE = 1e-4  # float32 has 7 digits, of which the longest sums of the zoo lose two or three


def command(
    model: Annotated[
        str, typer.Argument(help="A run folder, a model file, torchvision/NAME, timm/NAME, or a net of the zoo with --weights.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file (default: the model's name with .onnx, here).")] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="onnx or torch-export (default: by the file's suffix, .onnx or .pt2; else onnx).")
    ] = None,
    weights: Weights = None,
    classes: Classes = None,
    opset: Annotated[int | None, typer.Option("--opset", help="ONNX operator set (default: 18, which most runtimes read).")] = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing", help="Take uint8 pixels of the net's size and normalise them inside; resize and crop stay outside."
        ),
    ] = False,
    softmax: Annotated[bool, typer.Option("--softmax", help="Give probabilities instead of scores.")] = False,
    data: Annotated[str | None, typer.Option("--data", help="Images to check with (default: what the model was trained on).")] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest difference from the model's output, as a share of the largest one.", min=0)
    ] = TOLERANCE,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Write a model as ONNX or torch.export, run the file on images, and compare it with the model.

    The file takes any number of images, `image` [batch, C, H, W], and gives `scores` [batch, classes] (--softmax: `probabilities`). It
    carries the classes, the preprocessing and the net as metadata. Where its labels or numbers differ from the model's, it is kept as
    FILE.failed and the exit code is 1; nothing else is left of an export that fails. Weights above 2 GB go to FILE.data beside it.

    JSON: {"model", "file", "data_file", "format", "opset", "bytes", "input": {"name", "type", "shape"}, "output": {the same}, "check":
    {"by", "data", "images", "batches", "difference", "largest", "tolerance", "same_labels"}}; `largest` is the model's largest absolute
    output, and a difference up to tolerance x max(1, largest) is allowed.
    """
    spec = resolve(model)
    check_weights(spec, weights, classes)
    title = model if weights is None else f"{model} --weights {weights}"
    target, kind = target_of(spec, out, format)
    if opset is not None and kind != "onnx":
        raise UsageError(f"--opset {opset} is for ONNX, and {target} is not", "leave it out", path="--opset")
    _check_target(target, overwrite=overwrite)
    job = Job(spec, title, weights, classes, target, kind, opset, with_preprocessing, softmax, data, tolerance, overwrite)
    result = export(job)
    if json:
        print_json(result)
    else:
        from cnncli.reports.exported import print_exported

        print_exported(result)
    return ExitCode.DONE


@dataclass(frozen=True)
class Job:
    """Which model is written, where and how, and what it is checked with."""

    spec: Spec
    title: str
    weights: str | None
    classes: int | None
    target: Path
    format: str
    opset: int | None
    with_preprocessing: bool
    softmax: bool
    data: str | None
    tolerance: float
    overwrite: bool


def export(job: Job) -> dict[str, Any]:
    """Write the file and check it; the documented JSON. CnnError when it differs from the model, which leaves FILE.failed."""
    from cnncli.models.exported import need_onnx

    by = need_onnx() if job.format == "onnx" else "torch.export"

    from cnncli.models.export import OPSET, Deployed, check_opset, data_file_of
    from cnncli.models.weights import open_model

    opset = OPSET if job.opset is None else job.opset
    if job.format == "onnx":
        check_opset(opset)
    model, info = open_model(job.spec, job.weights, classes=job.classes, device="cpu", tell=talk)
    images, shown = check_images(job, info)
    module = Deployed(model, info.preprocess, pixels=job.with_preprocessing, softmax=job.softmax).eval()
    data = data_file_of(module, job.target) if job.format == "onnx" else None
    if data is not None:
        _refuse_existing(data, overwrite=job.overwrite)
    agreement = _write(job, module, info, data, opset, lambda run: _checked(job, model, info, run, images))
    return {
        "model": job.title,
        "file": str(job.target),
        "data_file": None if data is None else str(data),
        "format": job.format,
        "opset": opset if job.format == "onnx" else None,
        "bytes": sum(path.stat().st_size for path in (job.target, data) if path is not None),
        "input": {"name": "image", "type": "uint8" if module.pixels else "float32", "shape": ["batch", *module.size]},
        "output": {"name": module.output, "type": "float32", "shape": ["batch", len(info.classes)]},
        "check": {
            "by": by,
            "data": shown,
            "images": agreement.images,
            "batches": list(agreement.batches),
            "difference": agreement.difference,
            "largest": agreement.largest,
            "tolerance": job.tolerance,
            "same_labels": agreement.agree,
        },
    }


def _write(job: Job, module: Deployed, info: ModelInfo, data: Path | None, opset: int, check: Callable[[Run], Agreement]) -> Agreement:
    """The file under its name, when `check` has let it pass."""
    from cnncli import atomic
    from cnncli.models.export import capture, describe, save_onnx, to_onnx, to_torch_export
    from cnncli.models.exported import run_onnx, run_program, write_checked

    program, described = capture(module), describe(info, module)
    graph = to_onnx(program, module, described, opset=opset) if job.format == "onnx" else None

    def save(path: Path, weights: Path | None) -> None:
        if graph is None:
            to_torch_export(program, path, described)
        else:
            save_onnx(graph, path, weights)

    found: list[Agreement] = []
    atomic.make_folder(job.target.parent)
    write_checked(job.target, data, save, lambda path: found.append(check(run_program(path, program) if graph is None else run_onnx(path))))
    return found[0]


def _checked(job: Job, model: Any, info: ModelInfo, run: Run, images: torch.Tensor) -> Agreement:
    """The file beside the model, both fed from the same pixels. Differs, naming the figures, when they do not agree."""
    from cnncli.models.exported import FAILED, Differs, compare

    prepare = info.preprocess.normalise

    def reference(pixels: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = model(prepare(pixels))
        return scores.softmax(dim=1) if job.softmax else scores

    agreement = compare(reference, run if job.with_preprocessing else lambda pixels: run(prepare(pixels)), images, BATCHES)
    if not agreement.holds(job.tolerance):
        wrong, allowed = agreement.images - agreement.agree, agreement.allowed(job.tolerance)
        raise Differs(
            f"{job.target} would differ from the model: outputs by up to {agreement.difference:.2g} ({allowed:.2g} is allowed), labels of"
            f" {wrong} of {agreement.images} images",
            f"it is kept as {job.target}{FAILED}",
            path=str(job.target),
        )
    return agreement


def check_images(job: Job, info: ModelInfo) -> tuple[torch.Tensor, str]:
    """Images to check with, from all over their split, as uint8 [N, C, H, W]; and what they are, in words.

    They come from --data, from what the model was trained on where that is at hand, and else from the digits inside scikit-learn.
    """
    import numpy as np
    import torch

    from cnncli.data.decode import BadImage

    source = _source(job, info)
    split = choose_split(source, "auto")
    samples = source.samples(split)
    wanted = sum(BATCHES)
    found = []
    for sample in samples[:: max(1, len(samples) // wanted)]:
        try:
            found.append(info.preprocess.pixels(source.read(sample, info.preprocess.decoding())))
        except BadImage:
            continue  # another one does as well
        if len(found) == wanted:
            break
    if not found:
        raise InputError(f"no image of {printable(source.name)} could be read", "give others: --data SOURCE", path=source.name)
    return torch.from_numpy(np.stack(found)), f"{source.name}, {split}"


def _source(job: Job, info: ModelInfo) -> Source:
    from cnncli.cli.options import open_data
    from cnncli.data.config import DataConfig

    if job.data is not None:
        return open_data(job.data, with_fractions(DataConfig(), info))
    try:
        if job.spec.kind == "file":
            config, name = with_data_root(with_fractions(DataConfig(), info), job.spec.path), trained_on(job.spec.path, info)
            if _at_hand(name, config.data_root):
                return open_data(name, config)
    except CnnError:
        pass  # moved, or never said where
    if job.spec.kind == "file":
        talk(f"note: what {job.spec.name} was trained on is not at hand; checking with digits")
    return open_data("digits", DataConfig())


def _at_hand(name: str, data_root: str | None) -> bool:
    """Whether a source can be opened without a download."""
    from cnncli.data.named import NAMED
    from cnncli.data.named_source import data_folder
    from cnncli.data.shards.addresses import is_address

    return NAMED[name].is_here(data_folder(data_root)) if name in NAMED else not is_address(name)


def target_of(spec: Spec, out: Path | None, wanted: str | None) -> tuple[Path, str]:
    """The file that is written, and its format. UsageError where they are not known or do not go together."""
    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"--format {wanted!r} is not one of {', '.join(FORMATS)}", near_miss(wanted, list(FORMATS)), path="--format")
    if out is None:
        kind = wanted or "onnx"
        return Path(_name(spec) + FORMATS[kind]), kind
    by_suffix = next((kind for kind, suffix in FORMATS.items() if out.suffix.lower() == suffix), None)
    if wanted is None and by_suffix is None:
        raise UsageError(f"--out {out} ends in neither {' nor '.join(FORMATS.values())}", "end it so, or add --format onnx", path="--out")
    if wanted is not None and by_suffix not in (None, wanted):
        raise UsageError(f"--out {out} has the suffix of --format {by_suffix}, not {wanted}", "leave out --format", path="--out")
    return out, str(wanted or by_suffix)


def _name(spec: Spec) -> str:
    """What to call the file of a model: as its run folder, its model file, or the model in its library."""
    if spec.kind != "file":
        return spec.name.rpartition("/")[2]
    path = spec.path.absolute()
    return path.parent.name if path.name in (BEST, LAST) else path.stem


def _check_target(target: Path, *, overwrite: bool) -> None:
    """What is wrong with the place, before any work is done."""
    reason = "no folder that can be written"
    try:
        if target.is_dir():
            raise UsageError(f"--out {target} is a folder", f"name a file, for example {target}/model.onnx", path=str(target))
        folder = next(folder for folder in target.absolute().parents if folder.exists())
        fine = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:  # too long a name, a loop of links, a folder that may not be entered
        folder, fine, reason = target, False, str(error.strerror)
    if not fine:
        raise EnvironmentFault(f"cannot write {target}: {folder}: {reason}", "choose another place", path=str(target))
    _refuse_existing(target, overwrite=overwrite)


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
