"""The images and the layers that the commands of `cnn features` work on: their shared flags, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cnncli.cli.options import Classes, Device
from cnncli.cli.shared_flags import Command, with_job
from cnncli.errors import UsageError, near_miss

ACTIVATIONS = ("after", "before")
POOLS = ("avg", "max", "flatten", "none")
BASELINES = ("pixels", "hog", "random")
NONE = "none"
RANDOM = "@random"  # behind a layer's name: of the net with random weights

What = Annotated[
    str,
    typer.Argument(
        help="A feature file (`cnn features extract` makes them), or a model: a run folder, a model file, a net, torchvision/NAME."
    ),
]
Layer = Annotated[
    list[str] | None,
    typer.Option("--layer", help="A layer by the paper's name or torch's path; can be repeated (default: the last before the classifier)."),
]
Pool = Annotated[
    str, typer.Option("--pool", help="What is kept of a map of C x H x W: avg or max (C numbers), flatten (all in a row), none (the map).")
]
ActivationFlag = Annotated[
    str, typer.Option("--activation", help="A layer's numbers after the activation function that directly follows, or before it.")
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="imagenet, imagenet-v2, a .pth or .safetensors file, or random; a bare net has random weights without."),
]
Data = Annotated[
    str | None, typer.Option("--data", help="The images: a folder, a list, a data set's name (default: those the features are of).")
]
Split = Annotated[str, typer.Option("--split", help="train, val, test or all, of which images.")]
Unlabelled = Annotated[bool, typer.Option("--unlabelled", help="Take all images below the folder, which has no classes.")]
BaselinesFlag = Annotated[
    str,
    typer.Option(
        "--baselines",
        help="What is put beside the layers, separated by commas: pixels, hog (histograms of oriented gradients), random (layers of the "
        "net with random weights); or none.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Governs all that is drawn, random weights among it.", min=0, max=2**32 - 1)]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images per forward pass; does not change the result.", min=1)]


@dataclass(frozen=True)
class SetJob:
    """What a command works on.

    what: a feature file or a model. layers: names; of a file none stand for all of its layers, of a model for the last before the
    classifier. baselines: kinds of spaces that are put beside the layers. The other fields are the flags of these names.
    """

    what: str
    weights: str | None = None
    classes: int | None = None
    data: str | None = None
    split: str = "all"
    layers: tuple[str, ...] = ()
    pool: str = "avg"
    activation: str = "after"
    baselines: tuple[str, ...] = ()
    unlabelled: bool = False
    seed: int = 0
    device: str = "auto"
    batch_size: int = 64

    def __post_init__(self) -> None:
        for flag, value, known in (("--pool", self.pool, POOLS), ("--activation", self.activation, ACTIVATIONS)):
            if value not in known:
                raise UsageError(f"{flag} {value!r} is not one of {', '.join(known)}", near_miss(value, list(known)), path=flag)
        for name in self.layers:
            if not name or name in BASELINES[:2]:
                raise UsageError(f"--layer {name!r} names no layer", f"--baselines {name} takes them" if name else "", path="--layer")


def baselines_of(text: str) -> tuple[str, ...]:
    """What --baselines asks for. UsageError for an unknown word."""
    if text == NONE:
        return ()
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in words:
        if word not in BASELINES:
            hint = near_miss(word, [*BASELINES, NONE]) or f"choose from {', '.join((*BASELINES, NONE))}"
            raise UsageError(f"--baselines {word!r} is unknown", hint, path="--baselines")
    return words


def _every(
    *,
    what: What,
    weights: Weights = None,
    classes: Classes = None,
    data: Data = None,
    split: Split = "all",
    layer: Layer = None,
    pool: Pool = "avg",
    activation: ActivationFlag = "after",
    baselines: BaselinesFlag = NONE,
    unlabelled: Unlabelled = False,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """All flags there are, in the order of the help."""


_LAST = ("seed", "batch_size", "device")  # behind a command's own flags


def of_set(*without: str, meanings: dict[str, Any] | None = None, **defaults: Any) -> Callable[[Command], Command]:
    """Decorate a command of `cnn features`, `command(job: SetJob, ..., own flags) -> int`, which gets the flags of `_every`.

    without: those that it has not. meanings, defaults: where they are others than there.
    """

    def make(*, layer: list[str] | None, baselines: str = NONE, **given: Any) -> SetJob:
        return SetJob(layers=tuple(layer or ()), baselines=baselines_of(baselines), **given)

    takes = set(inspect.signature(_every).parameters).difference(without)
    return with_job(_every, make, takes, last=_LAST, meanings=meanings, defaults=defaults)
