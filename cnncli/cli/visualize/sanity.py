"""`cnn visualize sanity`: how far methods depend on the weights, and how well they rank pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.visualize.asking import Asked, ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.cli.visualize.written import ended, write_raw
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError, near_miss, printable
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from cnncli.reports.decoding import DecodingReport as Progress
    from cnncli.visualize.randomise import Stage

    Way = Callable[[nn.Module], torch.Tensor]

ALL = "saliency,times-input,smoothgrad,guided,deconvnet,gradcam,integrated"
RANDOM_ORDER = "random order"
CURVES = "deletion-insertion.png"


@asks("sanity", "images", "class_")
def command(
    job: AskJob,
    data_config: DataConfig,
    methods: Annotated[
        str | None, typer.Option("--methods", help=f"Some of {ALL} (default: all that there are for the model's activations).")
    ] = None,
    steps: Annotated[
        int,
        typer.Option("--steps", help="Stages from the trained model to the random one, evenly spaced among the layers.", min=1, max=10_000),
    ] = 8,
) -> int:
    """How far a method's picture depends on what the model has learned: layers get random weights from the output down, and the picture of
    the same class is compared with the trained model's by rank correlation (Adebayo et al. 2018). And how well the method ranks pixels: the
    area under the class's probability as the most important pixels are set to the mean colour, which should be small, or put back into a
    blurred image, which should be large (Petsiuk et al. 2018).

    -o DIR writes sanity.png and deletion-insertion.png. JSON: {"title", "random": the seed of random weights or null, "methods": {NAME:
    {"correlation" and "signed": of each stage, "deletion", "insertion"}}, "random_order": {"deletion", "insertion"}, "stages", "images":
    ({"path", "class", "probability"}), "files", "left_out"}.
    """
    return draw(job, data_config, _named(methods), steps)


@dataclass
class Results:
    """Of each method, an array an image or a batch, one behind the other; see `Randomised` and `Curves`."""

    magnitudes: dict[str, list[np.ndarray]] = field(default_factory=dict)
    signed: dict[str, list[np.ndarray]] = field(default_factory=dict)
    first: dict[str, np.ndarray] = field(default_factory=dict)
    deletion: dict[str, list[np.ndarray]] = field(default_factory=dict)
    insertion: dict[str, list[np.ndarray]] = field(default_factory=dict)
    areas: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    shares: Any = None


def _named(methods: str | None) -> tuple[str, ...] | None:
    """The methods of --methods. UsageError for an unknown one."""
    if methods is None:
        return None
    known = ALL.split(",")
    names = tuple(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        if name not in known:
            hint = near_miss(name, known) or f"some of {ALL}"
            raise UsageError(f"--methods {printable(name)!r} is none of the methods", hint, path="--methods")
    return names


def draw(job: AskJob, config: DataConfig, names: tuple[str, ...] | None, steps: int) -> int:
    """Compute, draw and print. names: None for all that can say something of the model. Exit code 5 when images were left out."""
    job.check_images()
    job.check_targets(job.folder / "sanity.png", job.folder / CURVES)
    asked = ask(job, config)
    asked.check_probabilities("sanity")

    from cnncli.models.looking import drawn
    from cnncli.visualize.randomise import check_fresh, stages, weighted

    used = _usable(job, asked, names)
    # Another seed than that of a model which is random itself.
    fresh = drawn(asked.info, (job.seed + 1) % 2**32).to(asked.device)
    check_fresh(asked.model, fresh)
    order = weighted(asked.model, asked.layers)
    at = stages(order, steps)
    results = _compute(job, asked, used, fresh=fresh, order=order, at=at)
    return _finish(job, asked, used, [stage.name for stage in at], results)


def _usable(job: AskJob, asked: Asked, names: tuple[str, ...] | None) -> list[str]:
    """The methods that can say something of the model. UsageError for one that was named and cannot."""
    from cnncli.visualize.maps import METHODS, check_method

    image = next(asked.batches())[:1]
    used = []
    for name in names or METHODS:
        try:
            check_method(name, asked.model, image, asked.layers, job.model)
            used.append(name)
        except UsageError as error:
            if names is not None:
                raise
            talk(f"note: without {name}: {error.message}")
    return used


def _compute(job: AskJob, asked: Asked, names: list[str], *, fresh: nn.Module, order: tuple[str, ...], at: tuple[Stage, ...]) -> Results:
    import torch

    from cnncli.reports.decoding import DecodingReport
    from cnncli.visualize.gradcam import last_map
    from cnncli.visualize.maps import Setting, asked_about
    from cnncli.visualize.randomise import randomised

    tap = asked.layers.find(last_map(asked.layers), "after") if "gradcam" in names else None
    black = asked.colour(0)[:, None, None]
    results = Results()
    for batch, images in enumerate(asked.batches()):
        setting = Setting(tap, black, (job.seed + batch) % 2**32)
        with torch.no_grad():
            shares = asked.model(images).softmax(1)
        classes = shares.argmax(1) if asked.number is None else torch.full((len(images),), asked.number, device=asked.device)
        results.classes += classes.tolist()
        results.probabilities += shares[torch.arange(len(images), device=asked.device), classes].tolist()
        ways = asked_about(names, images, classes, setting)
        with DecodingReport("randomising layers") as report:
            total = len(names) * len(at)
            found = randomised(asked.model, fresh, order, at, ways, on_progress=partial(_show, report, total))
        for name in names:
            results.magnitudes.setdefault(name, []).append(found.magnitudes[name])
            results.signed.setdefault(name, []).append(found.signed[name])
            results.first.setdefault(name, found.first[name])
        _rank(asked, images, classes, ways, seed=setting.seed, results=results)
    return results


def _show(report: Progress, total: int, done: int) -> None:
    report.show(done, total)


def _rank(asked: Asked, images: torch.Tensor, classes: torch.Tensor, ways: dict[str, Way], *, seed: int, results: Results) -> None:
    """Add the curves of deletion and insertion of some images."""
    from cnncli.reports.decoding import DecodingReport
    from cnncli.visualize.deletion import curves, random_order

    for name in (*ways, RANDOM_ORDER):
        maps = ways[name](asked.model) if name in ways else random_order(images, seed)
        with DecodingReport(f"deleting and inserting pixels: {name}") as report:
            found = curves(asked.model, images, maps, classes, seed=seed, on_progress=partial(_show, report, len(images)))
        results.shares = found.shares.numpy()
        results.deletion.setdefault(name, []).append(found.deletion.numpy())
        results.insertion.setdefault(name, []).append(found.insertion.numpy())
        results.areas.setdefault(name, []).extend(zip(*(area.tolist() for area in found.areas), strict=True))


def _finish(job: AskJob, asked: Asked, names: list[str], stages: list[str], results: Results) -> int:
    """Draw, write and print."""
    import numpy as np

    from cnncli import atomic
    from cnncli.reports.sanity_figure import Line, draw_ranking, draw_sanity, show_sanity

    every = [*names, RANDOM_ORDER]
    magnitudes, signed = ({name: np.concatenate(of[name], 1) for name in names} for of in (results.magnitudes, results.signed))
    curves = {name: tuple(np.concatenate(of[name]) for of in (results.deletion, results.insertion)) for name in every}
    areas = {name: np.mean(results.areas[name], 0).tolist() for name in every}
    lines = [
        Line(name, magnitudes[name].mean(1).tolist(), signed[name].mean(1).tolist(), areas[name][0], areas[name][1], results.first[name])
        for name in names
    ]
    atomic.make_folder(job.folder)
    wrote = [job.folder / "sanity.png", job.folder / CURVES]
    draw_sanity(wrote[0], asked.pixels[0], lines, stages, name=asked.names[0], count=len(asked.names), title=asked.title)
    means = {name: (deletion.mean(0), insertion.mean(0)) for name, (deletion, insertion) in curves.items()}
    draw_ranking(wrote[1], results.shares, means, areas, count=len(asked.names), title=asked.title)
    if job.raw is not None:
        arrays: dict[str, Any] = {"paths": np.array(asked.names, dtype=str), "shares": results.shares}
        arrays |= {f"{name}, correlation": magnitudes[name] for name in names} | {f"{name}, signed": signed[name] for name in names}
        arrays |= {f"{name}, {what}": own for name in every for what, own in zip(("deletion", "insertion"), curves[name], strict=True)}
        write_raw(job.raw, arrays)
        wrote.append(job.raw)
    if not job.json:
        show_sanity(lines, (RANDOM_ORDER, *areas[RANDOM_ORDER]))
    result = _told(asked, lines, stages, areas[RANDOM_ORDER], results)
    return ended(job, asked.left_out, result | {"files": [str(path) for path in wrote], "left_out": list(asked.left_out)})


def _told(asked: Asked, lines: list[Any], stages: list[str], unordered: list[float], results: Results) -> dict[str, Any]:
    """The JSON, but for the files."""
    images = [
        {"path": path, "class": asked.info.classes[number], "probability": share}
        for path, number, share in zip(asked.names, results.classes, results.probabilities, strict=True)
    ]
    return {
        "title": asked.title,
        "random": asked.random,
        "methods": {
            line.name: {"correlation": line.correlation, "signed": line.signed, "deletion": line.deletion, "insertion": line.insertion}
            for line in lines
        },
        "random_order": {"deletion": unordered[0], "insertion": unordered[1]},
        "stages": stages,
        "images": images,
    }
