"""Computing features: the model, its layers and the images of a job, made ready; and the numbers in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnncli.cli.features.job import RANDOM, SetJob
from cnncli.cli.features.sets import Gathered, title_of
from cnncli.cli.judging import thumbnails, with_fractions
from cnncli.cli.options import open_data
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import EnvironmentFault, InputError, printable
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch

    from cnncli.data.held import Held
    from cnncli.data.loader import Batch, Loader
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.source import Sample, Source
    from cnncli.engine.layers import Layers
    from cnncli.engine.tapped import Wanted
    from cnncli.features.extract import Embedder
    from cnncli.features.feature_set import Array, FeatureSet, Origin, Space
    from cnncli.models.looking import Opened

MEMORY_SHARE = 0.5  # of what is available, that features may take; the rest is for the model, the images and what is made of them


@dataclass(frozen=True)
class Looked:
    """A model and the layers of it that are wanted. activations: of each, `after` or `before`; "" where no activation function follows."""

    opened: Opened
    layers: Layers
    wanted: tuple[Wanted, ...]
    activations: tuple[str, ...]

    @property
    def spaces(self) -> tuple[Space, ...]:
        """Of the layers."""
        from cnncli.features.feature_set import Space

        return tuple(
            Space(one.name, "layer", one.shape, one.layer, one.pool, activation)
            for one, activation in zip(self.wanted, self.activations, strict=True)
        )


def open_model(job: SetJob, device: torch.device, *, quiet: bool = False) -> tuple[Opened, Layers]:
    """The model of a job, and the layers it has. quiet: do not say that weights are random."""
    from cnncli.engine.layers import layers_of
    from cnncli.models.looking import check_looking, open_to_look

    spec = resolve(job.what)
    check_looking(spec, job.weights, job.classes)
    tell: Callable[[str], None] = (lambda _: None) if quiet else talk
    opened = open_to_look(spec, job.weights, classes=job.classes, seed=job.seed, device=str(device), tell=tell)
    form = opened.info.preprocess
    return opened, layers_of(opened.model, (form.channels, form.height, form.width))


def look(job: SetJob, device: torch.device) -> Looked:
    """The model of a job and the taps of its layers; the last before the classifier where none is named."""
    from cnncli.engine.tapped import Wanted
    from cnncli.models.head import find_by_running

    opened, layers = open_model(job, device)
    pool: Any = job.pool
    if job.layers:
        activation: Any = job.activation
        named = {name: layers.called(name, talk) for name in job.layers}
        wanted = [Wanted(name, layers.find(own, activation), pool, own) for name, own in named.items()]
    else:
        form = opened.info.preprocess
        head = find_by_running(opened.model, (form.channels, form.height, form.width), what=job.what)
        name, tap = layers.last(head.path)
        wanted = [Wanted(name, tap, pool, name)]
        talk(f"layer: {name}, the last before the classifier ({head.path})")
    activations = [job.activation if layers.find(one.layer, "before") != layers.find(one.layer, "after") else "" for one in wanted]
    return Looked(opened, layers, tuple(wanted), tuple(activations))


@dataclass(frozen=True)
class Computation:
    """All that is needed to compute features. spaces: in the order of the result. pixels: images, of which some may turn out unreadable."""

    job: SetJob
    source: Source
    split: str
    preprocess: Preprocess
    pixels: Held
    batches: Loader
    makers: tuple[Callable[[torch.Tensor], Embedder], ...]
    spaces: tuple[Space, ...]
    origin: Origin
    title: str
    max_pixels: int
    hows: list[str]

    @cached_property
    def embedders(self) -> tuple[Embedder, ...]:
        """Made with the first images that can be read."""
        batches: Iterator[Batch] = self.batches.epoch(0)
        first = next(batches, None)
        batches.close()  # type: ignore[attr-defined] # a generator, whose threads end with it
        if first is None:
            raise InputError(f"no image of {printable(self.source.name)}, split {self.split}, could be read", path=self.source.name)
        return tuple(make(first.images) for make in self.makers)

    @property
    def count(self) -> int:
        """Images, before any turns out unreadable."""
        return len(self.pixels)

    def finished(self, rows: Sequence[int] | Array, arrays: dict[str, Array]) -> FeatureSet:
        """The set of the images that were read: rows, indices into the pixels' samples, and their numbers."""
        import numpy as np

        from cnncli.features.feature_set import UNLABELLED, FeatureSet

        samples = [self.pixels.samples[row] for row in np.asarray(rows).tolist()]
        labels = [UNLABELLED if self.job.unlabelled else sample.label for sample in samples]
        splits = _splits(self.source, self.split, [] if self.job.unlabelled else self.pixels.samples)
        return FeatureSet(
            arrays,
            self.spaces,
            np.array(labels, dtype=np.int64),
            () if self.job.unlabelled else self.source.classes,
            tuple(sample.path for sample in samples),
            tuple(splits[row] if splits else "" for row in np.asarray(rows).tolist()),
            self.origin,
        )

    def thumbnail(self, features: FeatureSet, rows: Array) -> Callable[[int, int], Any]:
        """(row of the features, side) -> the image; see `Gathered`."""
        samples = [self.pixels.samples[row] for row in rows.tolist()]
        assert len(samples) == len(features)
        return thumbnails(self.source, samples, self.preprocess, self.max_pixels)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Why images are missing."""
        return tuple(error.message for error in self.pixels.bad)


def prepare(
    job: SetJob,
    data_config: DataConfig,
    infer_config: InferConfig,
    *,
    source: Source | None = None,
    looked: Looked | None = None,
    baselines_alone: bool = False,
) -> Computation:
    """Open the model and the images of a job.

    source: the images, where they are at hand already; looked: the model likewise. baselines_alone: without the model's own layers.
    """
    from cnncli.engine.device import choose_device

    device = choose_device(job.device)
    looked = look(job, device) if looked is None else looked
    info = looked.opened.info
    config = with_fractions(data_config, info)
    if source is None:
        source = open_source_of(job, config)
    kinds = tuple(word for word in job.baselines if word != "random" or looked.opened.seed is None)
    makers, spaces, hows = _embedders(looked, kinds, infer_config, job.seed, device, own=not baselines_alone)
    split = "all" if job.unlabelled else job.split
    pixels, batches = _images(source, split, info.preprocess, config, job.batch_size, device)
    title = title_of(job.what, source.name, random=looked.opened.seed is not None)
    return Computation(
        *(
            job,
            source,
            split,
            info.preprocess,
            pixels,
            batches,
            makers,
            spaces,
            _origin(job, looked, config),
            title,
            config.max_pixels,
            hows,
        )
    )


def open_source_of(job: SetJob, config: DataConfig) -> Source:
    """The images of a job, labelled or not."""
    assert job.data is not None
    if not job.unlabelled:
        return open_data(job.data, replace(config, allow_empty=True))
    from cnncli.data.unlabelled import open_unlabelled

    source = open_unlabelled(job.data, include_hidden=config.include_hidden)
    for notice in source.notices:
        talk(f"note: {notice}")
    return source


def compute(job: SetJob, data_config: DataConfig, infer_config: InferConfig) -> Gathered:
    """The features of a job, computed now, in memory."""
    return in_memory(prepare(job, data_config, infer_config))


def in_memory(computation: Computation) -> Gathered:
    """Compute all. EnvironmentFault where the numbers do not fit into memory."""
    import numpy as np

    from cnncli.features.extract import extract
    from cnncli.reports.decoding import DecodingReport

    _check_memory(computation)
    arrays = {space.name: np.empty((computation.count, *space.shape), dtype=np.float32) for space in computation.spaces}
    rows: list[Array] = []
    done = 0
    with DecodingReport("computing features") as report:

        def told(images: int) -> None:
            nonlocal done
            done += images
            report.show(done, computation.count)

        for _, block in extract(computation.embedders, computation.batches, on_batch=told):
            first = sum(map(len, rows))
            for name, numbers in block.arrays.items():
                arrays[name][first : first + len(block.rows)] = numbers
            rows.append(block.rows)
    read = np.concatenate(rows)
    features = computation.finished(read, {name: array[: len(read)] for name, array in arrays.items()})
    how = "; ".join(dict.fromkeys(computation.hows))
    return Gathered(features, computation.title, computation.thumbnail(features, read), computation.left_out, how)


# ---- the parts ----


def digest_of(opened: Opened) -> str:
    """sha256 of a model's weights."""
    from cnncli.models.tensorfile import digest

    return digest("", {name: tensor.cpu() for name, tensor in opened.model.state_dict().items()})


def _origin(job: SetJob, looked: Looked, config: DataConfig) -> Origin:
    from cnncli.features.feature_set import Origin

    opened = looked.opened
    return Origin(
        model=job.what,
        weights=job.weights,
        classes=job.classes,
        digest=digest_of(opened),
        random=opened.seed,
        data=job.data or "",
        data_root=config.data_root,
        split=job.split,
        unlabelled=job.unlabelled,
        preprocess=opened.info.preprocess.to_json(),
    )


def _embedders(
    looked: Looked, kinds: Sequence[str], config: InferConfig, seed: int, device: torch.device, *, own: bool
) -> tuple[tuple[Callable[[torch.Tensor], Embedder], ...], tuple[Space, ...], list[str]]:
    """What computes the layers and the baselines, given the first images; and their spaces."""
    from cnncli.engine.tapped import prepared
    from cnncli.features.extract import OfModel
    from cnncli.models.looking import drawn

    hows: list[str] = []

    def of_model(model: torch.nn.Module, spaces: tuple[Space, ...]) -> Callable[[torch.Tensor], Embedder]:
        def make(images: torch.Tensor) -> Embedder:
            forward = prepared(model, looked.wanted, images, config.precision, device)
            hows.append(forward.how)
            return OfModel(spaces, forward)

        return make

    makers = [of_model(looked.opened.model, looked.spaces)] if own else []
    spaces = list(looked.spaces) if own else []
    for kind in kinds:
        if kind == "random":
            made = tuple(replace(space, name=space.name + RANDOM, kind="random") for space in looked.spaces)
            makers.append(of_model(drawn(looked.opened.info, seed).to(device), made))
            spaces += made
            continue
        embedder = _of_pixels(kind, looked.opened.info.preprocess)
        makers.append(lambda _images, found=embedder: found)  # type: ignore[misc] # bound now: the loop goes on
        spaces += embedder.spaces
    return tuple(makers), tuple(spaces), hows


def _of_pixels(kind: str, preprocess: Preprocess) -> Embedder:
    """What computes a baseline that takes no model."""
    from math import prod

    from cnncli.features.baselines import hog, hog_size, pixel_space, pixels
    from cnncli.features.extract import OfPixels
    from cnncli.features.feature_set import Space

    if kind == "pixels":
        return OfPixels(Space("pixels", "pixels", (prod(pixel_space(preprocess)),)), preprocess, pixels)
    size = preprocess.channels, preprocess.height, preprocess.width
    return OfPixels(Space("hog", "hog", (hog_size(*size),)), preprocess, hog)


def _images(
    source: Source, split: str, preprocess: Preprocess, config: DataConfig, batch_size: int, device: torch.device
) -> tuple[Held, Loader]:
    from cnncli.data.loader import Loader
    from cnncli.data.store import open_pixels
    from cnncli.reports.decoding import DecodingReport

    config = config.for_one_pass(len(source.samples(split)))
    with DecodingReport("decoding images") as report:
        pixels = open_pixels(source, split, preprocess, config, tell=talk, on_progress=report.show)
    return pixels, Loader(pixels, preprocess, batch_size=batch_size, device=device, threads=config.workers)


def _splits(source: Source, split: str, samples: Sequence[Sample]) -> list[str]:
    """The split of each sample; they lie in the source's order, some of them left out."""
    if split != "all":
        return [split] * len(samples)
    names = {id(sample): name for name, own in source.splits.items() for sample in own}
    return [names[id(sample)] if names[id(sample)] != "all" else "" for sample in samples]


def _check_memory(computation: Computation) -> None:
    from cnncli.data.pixels import available_memory

    needed = 4 * computation.count * sum(space.size for space in computation.spaces)
    available = available_memory()
    if available is not None and needed > MEMORY_SHARE * available:
        told = f"the features of {computation.count:,} images need {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are available"
        raise EnvironmentFault(
            told, "`cnn features extract ... -o FILE.npy` writes them to a file, which is mapped", path=computation.job.what
        )
