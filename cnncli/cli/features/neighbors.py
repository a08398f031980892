"""`cnn features neighbors`: the nearest images in feature space and in pixel space, and what they say of the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli import atomic
from cnncli.cli.features.job import SetJob, of_set
from cnncli.cli.features.sets import Gathered, embed, gather, own_rows, tell_left_out
from cnncli.cli.options import Json, Overwrite, with_settings
from cnncli.cli.targets import check_files, check_targets
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import UsageError, near_miss
from cnncli.reports.neighbor_figure import MOST, THUMBNAIL, Cell, Line, draw_neighbors
from cnncli.reports.neighbors import METRIC_WORDS, Report, class_of, neighbors_json, print_neighbors
from cnncli.reports.terminal import json_text, print_json, talk

if TYPE_CHECKING:
    import torch

    from cnncli.features.feature_set import FeatureSet
    from cnncli.features.found import Protocol, Shown
    from cnncli.features.nearest import Nearest
    from cnncli.features.neighbors import Search

RESULT, FIGURE = "neighbors.json", "neighbors.png"
METRICS = ("cosine", "l2")
SEARCHES = ("exact", "faiss")
MOST_QUERIES = 100  # lines of the picture


@with_settings(data_config=DataConfig, infer_config=InferConfig)
@of_set(baselines="pixels,hog,random")
def command(
    job: SetJob,
    data_config: DataConfig,
    infer_config: InferConfig,
    query: Annotated[
        list[str] | None, typer.Option("--query", help="An image file that asks, instead of images of the set; can be repeated.")
    ] = None,
    queries: Annotated[
        int, typer.Option("--queries", help="Images of the set that ask in the picture, spread over classes.", min=1, max=MOST_QUERIES)
    ] = 8,
    k: Annotated[int, typer.Option("-k", help="Neighbours of each image.", min=1)] = 10,
    drawn: Annotated[int, typer.Option("--drawn", help="Of these, how many the picture shows, at most.", min=1, max=MOST)] = 5,
    metric: Annotated[str, typer.Option("--metric", help="cosine or l2.")] = "cosine",
    search: Annotated[
        str, typer.Option("--search", help="exact, or faiss: an index that is faster on very large sets and may miss some neighbours.")
    ] = "exact",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for neighbors.png and neighbors.json (default: none).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Find each image's nearest neighbours in feature space, and beside it in pixel space and other baselines.

    kNN accuracy is that of the majority among the k nearest: of test (else val) images among train images, or of each image among all
    others. Near duplicates are pairs of the whole set that are unusually close (Tukey's outer fence); label-error candidates are images
    most of whose neighbours have one other class (Wilson's rule). Both of the first layer.

    -o DIR writes neighbors.png: images that ask, left, and their neighbours in the first layer and in pixels; and neighbors.json.

    JSON: {"title", "data", "metric", "k", "random": the seed of random weights or null, "count", "protocol", "accuracy": ({"space",
    "kind", "numbers", "queries", "accuracy", "interval"}), "queries": ({"path", "class", "neighbors": {SPACE: ({"path", "class",
    "distance"})}}), "near_duplicates": {"space", "fence", "count", "pairs": ({"distance", "near", "same_pixels", "conflict",
    "images": two of {"path", "class", "split"}})},
    "suspects": ({"path", "split", "class", "neighbors_say", "votes", "votes_for_own", "of", "nearest"}), "left_out", "notes"}.
    """
    for flag, value, known in (("--metric", metric, METRICS), ("--search", search, SEARCHES)):
        if value not in known:
            raise UsageError(f"{flag} {value!r} is not one of {', '.join(known)}", near_miss(value, list(known)), path=flag)
    return find(Job(job, tuple(query or ()), queries, k, drawn, metric, search, out, overwrite, json), data_config, infer_config)


@dataclass(frozen=True)
class Job:
    """Which neighbours are sought, and what of it is kept where."""

    features: SetJob
    files: tuple[str, ...]
    queries: int
    k: int
    drawn: int
    metric: str
    search: str
    out: Path | None
    overwrite: bool
    json: bool


def find(job: Job, data_config: DataConfig, infer_config: InferConfig) -> int:
    """Search, print, and write the files that --out asks for. Exit code 5 when images were left out."""
    targets = _targets(job)
    search = _search(job)
    gathered = gather(job.features, data_config, infer_config, pictures=bool(targets))
    _check_count(job, len(gathered.features))
    asking = embed(job.features, gathered, list(job.files), data_config, infer_config) if job.files else None
    report = _report(job, gathered, asking, search)
    result = neighbors_json(report)
    if targets:
        atomic.make_folder(targets[RESULT].parent)
        _draw(targets[FIGURE], job, report, gathered, asking)
        atomic.write_text(targets[RESULT], json_text(result))
    if job.json:
        print_json(result)
    else:
        print_neighbors(report, str(targets[RESULT]) if targets else "--json")
    for path in targets.values():
        talk(f"wrote {path}")
    return tell_left_out(gathered)


def _targets(job: Job) -> dict[str, Path]:
    """The files that --out asks for, checked before any work."""
    if job.out is None:
        return {}
    targets = {name: job.out / name for name in (FIGURE, RESULT)}
    check_targets(job.out, targets.values(), overwrite=job.overwrite)
    check_files(targets.values())
    return targets


def _search(job: Job) -> Search:
    """How to search. EnvironmentFault where FAISS is asked for and not installed."""
    if job.search == "exact":
        from cnncli.features.nearest import nearest

        return nearest
    from cnncli.features.approximate import check_faiss, nearest_faiss

    check_faiss()
    return nearest_faiss


def _check_count(job: Job, count: int) -> None:
    if job.k >= count:
        hint = f"-k {count - 1}" if count > 1 else "give more images"
        raise UsageError(f"-k {job.k} neighbours need {job.k + 1:,} images, there are {count:,}", hint, path="-k")


def _report(job: Job, gathered: Gathered, asking: Gathered | None, find: Search) -> Report:
    """Every search, one after the other."""
    from functools import partial

    from cnncli.engine.device import choose_device
    from cnncli.features.neighbors import everything, near_pairs, protocol_of, suspects, vote
    from cnncli.features.neighbors import search as searched
    from cnncli.reports.decoding import DecodingReport

    features, device = gathered.features, choose_device(job.features.device)
    space = features.spaces[0].name
    protocol, whole = protocol_of(features), everything(features)
    judged = len(protocol.base) > job.k - (not protocol.leave_one_out) and len(protocol.queries) > 0
    recalls: list[tuple[float, int]] = []
    if job.search != "exact":
        find = partial(find, on_recall=lambda share, count: recalls.append((share, count)))
    with DecodingReport("searching neighbours") as progress:
        look: Any = partial(searched, k=job.k, metric=_metric(job), device=device, find=find, on_progress=progress.show)
        by_space: dict[str, Nearest] = {s.name: look(features, s.name, protocol) for s in features.spaces} if judged else {}
        same = judged and protocol.leave_one_out and len(protocol.base) == len(features)
        of_all = by_space[space] if same else look(features, space, whole)
    votes = tuple(vote(features, s.name, protocol, by_space[s.name]) for s in features.spaces) if judged else ()
    shown = _of_files(job, gathered, asking, device) if asking else _of_set(job, features, protocol if judged else whole, device)
    notes = _notes(job, features, protocol, judged=judged, recalls=recalls)
    return Report(
        title=gathered.title,
        data=features.origin.data,
        metric=job.metric,
        k=job.k,
        protocol=protocol.told,
        features=features,
        votes=votes,
        space=space,
        pairs=near_pairs(features, of_all),
        suspects=suspects(features, whole.base, of_all) if judged else (),
        shown=shown,
        left_out=gathered.left_out,
        notes=notes,
    )


def _notes(job: Job, features: FeatureSet, protocol: Protocol, *, judged: bool, recalls: list[tuple[float, int]]) -> tuple[str, ...]:
    """What else is to be known."""
    notes = []
    if features.origin.random is not None:
        notes.append(f"the model's weights are random (seed {features.origin.random}): it has learned nothing")
    if not judged and not (features.labels >= 0).any():
        notes.append("no kNN accuracy and no label-error candidates: the images have no classes")
    elif not judged:
        among = len(protocol.base) - protocol.leave_one_out
        notes.append(f"no kNN accuracy and no label-error candidates: -k {job.k}, and there are only {among:,} labelled images to be near")
    if recalls:
        least, count = min(recalls)
        told = f"approximate search (FAISS): recall {least:.3f} of the {job.k} nearest, measured against exact search of {count:,} queries"
        notes.append(f"{told}{f', the least of {len(recalls)} searches' if len(recalls) > 1 else ''}")
    return tuple(notes)


def _of_set(job: Job, features: FeatureSet, protocol: Protocol, device: torch.device) -> tuple[Shown, ...]:
    """Some images of the set, drawn over classes, and their neighbours in every space."""
    from dataclasses import replace

    import numpy as np
    import torch

    from cnncli.features.found import Shown
    from cnncli.features.nearest import nearest
    from cnncli.features.neighbors import spread_queries

    rows = spread_queries(features.labels, protocol.queries, job.queries, job.features.seed)
    place = {row: number for number, row in enumerate(np.asarray(protocol.base).tolist())}
    own = torch.tensor([place.get(row, -1) for row in rows.tolist()])
    few = replace(protocol, queries=rows)
    neighbours: list[dict[str, tuple[tuple[int, float], ...]]] = [{} for _ in rows]
    for space in features.names:
        asked, base = torch.from_numpy(features.matrix(space, rows)).to(device), features.matrix(space, few.base)
        found = nearest(asked, base, job.k, metric=_metric(job), own=own)
        _put(neighbours, space, np.asarray(few.base)[found.indices.cpu().numpy()].tolist(), found.distances.tolist())
    return tuple(
        Shown(row, features.paths[row], int(features.labels[row]), found) for row, found in zip(rows.tolist(), neighbours, strict=True)
    )


def _of_files(job: Job, gathered: Gathered, asking: Gathered, device: torch.device) -> tuple[Shown, ...]:
    """Image files, and their neighbours in the whole set, without themselves."""
    import torch

    from cnncli.features.found import Shown
    from cnncli.features.nearest import nearest

    features, files = gathered.features, asking.features
    neighbours: list[dict[str, tuple[tuple[int, float], ...]]] = [{} for _ in files.paths]
    own = torch.tensor(own_rows(job.features, gathered, job.files))
    for space in (name for name in features.names if name in files.names):
        asked = torch.from_numpy(files.matrix(space)).to(device)
        found = nearest(asked, features.matrix(space), job.k, metric=_metric(job), own=own)
        _put(neighbours, space, found.indices.tolist(), found.distances.tolist())
    return tuple(Shown(row, path, -1, found) for row, (path, found) in enumerate(zip(files.paths, neighbours, strict=True)))


def _put(neighbours: list[dict[str, tuple[tuple[int, float], ...]]], space: str, rows: Any, distances: Any) -> None:
    for found, near, far in zip(neighbours, rows, distances, strict=True):
        found[space] = tuple(zip(near, far, strict=True))


def _metric(job: Job) -> Any:
    return job.metric


def _draw(path: Path, job: Job, report: Report, gathered: Gathered, asking: Gathered | None) -> None:
    """The figure: the first layer beside pixels, or beside another baseline where there are none."""
    features = report.features
    beside = next((s.name for s in features.spaces[1:] if s.kind == "pixels"), None)
    beside = beside or next((s.name for s in features.spaces[1:] if s.kind != "layer"), None)
    spaces = [report.space, *([beside] if beside else [])]
    random = " (random weights)" if features.spaces[0].kind == "random" or features.origin.random is not None else ""
    words = {"pixels": "pixel space", "hog": "histograms of oriented gradients"}
    headings = {
        name: words.get(features.space(name).kind, f"feature space: {name}{random if name == report.space else ' (random weights)'}")
        for name in spaces
    }
    accuracy = {v.space: v for v in report.votes}
    headings = {
        name: text + (f", {accuracy[name].k}-NN accuracy {100 * accuracy[name].accuracy:.1f} %" if name in accuracy else "")
        for name, text in headings.items()
    }
    if gathered.thumbnail is None:
        talk(f"note: the images are not at hand: {path} shows no pictures")
    lines = [_line(features, shown, spaces, gathered.thumbnail, asking, job.drawn) for shown in report.shown]
    subtitle = f"the nearest by {METRIC_WORDS[job.metric]}; {report.protocol if report.votes and not asking else 'among all images'}"
    draw_neighbors(path, lines, title=report.title, subtitle=subtitle, headings=headings)


def _line(
    features: FeatureSet, shown: Shown, spaces: list[str], picture: Callable[[int, int], Any] | None, asking: Gathered | None, most: int
) -> Line:
    """A query and its neighbours, with pictures."""
    seen = picture if asking is None else asking.thumbnail
    own = features.classes[shown.label] if shown.label >= 0 else (Path(shown.path).name if asking else "")

    def cell(row: int) -> Cell:
        label = int(features.labels[row])
        agrees = None if min(label, shown.label) < 0 else label == shown.label
        return Cell(picture(row, THUMBNAIL) if picture else None, class_of(features, row) or "", agrees)

    query = Cell(seen(shown.row, THUMBNAIL) if seen else None, own)
    found = {space: tuple(cell(row) for row, _ in shown.neighbours.get(space, ())[:most]) for space in spaces}
    return Line(query, found)
