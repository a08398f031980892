"""What the methods of `cnn visualize` work on: the model, the neuron that is asked about, the images; and what all of them write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.cli.features.sets import title_of
from cnncli.cli.options import open_data
from cnncli.cli.visualize.job import AskJob
from cnncli.cli.visualize.written import MOST_ROWS, pages
from cnncli.data.config import DataConfig
from cnncli.errors import InputError, UsageError, near_miss, printable
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from cnncli.data.held import Held, Indices
    from cnncli.data.loader import Batch
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.source import Source
    from cnncli.engine.layers import Layers
    from cnncli.models.looking import Opened
    from cnncli.models.modelfile import ModelInfo
    from cnncli.visualize.backprop import Aim, Signals

ALL = "all"
MOST_IMAGES = 10_000  # in memory at a time
BATCH = 16  # images at a time
PASS_BATCH = 32  # of a whole set


# ---- the model ----


def open_asked(job: AskJob) -> tuple[Opened, torch.device]:
    """The model of a job, and where it computes."""
    spec = resolve(job.model)

    from cnncli.models.looking import check_looking

    check_looking(spec, job.weights, job.classes)

    import matplotlib.figure  # noqa: F401 # its absence is said before anything is computed

    from cnncli.engine.device import choose_device
    from cnncli.models.looking import open_to_look

    device = choose_device(job.device)
    return open_to_look(spec, job.weights, classes=job.classes, seed=job.seed, device=str(device), tell=talk), device


def layers_in(opened: Opened) -> Layers:
    """The layers of a model for images of its own size."""
    from cnncli.engine.layers import layers_of

    form = opened.info.preprocess
    return layers_of(opened.model, (form.channels, form.height, form.width))


def with_scores(job: AskJob, info: ModelInfo, layers: Layers, *, maps: bool = False) -> ModelInfo:
    """The description of a model that gives a score a class; classes without names, 0, 1, ..., are as many as its scores.

    UsageError where its output is no tensor [N, K], or K is not the number of classes. maps: whether maps of scores, [N, K, H, W], will do.
    """
    import torch

    from cnncli.models.imagenet import numbers

    output = layers.output
    if not isinstance(output, torch.Tensor):
        kinds = "a dictionary" if isinstance(output, dict) else f"a {type(output).__name__}"
        raise UsageError(f"{job.model} gives {kinds} and no tensor of scores", "let its forward return the scores alone", path=job.model)
    if output.ndim != 2 and not (maps and output.ndim == 4):
        shape = "x".join(map(str, output.shape[1:])) or "one number"
        told = f"{job.model} gives {shape} for an image and no score a class"
        raise UsageError(told, "let its forward return [N, classes]", path=job.model)
    count = output.shape[1]
    if count != len(info.classes):
        if job.classes is None and info.classes == numbers(len(info.classes)):
            return replace(info, classes=numbers(count))
        told = f"{job.model} gives {count} scores, and {len(info.classes)} classes are named"
        raise UsageError(told, f"--classes {count}", path="--classes")
    return info


def show_layers(job: AskJob) -> int:
    """Print the layers of the model."""
    from cnncli.cli.features.extract import show_layers as show
    from cnncli.cli.features.job import SetJob

    return show(SetJob(job.model, job.weights, job.classes, seed=job.seed, device=job.device), as_json=job.json)


def class_of(text: str, classes: Sequence[str]) -> int:
    """The class of a name or a number. UsageError with the nearest name for an unknown one."""
    if text in classes:
        return classes.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(classes):
        return int(text)
    some = f"there are {len(classes)}: {', '.join(map(printable, classes[:3]))}, ..."
    hint = f"{some}; by number 0 to {len(classes) - 1}" if text.lstrip("-").isdigit() else near_miss(text, list(classes)) or some
    raise UsageError(f"--class {printable(text)!r} is none of the model's classes", hint, path="--class")


# ---- the images ----


@dataclass(frozen=True)
class Pictured:
    """Images of a source. faults: what could not even be looked at."""

    source: Source
    pixels: Held
    faults: tuple[str, ...]
    max_pixels: int

    @property
    def left_out(self) -> tuple[str, ...]:
        """Why images are missing, a line each; of images that are decoded when they are needed, so far."""
        return (*self.faults, *(error.message for error in self.pixels.bad))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, in their order."""
        return tuple(sample.path for sample in self.pixels.samples)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the images, as their source calls them."""
        return tuple(self.source.classes[sample.label] for sample in self.pixels.samples)

    def some(self, rows: Sequence[int] | Indices) -> np.ndarray:
        """uint8 [n, C, H, W] of these images: what the model sees."""
        import numpy as np
        import torch

        preprocess = self.pixels.form.preprocess
        out = torch.empty(len(rows), preprocess.channels, preprocess.height, preprocess.width, dtype=torch.uint8)
        lost = self.pixels.fill(np.asarray(rows, dtype=np.int64), out, None)
        if lost:
            raise InputError(f"{self.names[rows[lost[0]]]} cannot be read any more", "leave it out", path=self.names[rows[lost[0]]])
        found: np.ndarray = out.numpy()
        return found


def open_images(
    job: AskJob, preprocess: Preprocess, config: DataConfig, *, limit: int | None, most: int | None = None, store: str = "auto"
) -> Pictured:
    """The images of a job, of all splits or one; at most `limit`, evenly spaced. InputError where none can be read.

    most: UsageError for more. store: `memory`, or `auto`: as for one pass.
    """
    from cnncli.data.pixels import load_pixels
    from cnncli.data.store import open_pixels
    from cnncli.reports.decoding import DecodingReport

    source, faults = _source_of(job, config)
    samples = source.samples(job.split if job.data is not None else ALL)
    if limit is not None and len(samples) > limit:
        samples = tuple(samples[place * len(samples) // limit] for place in range(limit))
    if most is not None and len(samples) > most:
        raise UsageError(f"more than {most:,} images", f"--limit {most}, or give fewer at a time", path="--limit")
    source = replace(source, splits={ALL: samples})
    config = replace(config, store="memory") if store == "memory" and config.store == "auto" else config.for_one_pass(len(samples))
    with DecodingReport("decoding images") as report:
        if job.data is None and "memory" in (store, config.store):  # named by the user, so that each bad one is to be told of
            bad: Any = "any" if config.bad_images == "skip" else "error"
            limits: Any = {"max_pixels": config.max_pixels, "threads": config.workers, "on_progress": report.show}
            pixels: Held = load_pixels(source, ALL, preprocess, bad_images=bad, **limits)
        else:
            pixels = open_pixels(source, ALL, preprocess, config, tell=talk, on_progress=report.show)
    return Pictured(source, pixels, faults, config.max_pixels)


def open_rows(job: AskJob, preprocess: Preprocess, config: DataConfig) -> Pictured:
    """The images of a job in memory, each for a row of a picture; of a data set MOST_ROWS unless --limit says how many. UsageError for more
    than MOST_IMAGES.
    """
    limit = job.limit if job.limit is not None or job.data is None else MOST_ROWS
    return open_images(job, preprocess, config, limit=limit, most=MOST_IMAGES, store="memory")


def one_pass(images: Pictured, preprocess: Preprocess, device: torch.device, workers: int | None) -> Iterator[Batch]:
    """All images once, in their order, while the terminal shows how many have been seen."""
    from cnncli.data.loader import Loader
    from cnncli.reports.decoding import DecodingReport

    loader = Loader(images.pixels, preprocess, batch_size=PASS_BATCH, device=device, threads=workers)
    done = 0
    with DecodingReport("running the model") as report:
        for batch in loader.epoch(0):
            yield batch
            done += len(batch.indices)
            report.show(done, len(images))


def _source_of(job: AskJob, config: DataConfig) -> tuple[Source, tuple[str, ...]]:
    """(where the images come from, what could not even be looked at)."""
    if job.data is not None:
        return open_data(job.data, replace(config, allow_empty=True)), ()

    from cnncli.data.inputs import expand
    from cnncli.data.unlabelled import open_files

    names: list[str] = []
    faults: list[str] = []
    for entry in expand(job.images, None):
        if entry is not None and entry.fault is not None:
            faults.append(entry.fault.message)
        elif entry is not None:
            names.append(entry.name)
    if not names:
        raise InputError(f"no image could be read: {faults[0]}", "give image files", path=job.images[0])
    return open_files(names), tuple(faults)


# ---- a neuron and images ----


@dataclass(frozen=True)
class Asked:
    """A model made ready, what of it is asked about, and the images.

    title: the model and the neuron, for the picture. pixels: uint8 [N, C, H, W], what the model sees. names: of the images. left_out:
    why images are missing, a line each. random: the seed of random weights, None where they are trained. number: of the class that is asked
    about, None for each image's best. labels: of the images of a data set with classes.
    """

    model: nn.Module
    info: ModelInfo
    layers: Layers
    aim: Aim
    title: str
    pixels: np.ndarray
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    random: int | None
    device: torch.device
    number: int | None = None
    labels: tuple[str, ...] = ()

    @property
    def preprocess(self) -> Preprocess:
        """How images become what the model sees."""
        return self.info.preprocess

    @property
    def captions(self) -> list[str]:
        """The images' file names, and their labels where they have some."""
        files = [Path(name).name for name in self.names]
        return [f"{file}, labelled {own}" for file, own in zip(files, self.labels, strict=True)] if self.labels else files

    def check_probabilities(self, what: str) -> None:
        """UsageError where softmax makes nothing of a model's scores, since there is one alone."""
        if len(self.info.classes) < 2:
            raise UsageError(
                f"{what} looks at a class's probability among others, and the model has one class", "saliency looks at its score"
            )

    def normalised(self, rows: range) -> torch.Tensor:
        """[N, C, H, W] of these images, as the model gets them."""
        import torch

        return self.preprocess.normalise(torch.from_numpy(self.pixels[rows.start : rows.stop]).to(self.device))

    def colour(self, brightness: int) -> torch.Tensor:
        """[C], what the model gets for a pixel of this brightness, 0..255."""
        import torch

        pixel = torch.full((1, self.preprocess.channels, 1, 1), brightness, dtype=torch.uint8)
        return self.preprocess.normalise(pixel)[0, :, 0, 0].to(self.device)

    def batches(self) -> Iterator[torch.Tensor]:
        """The images, normalised, some at a time."""
        for first in range(0, len(self.pixels), BATCH):
            yield self.normalised(range(first, first + BATCH))

    def neuron(self, found: Signals, row: int) -> str:
        """What was asked about of an image, in words."""
        channel = int(found.channels[row])
        value = f"{float(found.values[row]):.3g}"
        if self.aim.tap is None:
            return f"{self.info.classes[channel]}: score {value}"
        where = "" if found.positions is None else f" at {int(found.positions[row, 0])},{int(found.positions[row, 1])}"
        return f"channel {channel}{where}: {value}"


def ask(job: AskJob, config: DataConfig, *, neuron: bool = True) -> Asked:
    """Open the model and the images. UsageError and InputError for what does not exist or does not fit.

    neuron: whether --layer names what is asked about; else it is a class's score.
    """
    job.check_images()
    job.check_targets(job.folder / f"{job.method}.png")
    if neuron and job.layer is not None and job.class_ is not None:
        raise UsageError("--class asks about a score, --layer about a layer", "leave one of them out", path="--class")
    opened, device = open_asked(job)
    layers = layers_in(opened)
    info = with_scores(job, opened.info, layers, maps=neuron) if job.layer is None or not neuron else opened.info
    number = None if job.class_ is None else class_of(job.class_, info.classes)
    aim, asked_about = _aim(job, info, layers, number, neuron=neuron)
    images = open_rows(job, info.preprocess, config)
    job.check_targets(*[path for _, path in pages(len(images), job.method, job.folder)])
    data = job.data or (job.images[0] if len(job.images) == 1 else f"{len(images)} images")
    title = f"{title_of(job.model, data, random=opened.seed is not None)}: {asked_about}"
    pixels = images.some(range(len(images)))
    answer = Asked(opened.model, info, layers, aim, title, pixels, images.names, images.left_out, opened.seed, device, number)
    return replace(answer, labels=images.labels) if job.data is not None and len(images.source.classes) > 1 else answer


def _aim(job: AskJob, info: ModelInfo, layers: Layers, number: int | None, *, neuron: bool) -> tuple[Aim, str]:
    """What is asked about, and that in words. neuron: whether --layer is what is asked about."""
    from cnncli.visualize.backprop import Aim

    if job.layer is None or not neuron:
        return Aim(None, number), "the score of the best class" if number is None else f"the score of {info.classes[number]}"
    tap = layers.find(layers.called(job.layer, talk), "after")
    what = f"channel {job.channel}" if job.channel is not None else "the strongest channel"
    return Aim(tap, job.channel, _position(job.position)), f"{what} of {job.layer}"


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise UsageError(f"--position {text!r} should be ROW,COLUMN", "for example --position 3,5", path="--position")
    return int(words[0]), int(words[1])
