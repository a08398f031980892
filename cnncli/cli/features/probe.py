"""`cnn features probe`: how well classes can be told by the features of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnncli.cli.features.job import SetJob, of_set
from cnncli.cli.features.sets import gather, tell_left_out
from cnncli.cli.options import Json, Overwrite, with_settings
from cnncli.cli.targets import check_files, check_targets
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.reports.terminal import json_text, print_json, talk

PICTURE, RESULT = "probe.png", "probe.json"  # the JSON is written last: where it is, both are


@with_settings(data_config=DataConfig, infer_config=InferConfig)
@of_set("unlabelled", baselines="pixels,hog,random")
def command(
    job: SetJob,
    data_config: DataConfig,
    infer_config: InferConfig,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for probe.png and probe.json (default: none).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Train a linear classifier and look up nearest neighbours on the features of each layer: how well do they tell the classes apart?

    Both learn from the training images; the penalty, k and the distance are chosen on validation images; accuracy is that on test images,
    with its 95 % interval. A split that is missing is taken from others, which is said.

    JSON: {"model", "data", "judged_on", "train", "val", "test", "classes", "spaces": ({"name", "kind", "baseline", "numbers", "linear" and
    "knn": {"accuracy", "interval": low and high, "setting", "over_pixels": {"difference", "interval", "p"} or null}}), "notes"}.
    """
    return run(ProbeJob(job, out, overwrite, json), data_config, infer_config)


@dataclass(frozen=True)
class ProbeJob:
    """Which features are probed, and where what is found goes."""

    features: SetJob
    out: Path | None
    overwrite: bool
    json: bool


def run(job: ProbeJob, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Probe, print, and write the files that --out asks for. Exit code 5 when images were left out."""
    targets = [] if job.out is None else [job.out / name for name in (PICTURE, RESULT)]
    check_targets(job.out, targets, overwrite=job.overwrite)
    check_files(targets)
    gathered = gather(job.features, data_config, infer_config, pictures=False)
    from cnncli import atomic
    from cnncli.features.probe import probe
    from cnncli.reports.probe import draw_probe, print_probe, probe_json

    features = gathered.features
    probed = probe(features, seed=job.features.seed, on_space=lambda name: talk(f"probing {name}"))
    result = probe_json(probed, model=features.origin.model or job.features.what, data=job.features.data or features.origin.data)
    if job.out is not None:
        atomic.make_folder(job.out)
        draw_probe(job.out / PICTURE, probed, gathered.title)
        atomic.write_text(job.out / RESULT, json_text(result))
    if job.json:
        print_json(result)
    else:
        print_probe(probed, gathered.title)
    for name in (PICTURE, RESULT) if job.out is not None else ():
        talk(f"wrote {job.out / name}")  # type: ignore[operator] # not None
    return tell_left_out(gathered)
