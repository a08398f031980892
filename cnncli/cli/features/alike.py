"""Features of further images, or in further spaces, computed as those of a set were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cnncli.cli.features.computing import digest_of, in_memory, look, open_source_of, prepare
from cnncli.cli.features.job import SetJob
from cnncli.cli.features.sets import Gathered, title_of
from cnncli.cli.judging import thumbnails
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import CnnError, InputError, UsageError, printable
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from cnncli.data.source import Sample, Source
    from cnncli.features.feature_set import FeatureSet, Origin
    from cnncli.models.looking import Opened


def beside_file(
    job: SetJob, features: FeatureSet, missing: tuple[str, ...], data_config: DataConfig, infer_config: InferConfig, *, pictures: bool
) -> Gathered:
    """The set of a file, with the baselines that it has not computed for its images. InputError where these are not where they were.

    pictures: whether thumbnails are wanted; there are none where the images are gone.
    """
    import numpy as np

    from cnncli.data.preprocess import Preprocess

    origin = features.origin
    title = title_of(origin.model or job.what, job.data or origin.data or "images", random=origin.random is not None)
    like = _like(job, origin)
    missing = tuple(word for word in missing if word != "random" or origin.random is None)
    if not missing and not pictures:
        return Gathered(features, title, None)
    if data_config.data_root is None and job.data is None:
        data_config = replace(data_config, data_root=origin.data_root)
    try:
        found = _found(like, features, data_config)
    except CnnError as error:
        if not missing:
            return Gathered(features, title, None)
        hint = f"say where they are, --data, or leave out --baselines {','.join(missing)}: --baselines none"
        raise InputError(f"the images of {printable(job.what)} are not there: {error.message}", hint, path=job.what) from error
    source, samples = found
    own = Preprocess.from_json(origin.preprocess) if origin.preprocess else None
    thumbnail = thumbnails(source, samples, own, data_config.max_pixels) if own else None
    if not missing or own is None:
        return Gathered(features, title, thumbnail)
    talk(f"note: computing {', '.join(missing)} for {len(features):,} images, which {printable(job.what)} does not hold")
    again = replace(_of_layers(like, features), baselines=missing, split="all")
    chosen = replace(source, splits={"all": tuple(samples)}, derived=False)
    config = replace(data_config, bad_images="error")
    computed = in_memory(prepare(again, config, infer_config, source=chosen, baselines_alone=True))
    extra = computed.features.spaces
    arrays = {**features.arrays, **{space.name: np.asarray(computed.features.arrays[space.name]) for space in extra}}
    features = replace(features, spaces=(*features.spaces, *extra), arrays=arrays)
    return Gathered(features, title, thumbnail, how=computed.how)


def _like(job: SetJob, origin: Origin) -> SetJob:
    """The job that computes features as those of a file were."""
    where = job.data if job.data is not None else origin.data
    weights = "random" if origin.random is not None and origin.weights is None else origin.weights
    return replace(
        job,
        what=origin.model,
        weights=weights if _kind(origin.model) != "file" else None,
        classes=origin.classes,
        data=where,
        unlabelled=origin.unlabelled,
        seed=job.seed if origin.random is None else origin.random,
    )


def _of_layers(job: SetJob, features: FeatureSet) -> SetJob:
    """The job that takes the layers of a set as it does. One pooling holds for all, and one activation for those that one follows."""
    layers = [space for space in features.spaces if space.kind == "layer"]
    activation = next((space.activation for space in layers if space.activation), job.activation)
    pool = layers[0].pool if layers else job.pool
    return replace(job, layers=tuple(space.name for space in layers), pool=pool, activation=activation)


def _kind(model: str) -> str:
    """The kind of the spec, "" where there is no model of this name here."""
    try:
        return resolve(model).kind
    except (InputError, UsageError):
        return ""


def _found(job: SetJob, features: FeatureSet, config: DataConfig) -> tuple[Source, list[Sample]]:
    """The source of a file's images, and their samples in its order. InputError where one is not there any more."""
    if not job.data:
        raise InputError("it does not say where they are")
    source = open_source_of(job, replace(config, allow_empty=True))
    known: dict[str, list[Sample]] = {}
    for sample in source.samples("all"):
        known.setdefault(sample.path, []).append(sample)
    samples = []
    for path in features.paths:
        here = known.get(path)
        if not here:
            raise InputError(f"{printable(source.name)} has no image {printable(path)}", path=path)
        samples.append(here.pop(0) if len(here) > 1 else here[0])
    return source, samples


def compute_like(job: SetJob, gathered: Gathered, images: Sequence[str], data_config: DataConfig, infer_config: InferConfig) -> Gathered:
    """The features of other images, in the spaces of `gathered`."""
    from cnncli.data.unlabelled import open_files
    from cnncli.engine.device import choose_device
    from cnncli.features.files import is_feature_file

    features = gathered.features
    like = _like(job, features.origin) if is_feature_file(job.what) else job
    kinds = tuple(dict.fromkeys(space.kind for space in features.spaces if space.kind != "layer"))
    like = replace(_of_layers(like, features), baselines=kinds, unlabelled=True, data="")
    if not features.origin.model:
        raise InputError(f"{printable(job.what)} does not say of which model its features are", "extract them anew", path=job.what)
    looked = look(like, choose_device(like.device))
    check_digest(looked.opened, features.origin, job.what)
    config = replace(data_config, bad_images="error")
    found = in_memory(prepare(like, config, infer_config, source=open_files(images), looked=looked))
    order = {space.name: found.features.arrays[space.name] for space in features.spaces if space.name in found.features.arrays}
    spaces = tuple(space for space in features.spaces if space.name in order)
    return replace(found, features=replace(found.features, arrays=order, spaces=spaces))


def check_digest(opened: Opened, origin: Origin, what: str) -> None:
    """InputError unless the model has the weights of which a file's features are."""
    if origin.digest and digest_of(opened) != origin.digest:
        told = f"{printable(origin.model)} has other weights than those of which {printable(what)} holds features"
        raise InputError(told, "extract the features again", path=what)
