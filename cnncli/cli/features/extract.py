"""`cnn features extract`: run a model on many images and keep what some of its layers say of them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.features.job import SetJob, of_set
from cnncli.cli.options import Json, Overwrite, with_settings
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.reports.features import extraction_json, layers_json, print_extraction, print_layers
from cnncli.reports.terminal import mute, print_json, talk

if TYPE_CHECKING:
    from cnncli.cli.features.computing import Computation
    from cnncli.features.parts import Parts

ModelAlone = Annotated[
    str,
    typer.Argument(metavar="model", help="A run folder, a model file, a net (`cnn models` lists them), torchvision/NAME, timm/NAME."),
]
DTYPES = ("float32", "float16")
PATIENCE = 600.0  # seconds without a block from any other process


@with_settings(data_config=DataConfig, infer_config=InferConfig)
@of_set(meanings={"what": ModelAlone})
def command(
    job: SetJob,
    data_config: DataConfig,
    infer_config: InferConfig,
    list_layers: Annotated[bool, typer.Option("--list-layers", help="Print the layers' names and sizes, and nothing else.")] = False,
    dtype: Annotated[str, typer.Option("--dtype", help="Numbers in the file: float32, or float16 in half of the room.")] = "float32",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file: .npz, .npy (one layer), .safetensors or .parquet.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Run a model on images and keep the numbers of some layers, with the images' paths, labels and splits beside them.

    A layer has the name that the paper and `cnn shape` give it (fc7, pool5, conv5_3, inception_4a, conv4_x.block2) or torch's path
    (layer4.1, features.12); NAME:input is what it is given, NAME#2 its second run. --list-layers shows all. Numbers are taken after
    the activation function that directly follows a layer, perhaps behind a batch norm, as Caffe's blobs are.

    A killed extraction goes on when the same command is given again. Under torchrun every process computes its part.

    -o FILE.npz: arrays under the layers' names beside labels, paths, splits, classes and about; FILE.npy: one array, with
    FILE.npy.jsonl, a line an image; .npz, .npy and .safetensors are mapped, not read, by the other commands of `cnn features`.

    JSON: {"model", "data", "split", "count", "file", "spaces": ({"name", "kind", "shape", "layer", "pool", "activation"}), "random": the
    seed of random weights or null, "how", "seconds", "images_per_second", "left_out"}; with --list-layers: {"model", "random", "layers":
    ({"name", "operation", "shape", "active", "runs"})}.
    """
    if list_layers:
        return show_layers(job, as_json=json)
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is not one of {', '.join(DTYPES)}", near_miss(dtype, list(DTYPES)), path="--dtype")
    if job.data is None:
        raise UsageError("features are of images", "say where they are: --data FOLDER", path="--data")
    if out is None:
        raise UsageError("features go to a file", "say which: -o features.npz", path="--out")
    return extract_to(ExtractJob(job, out, overwrite, dtype, json), data_config, infer_config)


@dataclass(frozen=True)
class ExtractJob:
    """Which features go to which file."""

    features: SetJob
    out: Path
    overwrite: bool
    dtype: str
    json: bool


def show_layers(job: SetJob, *, as_json: bool) -> int:
    """Print the layers of a model: names, sizes, and which activation follows."""
    from cnncli.cli.features.computing import open_model
    from cnncli.engine.device import choose_device

    opened, layers = open_model(job, choose_device(job.device), quiet=True)
    if as_json:
        print_json(layers_json(job.what, opened.seed, layers.all))
    else:
        print_layers(job.what, layers.all)
    return ExitCode.DONE


def extract_to(job: ExtractJob, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Compute and write. Exit code 5 when images were left out."""
    import time

    from cnncli.features.beside import Content
    from cnncli.features.files import check_target, write_features

    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank:
        mute()  # the first one talks for all
    check_target(job.out, max(1, len(job.features.layers)) + len(job.features.baselines), overwrite=job.overwrite)

    from cnncli.cli.features.computing import prepare

    features = job.features
    if ranks > 1 and features.device == "auto":
        features = replace(features, device=_own_device())
    computation = prepare(features, data_config, infer_config)
    check_target(job.out, len(computation.spaces), overwrite=job.overwrite)
    began = time.perf_counter()
    parts, there = _opened(job, computation, infer_config, ranks)
    if there and rank == 0:
        talk(f"going on: {there} of {parts.count} blocks are there")
    computed = _compute(job, computation, parts, rank, ranks)
    seconds = time.perf_counter() - began
    if rank:
        return ExitCode.DONE
    parts.wait(PATIENCE)
    found = computation.finished(parts.rows(), {})
    write_features(job.out, Content(found, parts.chunks, job.dtype))
    parts.remove()
    result = extraction_json(
        model=features.what,
        data=computation.source.name,
        split=computation.split,
        features=found,
        file=str(job.out),
        how="; ".join(dict.fromkeys(computation.hows)),
        seconds=seconds,
        computed=computed,
        left_out=computation.left_out,
    )
    if job.json:
        print_json(result)
    else:
        print_extraction(result)
    for line in computation.left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if computation.left_out else ExitCode.DONE


def _compute(job: ExtractJob, computation: Computation, parts: Parts, rank: int, ranks: int) -> int:
    """Compute the blocks of this process that are not there yet; how many images these had."""
    from cnncli.features.extract import extract
    from cnncli.reports.decoding import DecodingReport

    own = [number for number in parts.missing() if number * ranks // parts.count == rank]
    if not own:
        return 0
    total = round(computation.count * len(own) / parts.count)
    done = 0
    with DecodingReport("computing features") as report:

        def told(images: int) -> None:
            nonlocal done
            done += images
            if rank == 0:
                report.show(min(done, total), total)

        for number, block in extract(computation.embedders, computation.batches, dtype=job.dtype, wanted=own, on_batch=told):
            parts.write(number, block)
    return done


def _opened(job: ExtractJob, computation: Computation, infer_config: InferConfig, ranks: int) -> tuple[Parts, int]:
    """The blocks that are there of an extraction that was cut off, if it was the same one."""
    from cnncli.features.extract import blocks_of
    from cnncli.features.parts import open_parts

    origin, spaces = asdict(computation.origin), [asdict(space) for space in computation.spaces]
    plan: dict[str, Any] = {
        **{name: origin[name] for name in ("digest", "random", "data", "split", "preprocess")},
        "images": computation.source.fingerprint(),
        "layers": [space | {"shape": list(space["shape"])} for space in spaces],
        "dtype": job.dtype,
        "batch_size": job.features.batch_size,
        "precision": infer_config.precision,
        "count": computation.count,
        "seed": job.features.seed if job.features.baselines else 0,
    }
    if ranks > 1 and job.overwrite:
        talk("note: in several processes --overwrite keeps what was computed")
    return open_parts(job.out, plan, blocks_of(computation.batches), anew=job.overwrite and ranks == 1)


def _own_device() -> str:
    """The GPU of this process under torchrun, as far as there are enough."""
    import torch

    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    return f"cuda:{local % count}" if count else "cpu"
