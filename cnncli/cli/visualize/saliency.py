"""`cnn visualize saliency`: how much each pixel changes a class score or a neuron."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from cnncli.cli.visualize.job import NEURON, AskJob, asks
from cnncli.cli.visualize.signal_methods import SALIENCY, Shown, run
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError

NOISE = 0.15


@asks("saliency", "images", *NEURON)
def command(
    job: AskJob,
    data_config: DataConfig,
    samples: Annotated[int, typer.Option("--samples", help="Average over so many noisy copies: SmoothGrad; 0 is the gradient.", min=0)] = 0,
    noise: Annotated[
        float | None,
        typer.Option("--noise", help="Of SmoothGrad: standard deviation, as a share of the image's range (default: 0.15).", min=0, max=10),
    ] = None,
    times_input: Annotated[bool, typer.Option("--times-input", help="The gradient times the pixels that the net sees.")] = False,
) -> int:
    """How much each pixel changes a class score or a neuron: the gradient, its largest magnitude over the channels (Simonyan et al. 2013);
    with --samples its mean over noisy copies, SmoothGrad (Smilkov et al. 2017).

    -o DIR writes saliency.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    if noise is not None and not samples:
        raise UsageError("--noise is of SmoothGrad", "say how many noisy copies: --samples 25", path="--noise")
    if noise is not None and not math.isfinite(noise):
        raise UsageError(f"--noise {noise} is no number", "0.1 to 0.2 is usual", path="--noise")
    return run(job, data_config, [_column(samples, NOISE if noise is None else noise, times_input=times_input)])


def _column(samples: int, noise: float, *, times_input: bool) -> Shown:
    """The gradient as the flags want it, and what it is called."""
    name = SALIENCY.name if not samples else f"SmoothGrad: mean of {samples} at noise {noise:g}"
    return Shown("gradient", SALIENCY.key, f"{name}, times input" if times_input else name, "map", samples, noise, times_input)
