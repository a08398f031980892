"""`cnn visualize patches`: what each channel of a layer is strongest on, in a whole set of images."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.visualize.asking import ended, write_raw
from cnncli.cli.visualize.job import AskJob, Layers, LimitOfSet, asks
from cnncli.cli.visualize.whole_sets import (
    Channels,
    Searched,
    Seen,
    crops_of,
    drawn_channels,
    layer_facts,
    picture_of,
    raw_of,
    search_set,
    write_all,
)
from cnncli.data.config import DataConfig

NAME = "patches"


@asks(NAME, "images", "layer", layer=Layers, limit=LimitOfSet)
def command(
    job: AskJob,
    data_config: DataConfig,
    channels: Channels = None,
    k: Annotated[int, typer.Option("-k", help="Patches of each channel, of as many images.", min=1, max=100)] = 9,
) -> int:
    """What each channel of a layer is strongest on: the parts of images in which it is, strongest first, one of each image, cut out by the
    exact receptive field (Girshick et al. 2014, figure 4). One pass over the images serves all layers and channels. --layer all takes every
    layer that gives a map; without --layer there are five, from the first to the last.

    -o DIR writes patches-LAYER.png, a page a layer, and patches.json with all channels: {"title", "random", "images", "k", "layers":
    ({"layer", "shape", "receptive_field": [rows, columns], "step", "never_active": channels, "channels": ({"channel", "patches":
    ({"path", "position": [row, column], "box": [top, left, height, width], "value"})})})}. JSON: the same of the channels that are drawn,
    and {"files", "left_out"}.
    """
    searched = search_set(job, data_config, channels, k)
    wrote = [write_all(job, searched, k)]
    layers = []
    for layer in searched.layers:
        drawn = drawn_channels(layer, channels, job.seed)
        layers.append(layer_facts(searched, layer, drawn))
        if drawn:
            _draw(job, searched, layer, drawn)
            wrote.append(str(picture_of(job, layer)))
    if job.raw is not None:
        write_raw(job.raw, raw_of(searched))
        wrote.append(str(job.raw))
    head = {"title": searched.title, "random": searched.opened.seed, "images": len(searched.images), "k": k, "layers": layers}
    left_out = searched.images.left_out
    return ended(job, left_out, head | {"files": wrote, "left_out": list(left_out)})


def _draw(job: AskJob, searched: Searched, layer: Seen, channels: list[int]) -> None:
    from cnncli.reports.patch_figure import Block, draw_patches

    crops = crops_of(searched, layer, channels)
    values = layer.found.values
    blocks = [
        Block(f"channel {channel}: {values[channel, 0]:.3g} to {values[channel, -1]:.3g}", own)
        for channel, own in zip(channels, crops, strict=True)
    ]
    draw_patches(picture_of(job, layer), blocks, f"{searched.title}: {layer.name}", note=field_note(layer, len(channels)))


def field_note(layer: Seen, drawn: int) -> str:
    """How large the field is, and how many channels are drawn."""
    sizes = "x".join(str(axis.size) for axis in layer.field.axes)
    dead = int(layer.found.dead.sum())
    idle = f", {dead} never active" if dead else ""
    return f"{drawn} of {len(layer.found.values)} channels{idle}; receptive field {sizes} pixels, light grey is padding"
