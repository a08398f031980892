"""`cnn visualize top9`: the nine strongest patches of channels, and what of them the channel reacts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.visualize.asking import PASS_BATCH
from cnncli.cli.visualize.job import AskJob, Layers, LimitOfSet, asks
from cnncli.cli.visualize.signal_methods import PlainGradient
from cnncli.cli.visualize.whole_sets import Channels, Searched, Seen, answer, draw_page, drawn_channels, search_set
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError, near_miss

if TYPE_CHECKING:
    import torch

    from cnncli.engine.layers import Tap
    from cnncli.engine.relu_rules import Rule
    from cnncli.models.looking import Opened

NAME = "top9"
NINE = 9
BY = ("deconvnet", "guided")
WORDS = {"deconvnet": "deconvnet", "guided": "guided backpropagation", "gradient": "plain gradient (no rule)"}


@asks(NAME, "images", "layer", layer=Layers, limit=LimitOfSet)
def command(
    job: AskJob,
    data_config: DataConfig,
    channels: Channels = None,
    by: Annotated[str, typer.Option("--by", help="What goes back to the pixels: deconvnet, as in the paper, or guided.")] = "deconvnet",
    plain_gradient: PlainGradient = False,
) -> int:
    """Zeiler and Fergus' figure: of each channel the nine images in which it is strongest, on the right the part of them that it sees, on
    the left what of that it reacts to, projected back to the pixels. Without --layer there are five layers, from the first to the last.

    -o DIR writes top9-LAYER.png, a page a layer, and top9.json with all channels, as `cnn visualize patches` does. JSON: {"title",
    "random", "images", "k", "by", "layers": (as in top9.json, of the channels that are drawn), "files", "left_out"}.
    """
    if by not in BY:
        raise UsageError(f"--by {by!r} is not one of {', '.join(BY)}", near_miss(by, list(BY)), path="--by")
    rule: Any = by

    def check(opened: Opened, device: torch.device, taps: Sequence[Tap]) -> None:
        nonlocal rule
        try:
            _check_rule(job, opened, device, taps, rule)
        except UsageError:
            if not plain_gradient:
                raise
            rule = "gradient"

    searched = search_set(job, data_config, channels, NINE, check=check)
    pages = [(layer, drawn_channels(layer, channels, job.seed)) for layer in searched.layers]

    def draw(layer: Seen, drawn: list[int]) -> None:
        draw_page(job, searched, layer, drawn, _projected(searched, layer, drawn, rule), by=f" (left: {WORDS[rule]}, right: the images)")

    return answer(job, searched, NINE, pages, draw, by=rule)


def _check_rule(job: AskJob, opened: Opened, device: torch.device, taps: Sequence[Tap], rule: Rule) -> None:
    """UsageError where a rule says nothing of the activations up to one of the layers, which one image tells."""
    import torch

    from cnncli.visualize.backprop import Aim, check_rule, signals

    form = opened.info.preprocess
    image = torch.zeros(1, form.channels, form.height, form.width, device=device)
    for tap in taps:
        check_rule(signals(opened.model, image, Aim(tap), rule), rule, job.model)


def _projected(searched: Searched, layer: Seen, channels: Sequence[int], rule: Rule) -> list[list[Any]]:
    """float32 [C, h, w] of each patch of each channel: the signal within its receptive field, beyond which there is none."""
    import torch

    from cnncli.visualize.backprop import Aim, signals
    from cnncli.visualize.receptive import cropped

    preprocess = searched.opened.info.preprocess
    pairs = [(channel, place) for channel in channels for place in range(NINE)]
    found: list[Any] = []
    for first in range(0, len(pairs), PASS_BATCH):
        own = pairs[first : first + PASS_BATCH]
        rows = [int(layer.found.rows[pair]) for pair in own]
        images = preprocess.normalise(torch.from_numpy(searched.images.some(rows)).to(searched.device))
        where = torch.stack([layer.found.positions[pair] for pair in own])
        numbers = torch.tensor([channel for channel, _ in own])
        made = signals(searched.opened.model, images, Aim(layer.tap, numbers.to(images.device), where.to(images.device)), rule)
        for pixels, (channel, place) in zip(made.pixels.cpu(), own, strict=True):
            found.append(cropped(pixels, layer.box(channel, place, searched.size), 0).numpy())
    return [found[first : first + NINE] for first in range(0, len(found), NINE)]
