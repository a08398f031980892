"""What the methods of `cnn visualize` are asked: their shared flags, each declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite, with_settings
from cnncli.cli.shared_flags import Command, with_job
from cnncli.cli.targets import check_targets
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError

BARE = "--list-layers"
MOST_CHANNELS = 10**6  # more than any layer has, and a number that torch can hold

Model = Annotated[str, typer.Argument(help="A run folder, a model file, a net (`cnn models` lists them), torchvision/NAME, timm/NAME.")]
Images = Annotated[list[str] | None, typer.Argument(help="Image files, folders, or patterns in quotes; or see --data.")]
Data = Annotated[str | None, typer.Option("--data", help="Instead of image files: a data set's name (digits, cifar10), a folder, a list.")]
Split = Annotated[str, typer.Option("--split", help="train, val, test or all, of which images.")]
Limit = Annotated[
    int | None, typer.Option("--limit", help="At most this many images, evenly spaced among all (default: 12 of --data, else all).", min=1)
]
LimitOfSet = Annotated[int | None, typer.Option("--limit", help="At most this many images, evenly spaced among all (default: all).", min=1)]
LayerFlag = Annotated[
    list[str] | None, typer.Option("--layer", help="A layer by the paper's name or torch's path (default: the scores of the classes).")
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="A layer by the paper's name or torch's path; can be repeated; all for every one (default: five)."),
]
Channel = Annotated[
    int | None, typer.Option("--channel", help="The channel of the layer (default: each image's strongest).", min=0, max=10**6)
]
Class = Annotated[str | None, typer.Option("--class", help="The class whose score is asked about, by name or number (default: the best).")]
ClassOfSet = Annotated[str | None, typer.Option("--class", help="The one class to look at, by name or number (default: all).")]
Position = Annotated[str | None, typer.Option("--position", help="ROW,COLUMN in the channel's map (default: where it is strongest).")]
ListLayers = Annotated[bool, typer.Option(BARE, help="Print the layers' names and sizes, and nothing else.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="imagenet, imagenet-v2, a .pth or .safetensors file, or random; a bare net has random weights without."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the pictures (default: the method's name).")]
Raw = Annotated[Path | None, typer.Option("--raw", help="Also write the numbers behind the picture: FILE.npz.")]
Seed = Annotated[int, typer.Option("--seed", help="Governs all that is drawn, random weights among it.", min=0, max=2**32 - 1)]


@dataclass(frozen=True)
class AskJob:
    """Which neuron of which model is asked about which images, and where the answer goes. A field is the flag of its name.

    images: files, folders and patterns; or data, a source's name. layers: as they were typed; most methods take one.
    """

    method: str
    model: str
    images: tuple[str, ...] = ()
    data: str | None = None
    split: str = "all"
    limit: int | None = None
    weights: str | None = None
    classes: int | None = None
    layers: tuple[str, ...] = ()
    channel: int | None = None
    class_: str | None = None
    position: str | None = None
    list_layers: bool = False
    out: Path | None = None
    raw: Path | None = None
    overwrite: bool = False
    seed: int = 0
    device: str = "auto"
    json: bool = False

    @property
    def folder(self) -> Path:
        """Where the pictures go."""
        return self.out or Path(self.method)

    @property
    def layer(self) -> str | None:
        """The one of --layer. UsageError for a second one."""
        if len(self.layers) > 1:
            raise UsageError(f"--layer is given {len(self.layers)} times", "look at one layer after the other", path="--layer")
        return self.layers[0] if self.layers else None

    def __post_init__(self) -> None:
        if not self.layers and self.channel is not None:
            raise UsageError("--channel is of a layer", "name it: --layer conv5, or say --class", path="--channel")
        if not self.layers and self.position is not None:
            raise UsageError("--position is in a layer's map", "name the layer: --layer conv5", path="--position")

    def check_images(self) -> None:
        """UsageError where it is not plain which images are meant."""
        if self.images and self.data is not None:
            raise UsageError("images are given by name and by --data", "leave one of them out", path="--data")
        if self.data is None and self.split != "all":
            raise UsageError("--split is of a data set", "name it: --data NAME; image files have no splits", path="--split")
        if not self.images and self.data is None:
            raise UsageError(f"{self.method} looks at images", "give image files or a folder, or --data NAME", path="IMAGES")

    def check_targets(self, *paths: Path) -> None:
        """UsageError where one of these, or the numbers' file, exists, and no --overwrite was given."""
        if self.raw is not None and self.raw.suffix != ".npz":
            raise UsageError(f"--raw {self.raw} should end in .npz", f"--raw {self.raw.stem or 'numbers'}.npz", path="--raw")
        check_targets(self.folder, (*paths, *([self.raw] if self.raw else [])), overwrite=self.overwrite)


def _every(
    *,
    model: Model,
    images: Images = None,
    data: Data = None,
    split: Split = "all",
    limit: Limit = None,
    weights: Weights = None,
    classes: Classes = None,
    layer: LayerFlag = None,
    channel: Channel = None,
    class_: Class = None,
    position: Position = None,
    list_layers: ListLayers = False,
    out: Out = None,
    raw: Raw = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """All flags there are, in the order of the help."""


NEURON = ("layer", "channel", "class_", "position")  # flags of methods that ask about any neuron
OF_SOURCES = ("data", "split", "limit")
_ALWAYS = ("model", "weights", "classes", "out", "raw", "overwrite", "seed", "device", "json")
_LAST = ("out", "raw", "overwrite", "seed", "device", "json")  # behind a method's own flags


def asks(method: str, *takes: str, **meanings: Any) -> Callable[[Command], Command]:
    """Decorate a method's `command(job, ..., own flags) -> int`: it gets the flags that all have, and those of `_every` that it takes.

    images: where they are among `takes`, so are those of a data source, and with them the parameter `data_config`.
    meanings: by a flag's parameter, what it means here, where that is not as in `_every`.
    """
    wanted = {*_ALWAYS, *takes, *(OF_SOURCES if "images" in takes else ()), *(["list_layers"] if "layer" in takes else ())}

    def make(*, images: list[str] | None = None, layer: list[str] | None = None, **given: Any) -> AskJob:
        return AskJob(method, images=tuple(images or ()), layers=tuple(layer or ()), **given)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def answered(job: AskJob, **arguments: Any) -> int:
            if job.list_layers:
                from cnncli.cli.visualize.asking import show_layers

                return show_layers(job)
            return command(job, **arguments)

        run = with_job(_every, make, wanted, last=_LAST, meanings=meanings)(answered)
        return with_settings(data_config=DataConfig)(run) if "images" in wanted else run

    return decorate


def channels_of(text: str, count: int) -> list[int]:
    """`0-15,40` as channels of a layer that has `count`. UsageError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not all(word.isascii() and word.isdigit() for word in ((first, last) if dash else (first,))) or len(part) > 40:
            raise UsageError(f"--channels {text!r} should be numbers and ranges", "for example --channels 0-15,40", path="--channels")
        low, high = int(first), int(last if dash else first)
        if low > high or high >= count:
            raise UsageError(f"--channels {part.strip()}: there are {count} channels", f"0-{count - 1}", path="--channels")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))
