"""What `patches` and `top9` share: one pass over a set of images, and the places where channels are strongest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli import atomic
from cnncli.cli.features.sets import title_of
from cnncli.cli.visualize.asking import Pictured, layers_in, open_asked, open_images
from cnncli.cli.visualize.job import AskJob, channels_of
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError
from cnncli.reports.terminal import json_text, talk

if TYPE_CHECKING:
    import torch

    from cnncli.engine.layers import Layers, Tap
    from cnncli.models.looking import Opened
    from cnncli.visualize.receptive import Box, Receptive
    from cnncli.visualize.strongest import Strongest

DRAWN = 16  # channels on a page
EVERY = "all"  # of --layer
BATCH = 32

Channels = Annotated[
    str | None,
    typer.Option("--channels", help="Which to draw: numbers and ranges, such as 0-15,40 (default: 16 that are drawn by --seed)."),
]


@dataclass(frozen=True)
class Seen:
    """A layer of which every channel's strongest places in the set are known. field: what its units see."""

    name: str
    tap: Tap
    field: Receptive
    found: Strongest

    def box(self, channel: int, place: int, size: tuple[int, int]) -> Box:
        """What the unit sees that is the channel's `place`-th strongest; along an axis all of the image where it sees at least that."""
        row, column = self.found.positions[channel, place].tolist()
        box = self.field.box(row, column)
        if box.height >= size[0]:
            box = box._replace(top=0, height=size[0])
        return box._replace(left=0, width=size[1]) if box.width >= size[1] else box


@dataclass(frozen=True)
class Searched:
    """A model, the images it was run on, and what was found in its layers. data: the images' name; random: the seed of random weights."""

    opened: Opened
    device: torch.device
    images: Pictured
    layers: tuple[Seen, ...]
    title: str

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of what the model sees."""
        form = self.opened.info.preprocess
        return form.height, form.width


def search_set(job: AskJob, config: DataConfig, channels: str | None, k: int) -> Searched:
    """Run the model on all images and keep the k strongest of each channel. UsageError for a set of fewer than k images."""
    job.check_images()
    opened, device = open_asked(job)
    layers = layers_in(opened)
    names = _names(job, opened, layers)

    from cnncli.visualize.receptive import receptive_fields
    from cnncli.visualize.strongest import map_of, search

    taps = [map_of(layers, name) for name in names]
    for tap in taps if channels is not None else ():
        channels_of(channels or "", tap.shape[0])  # before the pass
    job.check_targets(*[job.folder / file for file in (f"{job.method}.json", *(f"{job.method}-{_file(name)}.png" for name in names))])
    form = opened.info.preprocess
    images = open_images(job, form, config, limit=job.limit)
    if len(images) < k:
        raise UsageError(
            f"the {k} strongest images of a channel need {k} images, and there are {len(images)}", "give more images", path="IMAGES"
        )
    fields = receptive_fields(opened.model, taps, (form.channels, form.height, form.width))
    found = search(opened.model, taps, _batches(images, opened, device, config.workers), k)
    seen = tuple(Seen(*one) for one in zip(names, taps, fields, found, strict=True))
    data = job.data or (job.images[0] if len(job.images) == 1 else "images")
    title = f"{title_of(job.model, data, random=opened.seed is not None)}, {len(images):,} images"
    return Searched(opened, device, images, seen, title)


def _names(job: AskJob, opened: Opened, layers: Layers) -> list[str]:
    from cnncli.visualize.strongest import all_maps, usual_layers

    if not job.layers:
        return usual_layers(opened.model, layers)
    if job.layers == (EVERY,):
        return all_maps(layers)
    return list(dict.fromkeys(layers.called(name, talk) for name in job.layers))


def _batches(images: Pictured, opened: Opened, device: torch.device, workers: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    from cnncli.data.loader import Loader
    from cnncli.reports.decoding import DecodingReport

    loader = Loader(images.pixels, opened.info.preprocess, batch_size=BATCH, device=device, threads=workers)
    done = 0
    with DecodingReport("running the model") as report:
        for batch in loader.epoch(0):
            yield batch.images, batch.indices
            done += len(batch.indices)
            report.show(done, len(images))


# ---- which channels ----


def drawn_channels(layer: Seen, text: str | None, seed: int) -> list[int]:
    """Those of --channels; else some of those that are ever active, drawn, in rising order, as the paper shows a random subset."""
    if text is not None:
        return channels_of(text, len(layer.found.values))

    import numpy as np

    active = np.flatnonzero(~layer.found.dead.numpy())
    generator = np.random.default_rng(seed)
    return sorted(generator.choice(active, size=min(DRAWN, len(active)), replace=False).tolist())


# ---- the numbers ----


def facts_of(searched: Searched, layer: Seen, channels: Sequence[int]) -> list[dict[str, Any]]:
    """For each channel its patches: the image, the position in the map, the box in what the model sees, the value."""
    names = searched.images.names
    return [
        {
            "channel": channel,
            "patches": [
                {"path": names[row], "position": position, "box": list(layer.field.box(*position)), "value": value}
                for row, position, value in zip(
                    layer.found.rows[channel].tolist(),
                    layer.found.positions[channel].tolist(),
                    layer.found.values[channel].tolist(),
                    strict=True,
                )
            ],
        }
        for channel in channels
    ]


def layer_facts(searched: Searched, layer: Seen, channels: Sequence[int]) -> dict[str, Any]:
    """A layer for the JSON, with the patches of these channels."""
    return {
        "layer": layer.name,
        "shape": list(layer.tap.shape),
        "receptive_field": [axis.size for axis in layer.field.axes],
        "step": [axis.jump for axis in layer.field.axes],
        "never_active": layer.found.dead.nonzero()[:, 0].tolist(),
        "channels": facts_of(searched, layer, channels),
    }


def write_all(job: AskJob, searched: Searched, k: int) -> str:
    """METHOD.json: every channel of every layer. The file's name."""
    path = job.folder / f"{job.method}.json"
    layers = [layer_facts(searched, layer, range(len(layer.found.values))) for layer in searched.layers]
    head = {"title": searched.title, "random": searched.opened.seed, "images": len(searched.images), "k": k}
    atomic.make_folder(job.folder)
    atomic.write_text(path, json_text(head | {"layers": layers}) + "\n")
    return str(path)


def picture_of(job: AskJob, layer: Seen) -> Any:
    """Where the page of a layer goes."""
    return job.folder / f"{job.method}-{_file(layer.name)}.png"


def _file(name: str) -> str:
    """A layer's name within a file's."""
    return name.replace("/", "-").replace(":", "-")


def raw_of(searched: Searched) -> dict[str, Any]:
    """The numbers behind all pages."""
    import numpy as np

    arrays: dict[str, Any] = {"paths": np.array(searched.images.names, dtype=str)}
    for layer in searched.layers:
        for what in ("values", "rows", "positions"):
            arrays[f"{layer.name}.{what}"] = getattr(layer.found, what).numpy()
    return arrays


def crops_of(searched: Searched, layer: Seen, channels: Sequence[int]) -> list[list[Any]]:
    """uint8 [C, h, w] of the patches of each channel, strongest first; PADDING where a field reaches beyond the image."""
    import numpy as np
    import torch

    from cnncli.reports.patch_figure import PADDING
    from cnncli.visualize.receptive import cropped

    rows = layer.found.rows[list(channels)]
    known = np.unique(rows.numpy())
    pixels = torch.from_numpy(searched.images.some(known))
    place = {row: number for number, row in enumerate(known.tolist())}
    return [
        [
            cropped(pixels[place[row]], layer.box(channel, number, searched.size), PADDING).numpy()
            for number, row in enumerate(layer.found.rows[channel].tolist())
        ]
        for channel in channels
    ]
