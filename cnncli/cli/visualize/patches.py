"""`cnn visualize patches`: what each channel of a layer is strongest on, in a whole set of images."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.visualize.job import AskJob, Layers, LimitOfSet, asks
from cnncli.cli.visualize.whole_sets import Channels, answer, draw_page, drawn_channels, search_set
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
    pages = [(layer, drawn_channels(layer, channels, job.seed)) for layer in searched.layers]
    return answer(job, searched, k, pages, lambda layer, drawn: draw_page(job, searched, layer, drawn))
