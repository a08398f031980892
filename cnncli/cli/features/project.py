"""`cnn features project`: images as points of a plane, where those that a layer finds alike lie together."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.features.job import SetJob, of_set
from cnncli.cli.features.sets import gather, tell_left_out
from cnncli.cli.options import Json, with_settings
from cnncli.cli.targets import check_targets
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import InputError, UsageError, near_miss
from cnncli.features.projected import METHODS, Method, Projection
from cnncli.reports.scatter import TITLES
from cnncli.reports.terminal import Column, print_json, print_result, table, talk

if TYPE_CHECKING:
    from cnncli.cli.features.sets import Gathered

FILES = ("projection.png", "mosaic.png", "explorer.html", "coordinates.csv")


@with_settings(data_config=DataConfig, infer_config=InferConfig)
@of_set(baselines="pixels")
def command(
    job: SetJob,
    data_config: DataConfig,
    infer_config: InferConfig,
    method: Annotated[str, typer.Option("--method", help="pca, tsne, or umap (an extra).")] = "tsne",
    perplexity: Annotated[
        float | None, typer.Option("--perplexity", help="Of t-SNE: about how many neighbours count (default: 30, or as many as fit).")
    ] = None,
    umap_neighbors: Annotated[
        int | None, typer.Option("--umap-neighbors", help="Of UMAP: how many neighbours count (default: 15).")
    ] = None,
    points: Annotated[int | None, typer.Option("--points", help="At most so many images, drawn at random.", min=2)] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help=f"Folder for {', '.join(FILES)}.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    save_fit: Annotated[
        Path | None, typer.Option("--save-fit", help="Keep what puts further images into the picture (.safetensors).")
    ] = None,
    fit: Annotated[Path | None, typer.Option("--fit", help="Put the images where a kept fit has them.")] = None,
    json: Json = False,
) -> int:
    """Images as points of a plane, by PCA, t-SNE or UMAP of what a layer says of them.

    -o DIR: projection.png (a colour a class, raw pixels beside the layer), mosaic.png (the images on a grid), explorer.html (zoom, look
    at images, search) and coordinates.csv, of the first layer. How many of the 10 nearest neighbours stay neighbours is printed.

    `cnn features project a.npz --save-fit plane.safetensors -o a` and then `cnn features project b.npz --fit plane.safetensors -o b`
    show other images in the same plane.

    JSON: {"title", "method", "count", "of", "seed", "fit", "projections": ({"space", "kind", "perplexity", "explained", "kept",
    "seconds"}), "files"}; kept: the share of the 10 nearest neighbours that stay so.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is not one of {', '.join(METHODS)}", near_miss(method, list(METHODS)), path="--method")
    if fit is not None and save_fit is not None:
        raise UsageError("--fit and --save-fit exclude each other", "a fit that is there need not be kept again", path="--fit")
    if out is None and not json and save_fit is None:
        raise UsageError("pictures go to a folder", "say which: -o projection", path="--out")
    if fit is not None:
        job = replace(job, baselines=())
    asked = ProjectJob(job, method, perplexity, umap_neighbors, points, out, overwrite, save_fit, fit, json)
    return project_set(asked, data_config, infer_config)


@dataclass(frozen=True)
class ProjectJob:
    """What is projected how, and where it goes."""

    features: SetJob
    method: Method
    perplexity: float | None
    neighbours: int | None
    points: int | None
    out: Path | None
    overwrite: bool
    save_fit: Path | None
    fit: Path | None
    json: bool


def project_set(job: ProjectJob, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Project, print, write. Exit code 5 when images were left out."""
    _check_targets(job)
    gathered = gather(job.features, data_config, infer_config, deepest_first=True)
    rows = _chosen(job, len(gathered.features))
    projections = _projections(job, gathered, rows)
    files = _write(job, gathered, rows, projections) if job.out is not None else []
    result = {
        "title": gathered.title,
        "method": projections[0].method,
        "count": len(rows),
        "of": len(gathered.features),
        "seed": job.features.seed,
        "fit": None if job.fit is None else str(job.fit),
        "projections": [_facts(one) for one in projections],
        "files": files + ([] if job.save_fit is None else [str(job.save_fit)]),
    }
    if job.json:
        print_json(result)
    else:
        _print(result)
    return tell_left_out(gathered)


def _check_targets(job: ProjectJob) -> None:
    """Before any work: what exists is not replaced unless asked."""
    from cnncli.features.saved_fit import check_fit_name

    if job.save_fit is not None:
        check_fit_name(job.save_fit)
        if job.method == "umap":
            raise UsageError("a UMAP fit is a Python object, and cnn stores none", "use --method tsne or pca", path="--save-fit")
    targets = ([job.out / name for name in FILES] if job.out is not None else []) + ([job.save_fit] if job.save_fit is not None else [])
    check_targets(job.out, targets, overwrite=job.overwrite)


def _chosen(job: ProjectJob, count: int) -> Any:
    import numpy as np

    if job.points is None or job.points >= count:
        return np.arange(count)
    talk(f"note: {job.points:,} of {count:,} images, drawn at random with seed {job.features.seed}")
    return np.sort(np.random.default_rng(job.features.seed).permutation(count)[: job.points])


def _projections(job: ProjectJob, gathered: Gathered, rows: Any) -> list[Projection]:
    from cnncli.features.project import choose_perplexity, kept, place, project
    from cnncli.features.saved_fit import load_fit, save_fit
    from cnncli.reports.iterations import IterationReport

    features, seed = gathered.features, job.features.seed
    if job.fit is None and job.method == "tsne":
        choose_perplexity(job.perplexity, len(rows))
    found: list[Projection] = []
    for space in features.spaces if job.fit is None else features.spaces[:1]:
        matrix = features.matrix(space.name, rows)
        began = time.perf_counter()
        if job.fit is not None:
            fit = load_fit(job.fit, space, features.origin)
            points = place(fit, matrix)
        else:
            with IterationReport(f"{TITLES[job.method]} of {space.name}") as report:
                points, fit = project(matrix, job.method, perplexity=job.perplexity, neighbours=job.neighbours, seed=seed, told=report.show)
            if job.save_fit is not None and not found:
                save_fit(job.save_fit, fit, space, features.origin)
        seconds = time.perf_counter() - began
        explained = tuple(fit.explained[:2].tolist()) if fit.method == "pca" else ()
        perplexity = fit.perplexity if fit.method == "tsne" else None
        kind = "random" if features.origin.random is not None and space.kind == "layer" else space.kind
        found.append(Projection(fit.method, space.name, kind, points, explained, perplexity, kept(matrix, points, seed), seconds))
    return found


def _write(job: ProjectJob, gathered: Gathered, rows: Any, projections: list[Projection]) -> list[str]:
    from cnncli import atomic
    from cnncli.reports.explorer.explorer import Explored, explorer_html
    from cnncli.reports.mosaic import chosen, draw_mosaic
    from cnncli.reports.scatter import draw_scatter, panel_title
    from cnncli.reports.spreadsheet import csv_text

    assert job.out is not None
    atomic.make_folder(job.out)
    features, first, seed = gathered.features, projections[0], job.features.seed
    labels = features.labels[rows]
    paths, splits = ([of[row] for row in rows.tolist()] for of in (features.paths, features.splits))
    draw_scatter(job.out / FILES[0], projections, labels, features.classes, title=f"{gathered.title}, {len(rows):,} images", seed=seed)
    written = [FILES[0]]
    thumbnail = gathered.thumbnail
    try:
        if thumbnail is not None:
            thumbnail(int(rows[0]), 16)
    except InputError as error:
        talk(f"note: {error}")
        thumbnail = None
    if thumbnail is None:
        talk("note: the images are not at hand: no mosaic.png, and no thumbnails in explorer.html")
    else:
        drawn = chosen(len(rows), seed)
        title = f"{panel_title(first)}: {gathered.title}"
        draw_mosaic(
            job.out / FILES[1], first.points[drawn], lambda n, side: thumbnail(int(rows[drawn[n]]), side), title=title, of=len(rows)
        )
        written.append(FILES[1])
    by_place = None if thumbnail is None else lambda n, side: thumbnail(int(rows[n]), side)
    page = Explored(gathered.title, first, labels, features.classes, paths, splits, by_place)
    atomic.write_text(job.out / FILES[2], explorer_html(page))
    named = [features.classes[label] if label >= 0 else "" for label in labels.tolist()]
    table_rows = zip(paths, named, splits, *first.points.T.tolist(), strict=True)
    atomic.write_text(job.out / FILES[3], csv_text(("path", "class", "split", "x", "y"), table_rows))
    return [str(job.out / name) for name in (*written, FILES[2], FILES[3])]


def _facts(one: Projection) -> dict[str, Any]:
    return {
        "space": one.space,
        "kind": one.kind,
        "perplexity": one.perplexity,
        "explained": list(one.explained),
        "kept": one.kept,
        "seconds": round(one.seconds, 3),
    }


def _print(result: dict[str, Any]) -> None:
    from rich.console import Group
    from rich.text import Text

    columns = [Column("features"), Column("neighbours kept", number=True), Column("variance", number=True), Column("seconds", number=True)]
    rows = [
        (
            f"{one['space']} (random weights)" if one["kind"] == "random" else one["space"],
            "-" if one["kept"] is None else f"{one['kept']:.1%}",
            " + ".join(f"{share:.1%}" for share in one["explained"]) or "-",
            f"{one['seconds']:.1f}",
        )
        for one in result["projections"]
    ]
    perplexity = result["projections"][0]["perplexity"]
    how = TITLES[result["method"]] + (f" (perplexity {perplexity:g})" if perplexity is not None else "")
    head = f"{result['title']}: {how} of {result['count']:,} images" + (f", placed by {result['fit']}" if result["fit"] else "")
    foot = "neighbours kept: of each image's 10 nearest, the share that is among its 10 nearest in the plane"
    print_result(Group(Text(head), Text(), table(columns, rows), Text(), Text(foot, style="dim"), *map(Text, result["files"])))
