"""`cnn visualize saliency`: how much each pixel changes a class score or a neuron."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite
from cnncli.cli.visualize.asking import AskJob, Channel, Class, Images, LayerFlag, Model, Out, Position, Raw, Seed, Weights, one_layer
from cnncli.cli.visualize.signal_methods import SALIENCY, Shown, run


def command(
    model: Model,
    images: Images,
    weights: Weights = None,
    classes: Classes = None,
    layer: LayerFlag = None,
    channel: Channel = None,
    class_: Class = None,
    position: Position = None,
    samples: Annotated[int, typer.Option("--samples", help="Average over so many noisy copies: SmoothGrad; 0 is the gradient.", min=0)] = 0,
    noise: Annotated[
        float, typer.Option("--noise", help="Of SmoothGrad: standard deviation, as a share of the image's range.", min=0, max=10)
    ] = 0.15,
    times_input: Annotated[bool, typer.Option("--times-input", help="The gradient times the pixels that the net sees.")] = False,
    out: Out = None,
    raw: Raw = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """How much each pixel changes a class score or a neuron: the gradient, its largest magnitude over the channels (Simonyan et al. 2013);
    with --samples its mean over noisy copies, SmoothGrad (Smilkov et al. 2017).

    -o DIR writes saliency.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    job = AskJob(
        *("saliency", model, tuple(images), weights, classes, one_layer(layer), channel, class_, position),
        out=out,
        raw=raw,
        overwrite=overwrite,
        seed=seed,
        device=device,
        json=json,
    )
    return run(job, [_column(samples, noise, times_input=times_input)])


def _column(samples: int, noise: float, *, times_input: bool) -> Shown:
    """The gradient as the flags want it, and what it is called."""
    name = SALIENCY.name if not samples else f"SmoothGrad: mean of {samples} at noise {noise:g}"
    return Shown("gradient", f"{name}, times input" if times_input else name, "map", samples, noise, times_input)
