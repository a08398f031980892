"""`cnn features retrieve`: the images of a set that are most like an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.features.job import SetJob, of_set
from cnncli.cli.features.sets import embed, gather, own_rows, paths_of
from cnncli.cli.options import Json, with_settings
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.reports.terminal import print_json, talk, write_result

if TYPE_CHECKING:
    from cnncli.cli.features.sets import Gathered
    from cnncli.features.nearest import Nearest

METRICS = ("cosine", "l2")


@with_settings(data_config=DataConfig, infer_config=InferConfig)
@of_set("baselines", "batch_size")
def command(
    job: SetJob,
    images: Annotated[list[str], typer.Argument(help="Image files that others are to be like.")],
    data_config: DataConfig,
    infer_config: InferConfig,
    k: Annotated[int, typer.Option("-k", "--nearest", help="How many images for each.", min=1)] = 10,
    metric: Annotated[str, typer.Option("--metric", help="cosine (the angle between vectors) or l2 (their distance).")] = "cosine",
    print0: Annotated[bool, typer.Option("--print0", help="A zero byte after each path instead of a new line, for xargs -0.")] = False,
    json: Json = False,
) -> int:
    """The images of a set that are most like an image, the nearest first: a path a line, ready for a pipe.

    `cnn features extract resnet18 --weights imagenet --data photos --unlabelled -o photos.npz` makes the index once;
    `cnn features retrieve photos.npz query.jpg -k 5 | xargs open` asks it. Of several images, each line is IMAGE, a tab, and the path. The
    image itself is left out where it is in the set.

    JSON: {"model", "data", "layer", "metric", "queries": ({"path", "nearest": ({"path", "class", "distance"})})}; cosine distances are
    1 - cosine.
    """
    if metric not in METRICS:
        raise UsageError(f"--metric {metric!r} is not one of {', '.join(METRICS)}", near_miss(metric, list(METRICS)), path="--metric")
    return retrieve(RetrieveJob(job, tuple(images), k, metric, print0, json), data_config, infer_config)


@dataclass(frozen=True)
class RetrieveJob:
    """Which images are looked for in which set."""

    features: SetJob
    images: tuple[str, ...]
    k: int
    metric: str
    print0: bool
    json: bool


def retrieve(job: RetrieveJob, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Print the nearest images. Exit code 5 when images of the set were left out."""
    gathered = gather(job.features, data_config, infer_config, pictures=False, deepest_first=True)
    queries = embed(job.features, gathered, list(job.images), data_config, infer_config)
    layer, found = _search(job, gathered, queries)
    paths = paths_of(job.features, gathered)
    if job.json:
        print_json(_json(job, gathered, layer, found, paths))
    else:
        end, several = "\0" if job.print0 else "\n", len(job.images) > 1
        for query, rows in zip(job.images, found.indices.tolist(), strict=True):
            for row in rows:
                write_result((f"{query}\t" if several else "") + paths[row] + end)
    for line in gathered.left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if gathered.left_out else ExitCode.DONE


def _search(job: RetrieveJob, gathered: Gathered, queries: Gathered) -> tuple[str, Nearest]:
    """(layer, the nearest) of the first layer of the set."""
    import torch

    from cnncli.features.nearest import nearest

    features = gathered.features
    layer = features.spaces[0].name
    own = torch.tensor(own_rows(job.features, gathered, job.images))
    most = len(features) - int((own >= 0).any())
    if job.k > most:
        told = f"-k {job.k}: the set has {most} {'other ' if most < len(features) else ''}images"
        raise UsageError(told, f"ask for at most {most}", path="-k")
    metric: Any = job.metric
    return layer, nearest(torch.from_numpy(queries.features.matrix(layer)), features.matrix(layer), job.k, metric=metric, own=own)


def _json(job: RetrieveJob, gathered: Gathered, layer: str, found: Nearest, paths: list[str]) -> dict[str, Any]:
    features = gathered.features
    named = [features.classes[label] if label >= 0 else None for label in features.labels.tolist()]
    return {
        "model": features.origin.model or job.features.what,
        "data": job.features.data or features.origin.data,
        "layer": layer,
        "metric": job.metric,
        "queries": [
            {
                "path": query,
                "nearest": [
                    {"path": paths[row], "class": named[row], "distance": distance} for row, distance in zip(rows, distances, strict=True)
                ],
            }
            for query, rows, distances in zip(job.images, found.indices.tolist(), found.distances.tolist(), strict=True)
        ],
    }
