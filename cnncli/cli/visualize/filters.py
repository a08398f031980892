"""`cnn visualize filters`: the weights of a convolution as pictures."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnncli.cli.features.sets import title_of
from cnncli.cli.visualize.asking import layers_in, open_asked
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.cli.visualize.written import write_raw
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.reports.terminal import print_json, talk

NAME = "filters"
SHOWS, SORTS = ("auto", "colour", "norms", "channels"), ("none", "norm")
Convolution = Annotated[list[str] | None, typer.Option("--layer", help="A convolution (default: the first).")]


@asks(NAME, "layer", layer=Convolution)
def command(
    job: AskJob,
    show: Annotated[
        str,
        typer.Option(
            "--show",
            help="colour (of 1 or 3 input channels), norms (over input channels), channels (of one filter), or auto: colour, else norms.",
        ),
    ] = "auto",
    number: Annotated[int | None, typer.Option("--number", help="Of --show channels: which filter.", min=0)] = None,
    sort: Annotated[str, typer.Option("--sort", help="none, or norm: the strongest first.")] = "none",
) -> int:
    """The weights of a convolution as pictures: the lecture's first look inside a net. Zero is the middle grey, each filter is scaled by
    its largest weight; norms go from black to white. Filters of 1x1 weights share a scale.

    -o DIR writes filters.png, the sheet, and filters/filter-07.png, one a filter; --overwrite removes those of an earlier call. JSON:
    {"title", "model", "layer", "show", "shape": [K, C, H, W], "random": the seed of random weights or null, "filters": ({"number",
    "norm"}), "files"}.
    """
    for flag, value, known in (("--show", show, SHOWS), ("--sort", sort, SORTS)):
        if value not in known:
            raise UsageError(f"{flag} {value!r} is not one of {', '.join(known)}", near_miss(value, list(known)), path=flag)
    return draw(job, show, number, sort)


def draw(job: AskJob, how: Any, number: int | None, sort: str) -> int:
    """Draw the sheet and each filter."""
    job.check_targets(job.folder / f"{NAME}.png", job.folder / NAME)
    opened, _ = open_asked(job)

    from cnncli import atomic
    from cnncli.reports.filter_figure import MOST, draw_filters, remove_others, scale_words, write_each
    from cnncli.visualize.filters import filters_of, grey_levels, one_scale

    layers = layers_in(opened)
    found = filters_of(opened.model, layers, layer=job.layer, show=how, number=number, sort=sort)
    shape = "x".join(map(str, found.shape))
    what = {"colour": "", "norms": ", norm over input channels", "channels": f", filter {number} by input channel"}[found.show]
    title = title_of(job.model, found.layer, random=opened.seed is not None).replace(" on ", ", ") + f": {shape}{what}"
    pictures, numbers = grey_levels(found.pictures, found.show), found.numbers.tolist()
    note = scale_words(found.show, float(abs(found.pictures).max()) if one_scale(found.pictures) else None)
    norms = found.norms[:MOST].tolist() if sort == "norm" else None

    atomic.make_folder(job.folder)
    left_out = max(0, len(numbers) - MOST)
    draw_filters(job.folder / f"{NAME}.png", pictures[:MOST], numbers[:MOST], title, note=note, norms=norms, left_out=left_out)
    wrote = [job.folder / f"{NAME}.png"]
    each = write_each(job.folder / NAME, pictures, numbers)
    if job.overwrite:
        remove_others(job.folder / NAME, each)
    if job.raw is not None:
        write_raw(job.raw, {"filters": found.pictures, "numbers": found.numbers, "norms": found.norms})
        wrote.append(job.raw)
    if job.json:
        facts = [{"number": number, "norm": float(norm)} for number, norm in zip(numbers, found.norms, strict=True)]
        own = {"layer": found.layer, "show": found.show, "shape": list(found.shape), "random": opened.seed, "filters": facts}
        print_json({"title": title, "model": job.model, **own, "files": [str(path) for path in (*wrote, *each)]})
    for path in wrote:
        talk(f"wrote {path}")
    talk(f"wrote {len(each)} pictures into {job.folder / NAME}")
    return ExitCode.DONE
