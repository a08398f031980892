"""`cnn visualize filters`: the weights of a convolution as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.cli.options import Classes, Device, Json, Overwrite
from cnncli.cli.targets import check_targets
from cnncli.cli.visualize.asking import Model, Out, Raw, Seed, Weights, one_layer, write_raw
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import print_json, talk

NAME = "filters"
SHOWS, SORTS = ("auto", "colour", "norms", "channels"), ("none", "norm")


def command(
    model: Model,
    weights: Weights = None,
    classes: Classes = None,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="A convolution (default: the first).")] = None,
    show: Annotated[
        str,
        typer.Option(
            "--show",
            help="colour (of 1 or 3 input channels), norms (over input channels), channels (of one filter), or auto: colour, else norms.",
        ),
    ] = "auto",
    number: Annotated[int | None, typer.Option("--number", help="Of --show channels: which filter.", min=0)] = None,
    sort: Annotated[str, typer.Option("--sort", help="none, or norm: the strongest first.")] = "none",
    out: Out = None,
    raw: Raw = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """The weights of a convolution as pictures: the lecture's first look inside a net. Zero is the middle grey, each filter is scaled by
    its largest weight; norms go from black to white.

    -o DIR writes filters.png, the sheet, and filters/filter-07.png, one a filter. JSON: {"title", "model", "layer", "show", "shape": [K, C,
    H, W], "random": the seed of random weights or null, "filters": ({"number", "norm"}), "files"}.
    """
    for flag, value, known in (("--show", show, SHOWS), ("--sort", sort, SORTS)):
        if value not in known:
            raise UsageError(f"{flag} {value!r} is not one of {', '.join(known)}", near_miss(value, list(known)), path=flag)
    return draw(Job(model, weights, classes, one_layer(layer), show, number, sort, out or Path(NAME), raw, overwrite, seed, device, json))


@dataclass(frozen=True)
class Job:
    """Which filters are drawn how, and where."""

    model: str
    weights: str | None
    classes: int | None
    layer: str | None
    show: str
    number: int | None
    sort: str
    out: Path
    raw: Path | None
    overwrite: bool
    seed: int
    device: str
    json: bool


def draw(job: Job) -> int:
    """Draw the sheet and each filter."""
    spec = resolve(job.model)

    from cnncli.models.looking import check_looking

    check_looking(spec, job.weights, job.classes)
    _check(job)

    from cnncli.cli.features.sets import title_of
    from cnncli.engine.device import choose_device
    from cnncli.engine.layers import layers_of
    from cnncli.models.looking import open_to_look
    from cnncli.reports.filter_figure import MOST, draw_filters, write_each
    from cnncli.visualize.filters import filters_of, grey_levels

    opened = open_to_look(spec, job.weights, classes=job.classes, seed=job.seed, device=str(choose_device(job.device)), tell=talk)
    form = opened.info.preprocess
    layers = layers_of(opened.model, (form.channels, form.height, form.width))
    show: Any = job.show
    found = filters_of(opened.model, layers, layer=job.layer, show=show, number=job.number, sort=job.sort)
    shape = "x".join(map(str, found.shape))
    what = {"colour": "", "norms": ", norm over input channels", "channels": f", filter {job.number} by input channel"}[found.show]
    title = title_of(job.model, found.layer, random=opened.seed is not None).replace(" on ", ", ") + f": {shape}{what}"
    pictures, numbers = grey_levels(found.pictures, found.show), found.numbers.tolist()

    from cnncli import atomic

    atomic.make_folder(job.out)
    draw_filters(job.out / f"{NAME}.png", pictures[:MOST], numbers[:MOST], title, left_out=max(0, len(numbers) - MOST))
    wrote = [job.out / f"{NAME}.png"]
    each = write_each(job.out / NAME, pictures, numbers)
    if job.raw is not None:
        write_raw(job.raw, {"filters": found.pictures, "numbers": found.numbers, "norms": found.norms})
        wrote.append(job.raw)
    if job.json:
        facts = [{"number": number, "norm": float(norm)} for number, norm in zip(numbers, found.norms, strict=True)]
        own = {"layer": found.layer, "show": found.show, "shape": list(found.shape), "random": opened.seed, "filters": facts}
        print_json({"title": title, "model": job.model, **own, "files": [str(path) for path in (*wrote, *each)]})
    for path in wrote:
        talk(f"wrote {path}")
    talk(f"wrote {len(each)} pictures into {job.out / NAME}")
    return ExitCode.DONE


def _check(job: Job) -> None:
    """What would be written, before any work."""
    if job.raw is not None and job.raw.suffix != ".npz":
        raise UsageError(f"--raw {job.raw} should end in .npz", f"--raw {job.raw.stem or 'numbers'}.npz", path="--raw")
    check_targets(job.out, (job.out / f"{NAME}.png", job.out / NAME, *([job.raw] if job.raw else [])), overwrite=job.overwrite)
