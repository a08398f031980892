"""What the methods of `cnn visualize` that look at images share: the model, the neuron that is asked about, the images, the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.features.sets import title_of
from cnncli.cli.targets import check_targets
from cnncli.errors import ExitCode, InputError, UsageError, near_miss, printable
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import print_json, talk

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from cnncli.data.preprocess import Preprocess
    from cnncli.models.modelfile import ModelInfo
    from cnncli.visualize.backprop import Aim, Signals

MOST_IMAGES = 10_000
BATCH = 16  # images at a time
MOST_ROWS = 12  # images in one picture

Model = Annotated[str, typer.Argument(help="A run folder, a model file, a net (`cnn models` lists them), torchvision/NAME, timm/NAME.")]
Images = Annotated[list[str], typer.Argument(help="Image files, folders, or patterns in quotes.")]
LayerFlag = Annotated[
    list[str] | None, typer.Option("--layer", help="A layer by the paper's name or torch's path (default: the scores of the classes).")
]
Channel = Annotated[int | None, typer.Option("--channel", help="The channel of the layer (default: each image's strongest).", min=0)]
Class = Annotated[str | None, typer.Option("--class", help="The class whose score is asked about, by name or number (default: the best).")]
Position = Annotated[str | None, typer.Option("--position", help="ROW,COLUMN in the channel's map (default: where it is strongest).")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="imagenet, imagenet-v2, a .pth or .safetensors file, or random; a bare net has random weights without."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the pictures (default: the method's name).")]
Raw = Annotated[Path | None, typer.Option("--raw", help="Also write the numbers behind the picture: FILE.npz.")]
Seed = Annotated[int, typer.Option("--seed", help="Governs all that is drawn, random weights among it.", min=0, max=2**32 - 1)]


@dataclass(frozen=True)
class AskJob:
    """Which neuron of which model is asked about which images, and where the answer goes."""

    method: str
    model: str
    images: tuple[str, ...]
    weights: str | None = None
    classes: int | None = None
    layer: str | None = None
    channel: int | None = None
    class_: str | None = None
    position: str | None = None
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

    def __post_init__(self) -> None:
        if self.layer is None and self.channel is not None:
            raise UsageError("--channel is of a layer", "name it: --layer conv5, or say --class", path="--channel")
        if self.layer is None and self.position is not None:
            raise UsageError("--position is in a layer's map", "name the layer: --layer conv5", path="--position")
        if self.layer is not None and self.class_ is not None:
            raise UsageError("--class asks about a score, --layer about a layer", "leave one of them out", path="--class")


@dataclass(frozen=True)
class Asked:
    """A model made ready, what of it is asked about, and the images.

    title: the model and the neuron, for the picture. pixels: uint8 [N, C, H, W], what the model sees. names: of the images. left_out:
    why images are missing, a line each. random: the seed of random weights, None where they are trained.
    """

    model: nn.Module
    info: ModelInfo
    aim: Aim
    title: str
    pixels: np.ndarray
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    random: int | None
    device: torch.device

    @property
    def preprocess(self) -> Preprocess:
        """How images become what the model sees."""
        return self.info.preprocess

    def batches(self) -> Iterator[torch.Tensor]:
        """The images, normalised, some at a time."""
        import torch

        for first in range(0, len(self.pixels), BATCH):
            yield self.preprocess.normalise(torch.from_numpy(self.pixels[first : first + BATCH]).to(self.device))

    def neuron(self, found: Signals, row: int) -> str:
        """What was asked about of an image, in words."""
        channel = int(found.channels[row])
        value = f"{float(found.values[row]):.3g}"
        if self.aim.tap is None:
            return f"{self.info.classes[channel]}, score {value}"
        where = "" if found.positions is None else f" at {int(found.positions[row, 0])},{int(found.positions[row, 1])}"
        return f"channel {channel}{where}: {value}"


def one_layer(layers: list[str] | None) -> str | None:
    """The layer of --layer, which other commands take several of. UsageError for a second one."""
    if layers is not None and len(layers) > 1:
        raise UsageError(f"--layer is given {len(layers)} times", "look at one layer after the other", path="--layer")
    return layers[0] if layers else None


def ask(job: AskJob) -> Asked:
    """Open the model and the images. UsageError and InputError for what does not exist or does not fit."""
    spec = resolve(job.model)

    from cnncli.models.looking import check_looking

    check_looking(spec, job.weights, job.classes)
    _check(job)

    from cnncli.data.inputs import expand
    from cnncli.engine.device import choose_device
    from cnncli.models.looking import open_to_look

    inputs = expand(job.images, None)
    device = choose_device(job.device)
    opened = open_to_look(spec, job.weights, classes=job.classes, seed=job.seed, device=str(device), tell=talk)
    aim, asked_about = _aim(job, opened.model, opened.info)
    pixels, names, left_out = _read(inputs, opened.info.preprocess)
    data = job.images[0] if len(job.images) == 1 else f"{len(names)} images"
    title = f"{title_of(job.model, data, random=opened.seed is not None)}: {asked_about}"
    return Asked(opened.model, opened.info, aim, title, pixels, names, left_out, opened.seed, device)


def _aim(job: AskJob, model: nn.Module, info: ModelInfo) -> tuple[Aim, str]:
    """What is asked about, and that in words."""
    from cnncli.engine.layers import layers_of
    from cnncli.visualize.backprop import Aim

    if job.layer is None:
        number = None if job.class_ is None else class_of(job.class_, info.classes)
        return Aim(None, number), "the score of the best class" if number is None else f"the score of {info.classes[number]}"
    form = info.preprocess
    layers = layers_of(model, (form.channels, form.height, form.width))
    tap = layers.find(layers.called(job.layer, talk), "after")
    what = f"channel {job.channel}" if job.channel is not None else "the strongest channel"
    return Aim(tap, job.channel, _position(job.position)), f"{what} of {job.layer}"


def class_of(text: str, classes: Sequence[str]) -> int:
    """The class of a name or a number. UsageError with the nearest name for an unknown one."""
    if text in classes:
        return classes.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(classes):
        return int(text)
    hint = near_miss(text, list(classes)) or f"there are {len(classes)}: {', '.join(map(printable, classes[:3]))}, ..."
    raise UsageError(f"--class {printable(text)!r} is none of the model's classes", hint, path="--class")


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"--position {text!r} should be ROW,COLUMN", "for example --position 3,5", path="--position")
    return int(words[0]), int(words[1])


def _read(inputs: Iterator[Any], preprocess: Preprocess) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(uint8 [N, C, H, W], names, why others are missing)."""
    import numpy as np

    from cnncli.data.decode import BadImage

    pixels: list[np.ndarray] = []
    names: list[str] = []
    left_out: list[str] = []
    how = preprocess.decoding()
    for entry in inputs:
        if entry is None:
            continue
        try:
            pixels.append(preprocess.pixels(entry.read(how, preprocess.channels)))
            names.append(entry.name)
        except BadImage as error:
            left_out.append(error.message)
        if len(names) > MOST_IMAGES:
            raise UsageError(f"more than {MOST_IMAGES:,} images", "give fewer at a time", path=entry.name)
    if not pixels:
        raise InputError(
            f"no image could be read: {left_out[0]}" if left_out else "no image", "give image files", path=left_out[0] if left_out else None
        )
    return np.stack(pixels), tuple(names), tuple(left_out)


def _check(job: AskJob) -> None:
    """What would be written, before any work."""
    if job.raw is not None and job.raw.suffix != ".npz":
        raise UsageError(f"--raw {job.raw} should end in .npz", f"--raw {job.raw.stem or 'numbers'}.npz", path="--raw")
    check_targets(job.folder, (job.folder / f"{job.method}.png", *([job.raw] if job.raw else [])), overwrite=job.overwrite)


def write_raw(path: Path, arrays: dict[str, Any]) -> None:
    """The numbers behind a picture, whole or not at all."""
    import numpy as np

    from cnncli import atomic

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    atomic.make_folder(path.parent)
    atomic.write_with(path, fill)


def told(asked: Asked, found: Sequence[Signals], wrote: Sequence[Path], **more: Any) -> dict[str, Any]:
    """The JSON of a method that sends signals back."""
    rows: list[dict[str, Any]] = []
    for signals in found:
        for row in range(len(signals.values)):
            channel = int(signals.channels[row])
            own: dict[str, Any] = {"path": asked.names[len(rows)], "channel": channel, "value": float(signals.values[row])}
            if asked.aim.tap is None:
                own["class"] = asked.info.classes[channel]
            if signals.positions is not None:
                own["position"] = signals.positions[row].tolist()
            rows.append(own)
    return {
        "title": asked.title,
        "random": asked.random,
        "images": rows,
        "files": [str(path) for path in wrote],
        "left_out": list(asked.left_out),
    } | more


def pages(count: int, method: str, folder: Path) -> list[tuple[range, Path]]:
    """(rows, file) of each picture: twelve images a page."""
    several = count > MOST_ROWS
    found = []
    for first in range(0, count, MOST_ROWS):
        name = f"{method}-{first // MOST_ROWS + 1}.png" if several else f"{method}.png"
        found.append((range(first, min(first + MOST_ROWS, count)), folder / name))
    return found


def ended(job: AskJob, asked: Asked, result: dict[str, Any]) -> int:
    """Print the JSON if asked for, and say what was written and left out. The exit code."""
    if job.json:
        print_json(result)
    for path in result["files"]:
        talk(f"wrote {path}")
    for line in asked.left_out:
        talk(f"left out: {line}")
    return ExitCode.SKIPPED if asked.left_out else ExitCode.DONE
