"""`cnn visualize compare`: saliency, guided backpropagation and the deconvnet side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite
from cnncli.cli.visualize.asking import AskJob, Channel, Class, Images, LayerFlag, Model, Out, Position, Raw, Seed, Weights, one_layer
from cnncli.cli.visualize.signal_methods import DECONVNET, GUIDED, SALIENCY, run


def command(
    model: Model,
    images: Images,
    weights: Weights = None,
    classes: Classes = None,
    layer: LayerFlag = None,
    channel: Channel = None,
    class_: Class = None,
    position: Position = None,
    plain_gradient: Annotated[
        bool, typer.Option("--plain-gradient", help="Draw the gradient, called that, where there is no rule for the model's activations.")
    ] = False,
    out: Out = None,
    raw: Raw = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Saliency, the deconvnet and guided backpropagation side by side: one way back to the pixels, three rules for ReLUs.

    -o DIR writes compare.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    job = AskJob(
        *("compare", model, tuple(images), weights, classes, one_layer(layer), channel, class_, position),
        out=out,
        raw=raw,
        overwrite=overwrite,
        seed=seed,
        device=device,
        json=json,
    )
    return run(job, [SALIENCY, DECONVNET, GUIDED], plain_gradient=plain_gradient)
