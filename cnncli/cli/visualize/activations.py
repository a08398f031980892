"""`cnn visualize activations`: the maps of a layer for an image, and how they change while a model learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.features.job import ACTIVATIONS, ActivationFlag
from cnncli.cli.features.sets import title_of
from cnncli.cli.visualize.asking import BATCH, Pictured, layers_in, open_asked, open_rows
from cnncli.cli.visualize.job import AskJob, asks, channels_of
from cnncli.cli.visualize.written import ended, write_raw
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError, near_miss
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch

    from cnncli.engine.layers import Tap
    from cnncli.models.looking import Opened
    from cnncli.reports.activation_figure import Sheet
    from cnncli.visualize.activations import Strength

ORDERS, SCALES = ("strength", "number"), ("layer", "map")
MapLayer = Annotated[list[str] | None, typer.Option("--layer", help="A layer that gives a map (default: the first one).")]


@dataclass(frozen=True)
class Wish:
    """What is drawn of the maps. A field is the flag of its name."""

    channels: str | None
    order: str
    scale: str
    activation: str
    animate: bool

    def __post_init__(self) -> None:
        for flag, value, known in (
            ("--order", self.order, ORDERS),
            ("--scale", self.scale, SCALES),
            ("--activation", self.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise UsageError(f"{flag} {value!r} is not one of {', '.join(known)}", near_miss(value, list(known)), path=flag)


@asks("activations", "images", "layer", layer=MapLayer)
def command(
    job: AskJob,
    data_config: DataConfig,
    channels: Annotated[str | None, typer.Option("--channels", help="Which: 0-15,40 (default: the 64 that come first).")] = None,
    order: Annotated[str, typer.Option("--order", help="strength, the largest value first, or number.")] = "strength",
    scale: Annotated[
        str, typer.Option("--scale", help="Of the colours: one for the maps of a picture (layer), or each map's own.")
    ] = "layer",
    activation: ActivationFlag = "after",
    animate: Annotated[
        bool, typer.Option("--animate", help="A GIF over the models that a run kept: cnn train --keep-every N keeps them.")
    ] = False,
) -> int:
    """The maps of a layer for an image, with the number and the largest value of each channel, the strongest first.

    -o DIR writes activations.png, of several images activations-1.png and so on; with --animate activations.gif. JSON: {"title", "random":
    the seed of random weights or null, "layer", "shape": [K, H, W], "images": ({"path", "channels": ({"channel", "largest", "mean",
    "active": share of positions above 0}, in the order of the picture)}), "dead": channels that are above 0 in no image, null where values
    below 0 are among them, "epochs", "files", "left_out"}.
    """
    return draw(job, data_config, Wish(channels, order, scale, activation, animate))


@dataclass
class Work:
    """A model, the images, where the maps are taken, and what is gathered of them on the way. number: of an image."""

    job: AskJob
    wish: Wish
    opened: Opened
    device: torch.device
    images: Pictured
    layer: str
    tap: Tap
    kept: list[tuple[int, Path]]

    def __post_init__(self) -> None:
        self.alive: Any = None  # [K], whether a channel was above 0 in an image
        self.signed = False
        self.facts: list[dict[str, Any]] = []
        self.raw: dict[str, Any] = {}

    def file(self, number: int) -> Path:
        """Where the picture of an image goes."""
        suffix = "gif" if self.wish.animate else "png"
        return self.job.folder / (f"activations.{suffix}" if len(self.images) == 1 else f"activations-{number + 1}.{suffix}")

    def title(self, drawn: int) -> str:
        """Of a picture with so many maps."""
        model = title_of(self.job.model, "", random=self.opened.seed is not None).removesuffix(" on ")
        before = ", before its activation" if self.wish.activation == "before" else ""
        size = "x".join(map(str, self.tap.shape[1:]))
        count = self.tap.shape[0]
        some = self.wish.channels is not None or self.wish.order == "number"
        which = f"all {count}" if drawn == count else f"{drawn} of {count}" if some else f"the strongest {drawn} of {count}"
        return f"{model}, {self.layer}{before}: {which} maps of {size}"


def draw(job: AskJob, config: DataConfig, wish: Wish) -> int:
    """Compute and draw, an image after another. Exit code 5 when images were left out."""
    job.check_images()
    kept = _kept(job) if wish.animate else []
    work = _opened(job, config, wish, kept)
    job.check_targets(*(work.file(number) for number in range(len(work.images))))

    from cnncli import atomic
    from cnncli.reports.decoding import DecodingReport

    atomic.make_folder(job.folder)
    drawn = 0
    with DecodingReport("drawing images") as report:
        for number, (image, maps) in enumerate(_maps(work)):
            drawn = _draw_one(work, number, image, maps)
            report.show(number + 1, len(work.images))
    wrote = [work.file(number) for number in range(len(work.images))]
    if job.raw is not None:
        import numpy as np

        names = np.array(work.images.names, dtype=str)
        write_raw(job.raw, {"paths": names, **{key: np.stack(values) for key, values in work.raw.items()}})
        wrote.append(job.raw)
    dead = None if work.signed or work.alive is None else [int(channel) for channel in (~work.alive).nonzero()[0]]
    if dead:
        which = ", ".join(map(str, dead[:8])) + (", ..." if len(dead) > 8 else "")
        talk(f"note: {len(dead)} of {work.tap.shape[0]} channels are above 0 nowhere in {_images(len(work.images))}: {which}")
    result: dict[str, Any] = {"title": work.title(drawn), "random": work.opened.seed, "layer": work.layer, "shape": list(work.tap.shape)}
    result |= {"images": work.facts, "dead": dead, "epochs": [epoch for epoch, _ in kept] if wish.animate else None}
    return ended(job, work.images.left_out, result | {"files": list(map(str, wrote)), "left_out": list(work.images.left_out)})


def _images(count: int) -> str:
    return "the image" if count == 1 else f"the {count} images"


def _kept(job: AskJob) -> list[tuple[int, Path]]:
    """The models that a run kept. UsageError where it kept none."""
    from cnncli.engine.kept_epochs import kept_epochs

    spec = resolve(job.model)
    if spec.kind != "file":
        raise UsageError(f"--animate is of a run, and {job.model} is none", "cnn train NET --keep-every 1 makes one", path="--animate")
    found = kept_epochs(spec.path.parent)
    if not found:
        raise UsageError(
            f"--animate: {job.model} kept no models on the way", "train with --keep-every 1: cnn train NET --keep-every 1", path="--animate"
        )
    return found


def _opened(job: AskJob, config: DataConfig, wish: Wish, kept: list[tuple[int, Path]]) -> Work:
    opened, device = open_asked(job)

    from cnncli.visualize.activations import map_layer

    layers = layers_in(opened)
    name = None if job.layer is None else layers.called(job.layer, talk)
    layer, tap = map_layer(layers, name, wish.activation)  # type: ignore[arg-type] # checked
    if wish.channels is not None:
        channels_of(wish.channels, tap.shape[0])
    return Work(job, wish, opened, device, open_rows(job, opened.info.preprocess, config), layer, tap, kept)


def _maps(work: Work) -> Iterator[tuple[Any, torch.Tensor]]:
    """Of each image: what the model saw, uint8 [C, H, W], and the maps, [1, K, h, w]; with --animate [epochs, K, h, w]."""
    import torch

    from cnncli.models.modelfile import load
    from cnncli.visualize.activations import activation_maps

    normalise = work.opened.info.preprocess.normalise
    for first in range(0, len(work.images), BATCH):
        pixels = work.images.some(range(first, min(first + BATCH, len(work.images))))
        given = normalise(torch.from_numpy(pixels).to(work.device))
        if not work.wish.animate:
            yield from zip(pixels, activation_maps(work.opened.model, given, work.tap).cpu()[:, None], strict=True)
            continue
        found = []
        for _, path in work.kept:
            model, _ = load(path, device=str(work.device))
            found.append(activation_maps(model, given, work.tap).cpu())
        yield from zip(pixels, torch.stack(found, 1), strict=True)


def _draw_one(work: Work, number: int, image: Any, maps: torch.Tensor) -> int:
    """The picture of an image; how many maps are in it. maps: [1 or epochs, K, h, w]."""
    import torch

    from cnncli.reports.activation_figure import MOST, Sheet, animate_maps, beyond, draw_maps, limits_of
    from cnncli.visualize.activations import ordered, strength_of

    wish = work.wish
    strength = strength_of(maps)
    among = None if wish.channels is None else channels_of(wish.channels, maps.shape[1])
    channels = ordered(strength.largest[-1], wish.order, among=among, most=MOST)  # type: ignore[arg-type] # checked
    alive = (strength.largest[-1] > 0).numpy()
    work.alive = alive if work.alive is None else work.alive | alive
    signed = bool((maps < 0).any())
    work.signed |= signed
    work.facts.append({"path": work.images.names[number], "channels": _told(strength, channels)})
    shown = maps[:, torch.tensor(channels)].numpy()
    if work.job.raw is not None:
        work.raw.setdefault("images", []).append(image)
        work.raw.setdefault("maps", []).append(maps.numpy() if wish.animate else maps[0].numpy())
    limits = limits_of(shown, each=wish.scale == "map")
    passed = beyond(shown, limits)
    sheets: list[Sheet] = [Sheet(image, work.images.names[number], own, channels, limits, passed, signed) for own in shown]
    if wish.animate:
        last = work.kept[-1][0]
        labels = [f"epoch {epoch} of {last}" if epoch else "before training" for epoch, _ in work.kept]
        animate_maps(work.file(number), list(zip(labels, sheets, strict=True)), work.title(len(channels)))
    else:
        draw_maps(work.file(number), sheets[0], work.title(len(channels)))
    return len(channels)


def _told(strength: Strength, channels: list[int]) -> list[dict[str, Any]]:
    """Of the last model."""
    return [
        {
            "channel": channel,
            "largest": float(strength.largest[-1, channel]),
            "mean": float(strength.mean[-1, channel]),
            "active": float(strength.active[-1, channel]),
        }
        for channel in channels
    ]
