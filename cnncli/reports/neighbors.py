"""What nearest neighbours say of a set of images: as tables, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnncli.reports.terminal import Column, print_result, table

if TYPE_CHECKING:
    from cnncli.features.feature_set import FeatureSet
    from cnncli.features.found import Pair, Pairs, Shown, Suspect, Vote

FIRST = 5  # near duplicates and suspects in the table; all are in the JSON
METRIC_WORDS = {"l2": "Euclidean distance", "cosine": "cosine distance"}


@dataclass(frozen=True)
class Report:
    """All that was found. space: the one of the near duplicates and the suspects. notes: what else is to be known, a line each."""

    title: str
    data: str
    metric: str
    k: int
    protocol: str
    features: FeatureSet
    votes: tuple[Vote, ...]
    space: str
    pairs: Pairs
    suspects: tuple[Suspect, ...]
    shown: tuple[Shown, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def neighbors_json(report: Report) -> dict[str, Any]:
    """The documented JSON of `cnn features neighbors`."""
    features = report.features
    return {
        "title": report.title,
        "data": report.data,
        "metric": report.metric,
        "k": report.k,
        "random": features.origin.random,
        "count": len(features),
        "protocol": report.protocol,
        "accuracy": [
            {
                "space": v.space,
                "kind": kind_of(features, v.kind),
                "numbers": v.size,
                "queries": v.count,
                "accuracy": v.accuracy,
                "interval": [v.low, v.high],
            }
            for v in report.votes
        ],
        "queries": [_shown_json(features, shown) for shown in report.shown],
        "near_duplicates": {
            "space": report.space,
            "fence": report.pairs.fence,
            "count": report.pairs.near,
            "pairs": [_pair_json(features, pair) for pair in report.pairs.pairs],
        },
        "suspects": [_suspect_json(features, suspect) for suspect in report.suspects],
        "left_out": list(report.left_out),
        "notes": list(report.notes),
    }


def kind_of(features: FeatureSet, kind: str) -> str:
    """The kind of a space; a layer of a model with random weights is `random`."""
    return "random" if kind == "layer" and features.origin.random is not None else kind


def class_of(features: FeatureSet, row: int) -> str | None:
    """The class of an image, None where it has none."""
    label = int(features.labels[row])
    return features.classes[label] if label >= 0 else None


def _shown_json(features: FeatureSet, shown: Shown) -> dict[str, Any]:
    return {
        "path": shown.path,
        "class": features.classes[shown.label] if shown.label >= 0 else None,
        "neighbors": {
            space: [{"path": features.paths[row], "class": class_of(features, row), "distance": far} for row, far in found]
            for space, found in shown.neighbours.items()
        },
    }


def _pair_json(features: FeatureSet, pair: Pair) -> dict[str, Any]:
    return {
        "distance": pair.distance,
        "near": pair.near,
        "same_pixels": pair.same_pixels,
        "conflict": pair.conflict,
        "images": [
            {"path": features.paths[row], "class": class_of(features, row), "split": features.splits[row]}
            for row in (pair.first, pair.second)
        ],
    }


def _suspect_json(features: FeatureSet, suspect: Suspect) -> dict[str, Any]:
    return {
        "path": features.paths[suspect.row],
        "split": features.splits[suspect.row],
        "class": features.classes[suspect.label],
        "neighbors_say": features.classes[suspect.said],
        "votes": suspect.votes,
        "votes_for_own": suspect.own,
        "of": suspect.k,
        "nearest": suspect.distance,
    }


def print_neighbors(report: Report, everything: str) -> None:
    """Accuracy by space, then near duplicates and suspects. everything: where all of these are."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(report.title, style="bold"), Text()]
    if report.votes:
        told = f"{report.k} nearest by {METRIC_WORDS[report.metric]}, majority vote: {report.protocol}; 95 % intervals"
        parts += [_accuracies(report), Text(), Text(told, style="dim"), Text()]
    near = [pair for pair in report.pairs.pairs if pair.near]
    parts += [Text(_near_line(report, near)), Text()]
    if near:
        parts += [_near_table(report.features, near[:FIRST]), Text()]
    if report.votes:
        told = f"{_count(len(report.suspects), 'image')} most of whose {report.k} neighbours in {report.space} have one other class"
        parts += [Text(f"{told}{', the surest first:' if report.suspects else ''}"), Text()]
    if report.suspects:
        parts += [_suspect_table(report.features, report.suspects[:FIRST]), Text()]
    notes = [*report.notes]
    if len(near) > FIRST or len(report.suspects) > FIRST:
        notes.append(f"all are in {everything}")
    print_result(Group(*parts, *(Text(note, style="dim") for note in notes)))


def kind_words(kind: str) -> str:
    """What a space is, in a table."""
    return {"layer": "layer", "random": "layer, random weights", "pixels": "raw pixels", "hog": "oriented gradients"}[kind]


def _accuracies(report: Report) -> Any:
    columns = [Column("space"), Column("of", text=True), *(Column(name, number=True) for name in ("numbers", "kNN accuracy", "interval"))]
    rows = [
        (
            v.space,
            kind_words(kind_of(report.features, v.kind)),
            f"{v.size:,}",
            f"{100 * v.accuracy:.1f} %",
            f"{100 * v.low:.1f}..{100 * v.high:.1f} %",
        )
        for v in report.votes
    ]
    return table(columns, rows)


def _near_line(report: Report, near: Sequence[Pair]) -> str:
    inside = [
        f"{n:,} {word}" for n, word in ((sum(p.conflict for p in near), "of two classes"), (_leaks(report, near), "across splits")) if n
    ]
    told = f"{_count(report.pairs.near, 'pair')} of near duplicates in {report.space}, nearer than {report.pairs.fence:.3g}"
    return f"{told}{' (' + ', '.join(inside) + ')' if inside else ''}{':' if near else ''}"


def _leaks(report: Report, near: Sequence[Pair]) -> int:
    splits = report.features.splits
    return sum(splits[pair.first] != splits[pair.second] for pair in near)


def _near_table(features: FeatureSet, pairs: Sequence[Pair]) -> Any:
    columns = [Column("distance", number=True), Column("image", text=True), Column("and", text=True), Column("pixels")]
    rows = [
        (
            f"{pair.distance:.3g}",
            _named(features, pair.first),
            _named(features, pair.second),
            {None: "", True: "the same", False: "differ"}[pair.same_pixels],
        )
        for pair in pairs
    ]
    return table(columns, rows)


def _suspect_table(features: FeatureSet, suspects: Sequence[Suspect]) -> Any:
    columns = [Column("image", text=True), Column("class"), Column("neighbours say"), Column("votes", number=True)]
    columns += [Column("for its own", number=True)]
    rows = [
        (features.paths[s.row], features.classes[s.label], features.classes[s.said], f"{s.votes} of {s.k}", str(s.own)) for s in suspects
    ]
    return table(columns, rows)


def _named(features: FeatureSet, row: int) -> str:
    inside = ", ".join(word for word in (class_of(features, row) or "", features.splits[row]) if word)
    return f"{features.paths[row]}{f' ({inside})' if inside else ''}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
