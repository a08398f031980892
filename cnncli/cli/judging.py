"""Judging models on labelled images: what `cnn eval` and `cnn report` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.cli.options import open_images_of
from cnncli.data.config import DataConfig
from cnncli.errors import InputError, UsageError, near_miss, printable
from cnncli.models.published import check_weights
from cnncli.models.resolve import Spec, resolve
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from cnncli.data.held import Held
    from cnncli.data.loader import Batch
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.shards.remote import RemoteShards
    from cnncli.data.shards.stream import ShardStream
    from cnncli.data.source import Sample, Source
    from cnncli.engine.config import InferConfig
    from cnncli.engine.metrics import Judgement
    from cnncli.models.modelfile import ModelInfo


@dataclass(frozen=True)
class JudgeJob:
    """Which model is judged on what.

    data: None for what the model was trained on. split: train, val, test, all or auto (see `choose_split`).
    classes_subset: data may lack some of the model's classes. tta: the views that scores are averaged over.
    columns: those that the data's list must have.
    """

    model: str
    weights: str | None = None
    classes: int | None = None
    data: str | None = None
    split: str = "auto"
    classes_subset: bool = False
    batch_size: int = 256
    tta: str = "none"
    device: str = "auto"
    columns: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The model as it was asked for, in results."""
        return self.model if self.weights is None else f"{self.model} --weights {self.weights}"


@dataclass(frozen=True)
class Judged:
    """A model and what it said of N labelled images; a row is an image, in the order of the source.

    how: how it was computed, in words. scores: float32 [N, K] on the CPU. labels: int64 [N], indices into the model's classes.
    names: of the images, as the source has them; of remote shards `SHARD#PLACE`.
    thumbnail: (row, side) -> the whole image in colour, no side longer than `side` pixels; only where `pictured`.
    left_out: why images are missing, a line each. columns: what a list says of each image, by the images' names.
    """

    title: str
    info: ModelInfo
    module: nn.Module
    source_name: str
    split: str
    tta: str
    how: str
    scores: torch.Tensor
    labels: torch.Tensor
    names: tuple[str, ...]
    judgement: Judgement
    thumbnail: Callable[[int, int], Image]
    left_out: tuple[str, ...]
    pictured: bool = True
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the columns of `scores`."""
        return self.info.classes


def check_job(job: JudgeJob, data_config: DataConfig) -> Spec:
    """The model that a job names. UsageError and InputError for what can be said before torch is there."""
    spec = resolve(job.model)
    check_weights(spec, job.weights, job.classes)
    if spec.kind != "file" and job.data is None:
        raise UsageError(
            f"{job.model if job.weights is None else '--weights'} needs images to judge on",
            "say where they are: --data FOLDER",
            path="--data",
        )
    if data_config.background != DataConfig.background or data_config.no_exif:
        flag = "--no-exif" if data_config.no_exif else "--background"
        raise UsageError(f"{flag}: the model file says how its images are decoded", "leave it out", path=flag)
    return spec


def judge_model(job: JudgeJob, data_config: DataConfig, infer_config: InferConfig) -> Judged:
    """Judge a model on every image of a split that can be read.

    UsageError: no such split or column. InputError: data and model do not fit, or no image is left. CnnError: scores that are not finite.
    """
    return judge_models([job], data_config, infer_config)[0]


def judge_models(jobs: Sequence[JudgeJob], data_config: DataConfig, infer_config: InferConfig) -> list[Judged]:
    """As `judge_model`, for several models on the same images, which are opened once for each way of decoding them.

    The first job says which images; the first model's training says how they are split, where flags do not. InputError where models
    do not tell the same classes apart: of other sets of classes, one is easier than another.
    """
    specs = [check_job(job, data_config) for job in jobs]

    from cnncli.engine.device import choose_device
    from cnncli.models.weights import open_model

    device = choose_device(jobs[0].device)
    images: _Images | None = None
    judged: list[Judged] = []
    for job, spec in zip(jobs, specs, strict=True):
        module, info = open_model(spec, job.weights, classes=job.classes, device=str(device), tell=talk)
        if images is None:
            images = _open(job, spec, info, data_config)
        else:
            images.check(job.title, info, jobs[0].title)
        judged.append(_judge(job, module, info, images, infer_config, device))
    return judged


def trained_on(path: Path, info: ModelInfo) -> str:
    """The --data to use when none is given: what the run folder's config.toml says, or a built-in source of the model file."""
    from cnncli.data.source import SOURCES
    from cnncli.engine.runs import CONFIG, source_of

    if (path.parent / CONFIG).is_file():
        return source_of(path.parent)
    if info.data in SOURCES:
        return info.data
    raise InputError(f"{path} was trained on {info.data or 'unknown data'}", "say where the images are: --data FOLDER", path="--data")


def with_fractions(config: DataConfig, info: ModelInfo) -> DataConfig:
    """Split as the training did unless the flags say otherwise: else training images would be judged as if they were new."""
    val = info.val_fraction if config.val_fraction is None else config.val_fraction
    test = info.test_fraction if config.test_fraction is None else config.test_fraction
    return replace(config, val_fraction=val, test_fraction=test, allow_empty=True)


def with_data_root(config: DataConfig, path: Path) -> DataConfig:
    """Look for a named data set where the training found it, unless the flag says otherwise."""
    import tomllib

    from cnncli.engine.runs import CONFIG

    try:
        kept = tomllib.loads((path.parent / CONFIG).read_text(encoding="utf-8"))["data"].get("data_root")
    except (OSError, KeyError, TypeError, AttributeError, ValueError):
        return config  # `trained_on` says what is wrong
    return config if config.data_root is not None or kept is None else replace(config, data_root=str(kept))


def choose_split(source: Source | RemoteShards, wanted: str) -> str:
    """The split to judge on; `auto` prefers images that no training has seen."""
    if wanted != "auto":
        return wanted
    return next((split for split in ("test", "val") if source.splits.get(split)), "all")


class _Images:
    """The images of a split, opened once for each way of decoding them. Their labels are indices into the first model's classes."""

    def __init__(self, source: Source | RemoteShards, split: str, config: DataConfig, info: ModelInfo) -> None:
        self.source, self.split, self.config, self.info = source, split, config, info
        self._opened: dict[str, Held | ShardStream] = {}

    @property
    def columns(self) -> Mapping[str, Mapping[str, str]]:
        return getattr(self.source, "columns", {})

    def check(self, title: str, info: ModelInfo, first: str) -> None:
        """InputError unless a further model tells the same classes apart; talk where it may have been trained on these images."""
        from cnncli.data.classes import some

        own, other = set(self.info.classes), set(info.classes)
        if own != other:
            odd, who = (own - other, first) if own - other else (other - own, title)
            told = f"{printable(title)} and {printable(first)} cannot be compared: only {printable(who)} knows {some(sorted(odd))}"
            raise InputError(told, "judge models of other classes one by one", path=title)
        shares = (self.info.val_fraction, self.info.test_fraction), (info.val_fraction, info.test_fraction)
        if shares[0] != shares[1] and getattr(self.source, "derived", False):
            talk(f"note: {title} was trained with another split than {first}: it may have seen some of these images")

    def pixels(self, preprocess: Preprocess) -> Held | ShardStream:
        from cnncli.data.form import Form
        from cnncli.data.shards.either import open_images
        from cnncli.reports.decoding import DecodingReport

        key = Form(preprocess, max_pixels=self.config.max_pixels).key
        if key not in self._opened:
            with DecodingReport(f"decoding {self.split} images") as report:
                self._opened[key] = open_images(self.source, self.split, preprocess, self.config, tell=talk, on_progress=report.show)
        return self._opened[key]

    def relabelled(self, labels: torch.Tensor, info: ModelInfo) -> torch.Tensor:
        """Labels as indices into another model's classes, which are the same in another order."""
        import torch

        if info.classes == self.info.classes:
            return labels
        place = {name: number for number, name in enumerate(info.classes)}
        return torch.tensor([place[name] for name in self.info.classes])[labels]


def _open(job: JudgeJob, spec: Spec, info: ModelInfo, config: DataConfig) -> _Images:
    """The images that the first job asks for, with the model's classes."""
    from cnncli.data.classes import match_classes

    if job.data is None:
        config = with_data_root(config, spec.path)
    config = with_fractions(config, info)
    source = open_images_of(job.data or trained_on(spec.path, info), config)
    images = _Images(source, choose_split(source, job.split), config, info)
    for column in job.columns:
        if column not in images.columns:
            raise _no_column(column, source.name, list(images.columns))
    images.source = match_classes(info.classes, source, subset=job.classes_subset)
    return images


def _no_column(column: str, name: str, known: list[str]) -> UsageError:
    if not known:
        told = f"--slice {column}: {printable(name)} has no columns"
        return UsageError(told, "give a list FILE.csv with more columns than path, label and split", path="--slice")
    hint = near_miss(column, known) or f"choose from {', '.join(map(printable, known))}"
    return UsageError(f"--slice: {printable(name)} has no column {column!r}", f"{printable(hint)}", path="--slice")


def _judge(job: JudgeJob, module: nn.Module, info: ModelInfo, images: _Images, infer_config: InferConfig, device: torch.device) -> Judged:
    import torch

    from cnncli.data.shards.either import open_loader
    from cnncli.engine.infer import prepare, scores
    from cnncli.engine.metrics import judge
    from cnncli.engine.tta import larger
    from cnncli.reports.decoding import DecodingReport

    decoding, size = larger(info.preprocess, job.tta), (info.preprocess.height, info.preprocess.width)
    pixels = images.pixels(decoding)
    loader = open_loader(pixels, decoding, batch_size=job.batch_size, device=device, threads=images.config.workers)
    batches = loader.epoch(0)
    first = next(batches, None)
    if first is None:
        raise InputError(f"no image of {printable(images.source.name)}, split {images.split}, could be read", path=images.source.name)
    forward = prepare(module, lambda: first.images[:, :, : size[0], : size[1]], infer_config, device=device, images=len(pixels))
    indices: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []  # on the device until the end: a copy a batch would make a GPU wait
    with DecodingReport(f"judging {images.split} images") as report:

        def inputs() -> Iterator[torch.Tensor]:
            done = 0
            batch: Batch
            for batch in chain((first,), batches):
                indices.append(batch.indices)
                labels.append(batch.labels)
                yield batch.images
                done += len(batch.labels)
                report.show(done, loader.count)

        found = torch.cat(list(scores(forward, inputs(), job.tta, size=size)))
    rows, true = torch.cat(indices), images.relabelled(torch.cat(labels).cpu(), info)
    names, samples = _names(pixels, rows.tolist())
    return Judged(
        title=job.title,
        info=info,
        module=module,
        source_name=images.source.name,
        split=images.split,
        tta=job.tta,
        how=forward.how,
        scores=found,
        labels=true,
        names=names,
        judgement=judge(found, true, info.classes),
        thumbnail=thumbnails(images.source, samples, info.preprocess, images.config.max_pixels),
        left_out=tuple(error.message for error in pixels.bad),
        pictured=bool(samples),
        columns=images.columns,
    )


def _names(pixels: Held | ShardStream, rows: list[int]) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """The images' names and, where they are at hand, their samples."""
    import numpy as np

    from cnncli.data.shards.stream import ShardStream

    if not isinstance(pixels, ShardStream):
        samples = tuple(pixels.samples[row] for row in rows)
        return tuple(sample.path for sample in samples), samples
    shards = np.searchsorted(pixels.starts, rows, side="right") - 1
    return tuple(f"{pixels.shards[shard]}#{row - pixels.starts[shard]}" for row, shard in zip(rows, shards.tolist(), strict=True)), ()


def thumbnails(source: Any, samples: Sequence[Sample], preprocess: Preprocess, max_pixels: int) -> Callable[[int, int], Image]:
    """Reads an image again, as the model's file says that images are decoded."""
    how = preprocess.decoding(max_pixels)

    def thumbnail(row: int, side: int) -> Image:
        from PIL import Image

        from cnncli.data.decode import BadImage

        if not samples:
            raise InputError(f"{printable(source.name)} is streamed: its images are not at hand", "copy the shards here", path=source.name)
        try:
            image: Image.Image = source.read(samples[row], how).convert("RGB")
        except BadImage:  # it was readable a moment ago
            return Image.new("RGB", (side, side), "white")
        times = side // max(image.size)
        if times >= 2:  # a small image in whole steps, so that its pixels can be seen
            return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return image

    return thumbnail
