"""What `patches` and `top9` share: one pass over a set of images, and the places where channels are strongest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli import atomic
from cnncli.cli.features.sets import title_of
from cnncli.cli.visualize.asking import Pictured, layers_in, one_pass, open_asked, open_images
from cnncli.cli.visualize.job import AskJob, channels_of
from cnncli.cli.visualize.written import ended, write_raw
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError
from cnncli.reports.terminal import json_text, talk

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cnncli.engine.layers import Layers, Tap
    from cnncli.models.looking import Opened
    from cnncli.visualize.receptive import Box, Receptive
    from cnncli.visualize.strongest import Strongest

DRAWN = 16  # channels on a page
EVERY = "all"  # of --layer

Channels = Annotated[
    str | None,
    typer.Option("--channels", help="Which to draw: numbers and ranges, such as 0-15,40 (default: 16 that are drawn by --seed)."),
]

Draw = Callable[["Seen", list[int]], None]
Check = Callable[["Opened", "torch.device", "Sequence[Tap]"], None]


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


def search_set(job: AskJob, config: DataConfig, channels: str | None, k: int, *, check: Check = lambda *_: None) -> Searched:
    """Run the model on all images and keep the k strongest of each channel. UsageError for a set of fewer than k images.

    check: of the model, its device and the layers' taps, before the images are looked at.
    """
    job.check_images()
    opened, device = open_asked(job)
    layers = layers_in(opened)
    names = _names(job, opened, layers)

    from cnncli.visualize.receptive import receptive_fields
    from cnncli.visualize.strongest import map_of, search

    taps = [map_of(layers, name) for name in names]
    for tap in taps if channels is not None else ():
        channels_of(channels or "", tap.shape[0])  # before the pass
    check(opened, device, taps)
    job.check_targets(*[job.folder / file for file in (f"{job.method}.json", *(f"{job.method}-{_file(name)}.png" for name in names))])
    form = opened.info.preprocess
    images = open_images(job, form, config, limit=job.limit)
    if len(images) < k:
        raise UsageError(
            f"the {k} strongest images of a channel need {k} images, and there are {len(images)}", "give more images", path="IMAGES"
        )
    fields = receptive_fields(opened.model, taps, (form.channels, form.height, form.width))
    batches = ((batch.images, batch.indices) for batch in one_pass(images, form, device, config.workers))
    found = search(opened.model, taps, batches, k, count=len(images))
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


def _facts(searched: Searched, layer: Seen, channels: Sequence[int]) -> list[dict[str, Any]]:
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


def _layer_facts(searched: Searched, layer: Seen, channels: Sequence[int]) -> dict[str, Any]:
    """A layer for the JSON, with the patches of these channels."""
    return {
        "layer": layer.name,
        "shape": list(layer.tap.shape),
        "receptive_field": [axis.size for axis in layer.field.axes],
        "step": [axis.jump for axis in layer.field.axes],
        "never_active": layer.found.dead.nonzero()[:, 0].tolist(),
        "channels": _facts(searched, layer, channels),
    }


def _write_all(job: AskJob, searched: Searched, k: int) -> str:
    """METHOD.json: every channel of every layer. The file's name."""
    path = job.folder / f"{job.method}.json"
    layers = [_layer_facts(searched, layer, range(len(layer.found.values))) for layer in searched.layers]
    head = {"title": searched.title, "random": searched.opened.seed, "images": len(searched.images), "k": k}
    atomic.make_folder(job.folder)
    atomic.write_text(path, json_text(head | {"layers": layers}) + "\n")
    return str(path)


def _picture(job: AskJob, layer: Seen) -> Path:
    """Where the page of a layer goes."""
    return job.folder / f"{job.method}-{_file(layer.name)}.png"


def _file(name: str) -> str:
    """A layer's name within a file's."""
    return name.replace("/", "-").replace(":", "-")


def _raw(searched: Searched) -> dict[str, Any]:
    """The numbers behind all pages."""
    import numpy as np

    arrays: dict[str, Any] = {"paths": np.array(searched.images.names, dtype=str)}
    for layer in searched.layers:
        for what in ("values", "rows", "positions"):
            arrays[f"{layer.name}.{what}"] = getattr(layer.found, what).numpy()
    return arrays


def _crops(searched: Searched, layer: Seen, channels: Sequence[int]) -> list[list[Any]]:
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


# ---- what is written ----


def answer(job: AskJob, searched: Searched, k: int, pages: Sequence[tuple[Seen, list[int]]], draw: Draw, **said: Any) -> int:
    """Write METHOD.json, let `draw` make the page of each layer with channels to draw, print; the exit code. said: more for the JSON."""
    wrote = [_write_all(job, searched, k)]
    for layer, drawn in pages:
        if drawn:
            draw(layer, drawn)
            wrote.append(str(_picture(job, layer)))
        else:
            talk(f"note: no channel of {layer.name} is ever active, so that there is no picture of it")
    if job.raw is not None:
        write_raw(job.raw, _raw(searched))
        wrote.append(str(job.raw))
    left_out = searched.images.left_out
    head = {"title": searched.title, "random": searched.opened.seed, "images": len(searched.images), "k": k} | said
    layers = [_layer_facts(searched, layer, drawn) for layer, drawn in pages]
    return ended(job, left_out, head | {"layers": layers, "files": wrote, "left_out": list(left_out)})


def _span(values: Tensor) -> str:
    """`0.9998 to 0.9996`: the first and the last of falling values, with digits enough to tell them apart."""
    first, last = float(values[0]), float(values[-1])
    texts = [(f"{first:.{digits}g}", f"{last:.{digits}g}") for digits in range(3, 7)]
    high, low = next((pair for pair in texts if pair[0] != pair[1]), texts[0])
    return high if high == low else f"{high} to {low}"


def draw_page(
    job: AskJob, searched: Searched, layer: Seen, channels: Sequence[int], signals: Sequence[Sequence[Any]] | None = None, *, by: str = ""
) -> None:
    """The patches of these channels, beside each what `signals` has of it. by: words for the title."""
    from cnncli.reports.patch_figure import Block, draw_patches

    crops = _crops(searched, layer, channels)
    values = layer.found.values
    blocks = [
        Block(f"channel {channel}: activation {_span(values[channel])}", own, signals[place] if signals else ())
        for place, (channel, own) in enumerate(zip(channels, crops, strict=True))
    ]
    sizes = "x".join(str(axis.size) for axis in layer.field.axes)
    dead = int(layer.found.dead.sum())
    idle = f", {dead} never active" if dead else ""
    note = f"{len(channels)} of {len(values)} channels{idle}; receptive field {sizes} pixels, light grey is padding"
    draw_patches(_picture(job, layer), blocks, f"{searched.title}: {layer.name}{by}", note=note)
