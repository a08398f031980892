"""What the commands of `cnn features` work on: a feature file, or a model and images of which features are computed now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.cli.features.job import RANDOM, SetJob
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import InputError, UsageError, printable
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnncli.features.feature_set import FeatureSet


@dataclass(frozen=True)
class Gathered:
    """Features in memory or mapped.

    features: the layers asked for, then the baselines. title: "MODEL on SOURCE". thumbnail: (row, side) -> the whole image in colour, no
    side longer than `side`; None where the images are not at hand. left_out: why images are missing, a line each. how: in words, how
    they were computed.
    """

    features: FeatureSet
    title: str
    thumbnail: Callable[[int, int], Image] | None
    left_out: tuple[str, ...] = ()
    how: str = ""


def gather(
    job: SetJob, data_config: DataConfig, infer_config: InferConfig, *, pictures: bool = True, deepest_first: bool = False
) -> Gathered:
    """The features of a job: read, or computed now. UsageError and InputError for what does not exist or does not fit.

    pictures: whether thumbnails are wanted, for which the images of a feature file are looked for. deepest_first: of the layers of a file
    that were not named the last one comes first, for commands that look at one.
    """
    from cnncli.features.files import is_feature_file

    if is_feature_file(job.what):
        return _from_file(job, data_config, infer_config, pictures=pictures, deepest_first=deepest_first)
    _refuse_lost_file(job.what)
    if job.data is None:
        raise UsageError("features are of images", "say where they are: --data FOLDER", path="--data")
    from cnncli.cli.features.computing import compute

    return compute(job, data_config, infer_config)


def embed(job: SetJob, gathered: Gathered, images: list[str], data_config: DataConfig, infer_config: InferConfig) -> Gathered:
    """The features of other image files, unlabelled, in the spaces of `gathered`; see `gather`. BadImage for one that cannot be decoded."""
    from cnncli.cli.features.alike import compute_like

    return compute_like(job, gathered, images, data_config, infer_config)


def _refuse_lost_file(what: str) -> None:
    """A feature file that is not there would be taken for an unknown net."""
    from cnncli.features.files import SUFFIXES

    path = Path(what)
    if path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".safetensors":
        raise InputError(f"no such feature file: {printable(what)}", "`cnn features extract` makes them", path=what)


def _from_file(job: SetJob, data_config: DataConfig, infer_config: InferConfig, *, pictures: bool, deepest_first: bool) -> Gathered:
    """The layers of a file that are asked for, and the baselines, which are computed where the file has them not."""
    from cnncli.features.files import read_features

    for flag, given in (("--weights", job.weights), ("--classes", job.classes)):
        if given is not None:
            raise UsageError(f"{flag}: {job.what} says of which model it is", "leave it out", path=flag)
    features = read_features(Path(job.what))
    kinds = ("layer", "random")
    own = [features.space(name) for name in job.layers] or [
        s for s in features.spaces if s.kind in kinds and not s.name.endswith("@random")
    ]
    own = own or list(features.spaces)
    if deepest_first and not job.layers:
        own.reverse()
    names = {space.name for space in own}
    beside = [
        space
        for space in features.spaces
        if space not in own
        and _baseline(space.kind) in job.baselines
        and (space.kind != "random" or space.name.removesuffix(RANDOM) in names)
    ]
    missing = tuple(word for word in job.baselines if word not in {_baseline(space.kind) for space in [*own, *beside]})
    spaces = (*own, *beside)
    features = replace(features, spaces=spaces, arrays={space.name: features.arrays[space.name] for space in spaces})
    if job.split != "all":
        rows = features.rows_of(job.split)
        if not len(rows):
            known = ", ".join(sorted(set(features.splits) - {""})) or "none"
            raise UsageError(f"{job.what} has no images of split {job.split!r}", f"it has {known}", path="--split")
        features = features.only(rows)
    from cnncli.cli.features.alike import beside_file

    return beside_file(job, features, missing, data_config, infer_config, pictures=pictures)


def _baseline(kind: str) -> str:
    return "" if kind == "layer" else kind


def paths_of(job: SetJob, gathered: Gathered) -> list[str]:
    """Where the images of a set are: below its folder, where it is of one."""
    features = gathered.features
    folder = Path(job.data or features.origin.data)
    return [str(folder / path) for path in features.paths] if folder.is_dir() else list(features.paths)


def own_rows(job: SetJob, gathered: Gathered, images: Sequence[str]) -> list[int]:
    """For each image file the row of the set that it is itself; -1 where it is not in it."""
    wanted = {Path(image).resolve(): number for number, image in enumerate(images)}
    names = {Path(image).name for image in images}
    found = [-1] * len(images)
    for row, path in enumerate(paths_of(job, gathered)):
        number = wanted.get(Path(path).resolve()) if Path(path).name in names else None
        if number is not None:
            found[number] = row
    return found


def title_of(model: str, data: str, *, random: bool) -> str:
    """`MODEL on SOURCE`, for people: of paths their last part. random: whether the weights were drawn."""
    shown = [Path(text).name if "/" in text and Path(text).exists() and Path(text).name else text for text in (model, data)]
    return f"{shown[0]}{' (random weights)' if random else ''} on {shown[1]}"


def tell_left_out(gathered: Gathered) -> int:
    """Say which images are missing, and the exit code that this means."""
    from cnncli.errors import ExitCode

    for line in gathered.left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if gathered.left_out else ExitCode.DONE
