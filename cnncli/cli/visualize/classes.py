"""`cnn visualize classes`: what a model makes of each class of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli import atomic
from cnncli.cli.features.sets import title_of
from cnncli.cli.judging import with_fractions
from cnncli.cli.options import open_data
from cnncli.cli.visualize.asking import ALL, Pictured, class_of, layers_in, one_pass, open_asked, with_scores
from cnncli.cli.visualize.job import AskJob, ClassOfSet, LimitOfSet, asks
from cnncli.cli.visualize.written import clear_pages, ended, pages, write_raw
from cnncli.data.config import DataConfig
from cnncli.errors import InputError, UsageError, printable
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cnncli.data.preprocess import Preprocess
    from cnncli.data.source import Source
    from cnncli.models.looking import Opened
    from cnncli.models.modelfile import ModelInfo
    from cnncli.reports.class_figure import ClassRow
    from cnncli.visualize.classes import ClassView

NAME = "classes"
ROWS = 10  # classes on a page


@asks(NAME, "images", "class_", limit=LimitOfSet, class_=ClassOfSet)
def command(
    job: AskJob,
    data_config: DataConfig,
    count: Annotated[int, typer.Option("--count", help="How many of the best images of a class, and of the worst.", min=1, max=20)] = 5,
) -> int:
    """A page of a data set with its classes (--data): of each class, or the one of --class, the mean image, the mean saliency (Simonyan et
    al. 2013), the images to which the model gives the class the largest probability and the smallest, and how many it recognises. The
    number beneath an image is the probability of its own class, and where it is taken for another one that class's name stands above it in
    red. A data set is split as it was for the model's training, so that --split test has images that it has not seen.

    -o DIR writes classes.png, or a page for each ten classes. JSON: {"title", "random": the seed of random weights or null, "images": how
    many, "classes": ({"class", "count", "recall", "taken_for": what mistaken ones are most often taken for or null, "taken_for_count",
    "images": ({"path", "probability": of the class, "predicted"}, falling)}), "files", "left_out"}.
    """
    if job.data is None:
        raise UsageError(
            f"{NAME} looks at a data set with its classes", "name it: --data NAME, or --data FOLDER with a folder a class", path="--data"
        )
    job.check_images()
    job.check_targets()
    opened, device = open_asked(job)
    opened = replace(opened, info=with_scores(job, opened.info, layers_in(opened)))
    source = _labelled(job, data_config, opened.info)
    labels = sorted({sample.label for sample in source.samples(ALL)})
    files = [path for _, path in pages(len(labels), NAME, job.folder, ROWS)]
    job.check_targets(*files)
    images = _pixels(source, opened.info.preprocess, data_config)
    title = f"{title_of(job.model, job.data, random=opened.seed is not None)}, {len(images):,} images"
    page_of = {label: files[place // ROWS] for place, label in enumerate(labels)}
    answer = _Answer(job, opened, images, title, count)
    for view in _views(opened, images, device, data_config.workers):
        answer.take(view, page_of[view.label])
    return answer.end()


# ---- the images ----


def _labelled(job: AskJob, config: DataConfig, info: ModelInfo) -> Source:
    """The images of a job in one split, sorted by class, with the model's classes. UsageError where --class has none."""
    from cnncli.data.classes import match_classes

    assert job.data is not None
    wanted = None if job.class_ is None else class_of(job.class_, info.classes)
    source = match_classes(info.classes, open_data(job.data, with_fractions(config, info)), subset=True)
    samples = [sample for sample in source.samples(job.split) if wanted is None or sample.label == wanted]
    if not samples and wanted is not None:
        told = f"{printable(source.name)}, split {job.split}, has no image of class {printable(info.classes[wanted])}"
        raise UsageError(told, "choose another class or split", path="--class")
    if job.limit is not None and len(samples) > job.limit:
        samples = [samples[place * len(samples) // job.limit] for place in range(job.limit)]
    samples.sort(key=lambda sample: sample.label)
    return replace(source, splits={ALL: tuple(samples)})


def _pixels(source: Source, preprocess: Preprocess, config: DataConfig) -> Pictured:
    """The images, those of a large set to be decoded when they are needed."""
    from cnncli.data.store import open_pixels
    from cnncli.reports.decoding import DecodingReport

    with DecodingReport("decoding images") as report:
        config = config.for_one_pass(len(source.samples(ALL)))
        pixels = open_pixels(source, ALL, preprocess, config, tell=talk, on_progress=report.show)
    return Pictured(source, pixels, (), config.max_pixels)


def _views(opened: Opened, images: Pictured, device: torch.device, workers: int | None) -> Iterator[ClassView]:
    """One pass over the images."""
    from cnncli.visualize.classes import class_views

    batches = one_pass(images, opened.info.preprocess, device, workers)
    yield from class_views(opened.model, ((batch.images, batch.labels, batch.indices) for batch in batches))


# ---- the answer ----


@dataclass
class _Answer:
    """What is drawn and told, class by class as it becomes known; of a class that is drawn only what is told is kept."""

    job: AskJob
    opened: Opened
    images: Pictured
    title: str
    count: int
    rows: list[ClassRow] = field(default_factory=list)
    page: Path | None = None
    wrote: list[str] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = self.images.names

    @property
    def classes(self) -> Sequence[str]:
        return self.opened.info.classes

    def take(self, view: ClassView, page: Path) -> None:
        """Add a class. page: where it is drawn, that of the class before or the next one."""
        if self.page not in (None, page):
            self._draw()
        self.page = page
        facts = self._facts(view)
        self.facts.append(facts)
        self.rows.append(self._row(view, facts))
        if self.job.raw is not None:
            own = {"mean_saliency": view.saliency.float().numpy(), "mean_images": self._colours(view)}
            for name, array in own.items():
                self.arrays.setdefault(name, []).append(array)

    def end(self) -> int:
        """Draw the last page, write the numbers if asked for, and print. The exit code."""
        if not self.facts:
            raise InputError(f"no image of {printable(self.images.source.name)} could be read", path=self.images.source.name)
        self._draw()
        clear_pages(self.job, [Path(file) for file in self.wrote])
        if self.job.raw is not None:
            write_raw(self.job.raw, self._raw())
            self.wrote.append(str(self.job.raw))
        left_out = self.images.left_out
        result = {"title": self.title, "random": self.opened.seed, "images": sum(own["count"] for own in self.facts), "classes": self.facts}
        return ended(self.job, left_out, result | {"files": self.wrote, "left_out": list(left_out)})

    def _draw(self) -> None:
        from cnncli.reports.class_figure import draw_classes

        assert self.page is not None
        atomic.make_folder(self.job.folder)
        draw_classes(self.page, self.rows, self.title)
        self.wrote.append(str(self.page))
        self.rows = []

    def _facts(self, view: ClassView) -> dict[str, Any]:
        number, mistaken = view.taken_for or (None, 0)
        return {
            "class": self.classes[view.label],
            "count": len(view),
            "recall": view.recall,
            "taken_for": None if number is None else self.classes[number],
            "taken_for_count": mistaken,
            "images": [
                {"path": self.names[row], "probability": share, "predicted": self.classes[predicted]}
                for row, share, predicted in zip(view.rows.tolist(), view.probabilities.tolist(), view.predicted.tolist(), strict=True)
            ],
        }

    def _row(self, view: ClassView, facts: dict[str, Any]) -> ClassRow:
        from cnncli.reports.class_figure import ClassRow, Shot

        best, worst = view.best(self.count), view.worst(self.count)
        places = [*best, *worst]
        pixels = self.images.some(view.rows[places].tolist())
        shots = []
        for place, own in zip(places, pixels, strict=True):
            predicted = int(view.predicted[place])
            name = "" if predicted == view.label else self.classes[predicted]
            shots.append(Shot(own, name, float(view.probabilities[place])))
        words = f"{len(view):,} image{'s' * (len(view) != 1)}, recall {facts['recall']:.3f}"
        if facts["taken_for"] is not None:
            words += f", most often taken for {facts['taken_for']} ({facts['taken_for_count']:,})"
        image = self._colours(view).transpose(1, 2, 0)
        return ClassRow(facts["class"], words, image, view.saliency.numpy(), shots[: len(best)], shots[len(best) :])

    def _colours(self, view: ClassView) -> np.ndarray:
        """float32 [C, H, W] in 0..1: the mean image as it was before it was normalised."""
        import torch

        form = self.opened.info.preprocess
        std, mean = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in (form.std, form.mean))
        found: np.ndarray = (view.image * std + mean).clamp(0, 1).float().numpy()
        return found

    def _raw(self) -> dict[str, Any]:
        """The means of each class, and of each image, class by class in the order of the JSON, its class, probability and prediction."""
        import numpy as np

        shots = [(own["class"], shot) for own in self.facts for shot in own["images"]]
        return {
            "classes": np.array([own["class"] for own in self.facts], dtype=str),
            **{name: np.stack(arrays) for name, arrays in self.arrays.items()},
            "paths": np.array([shot["path"] for _, shot in shots], dtype=str),
            "labels": np.array([name for name, _ in shots], dtype=str),
            "probabilities": np.array([shot["probability"] for _, shot in shots]),
            "predicted": np.array([shot["predicted"] for _, shot in shots], dtype=str),
        }
