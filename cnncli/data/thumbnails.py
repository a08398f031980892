"""Small pictures of a source's images: a few of every class and split, and those that an audit found twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from cnncli.data.decode import USUAL, BadImage, Decoding
from cnncli.data.examine import Examined, Looks
from cnncli.data.facts import Audit, Duplicates, Near, Spot
from cnncli.data.source import Sample, Source
from cnncli.data.threads import in_order, usual_threads

MOST_CLASSES = 40  # rows of a sheet; a longer one is not looked at
MOST_GROUPS = 30
MOST_OF_A_GROUP = 4


@dataclass(frozen=True)
class Row:
    """One class. counts: {split: its images}. pictures: {split: a few of them, as they are}."""

    name: str
    counts: dict[str, int]
    pictures: dict[str, list[Image.Image]] = field(default_factory=dict)


@dataclass(frozen=True)
class Twice:
    """Images that are the same, or nearly. why: one line. pictures: the first few. more: how many others there are."""

    why: str
    spots: tuple[Spot, ...]
    pictures: tuple[Image.Image, ...]
    more: int


def rows(source: Source, looks: Looks, *, size: int, per_split: dict[str, int], how: Decoding = USUAL) -> tuple[list[Row], int]:
    """(a row a class, with `per_split` readable images evenly spaced over it; how many classes are left out).

    size: pixels that neither side of a picture exceeds. Of more than 40 classes the 20 with the most and the 20 with the fewest
    images are shown.
    """
    members: defaultdict[tuple[int, str], list[Sample]] = defaultdict(list)
    for (sample, split), seen in zip(looks.items, looks.seen, strict=True):
        if isinstance(seen, Examined):
            members[sample.label, split].append(sample)
    counts = {split: source.counts(split) for split in source.splits}
    chosen = list(range(len(source.classes)))
    if len(chosen) > MOST_CLASSES:
        by_size = sorted(chosen, key=lambda label: -sum(per[label] for per in counts.values()))
        chosen = by_size[: MOST_CLASSES // 2] + by_size[-(MOST_CLASSES // 2) :]
    made = [Row(source.classes[label], {split: per[label] for split, per in counts.items()}) for label in chosen]
    wanted = [
        (row, split, sample)
        for row, label in zip(made, chosen, strict=True)
        for split in source.splits
        for sample in _spaced(members[label, split], per_split.get(split, 0))
    ]
    pictures = in_order(lambda index: _thumbnail(source, wanted[index][2], size, how), range(len(wanted)), usual_threads())
    for (row, split, _), picture in zip(wanted, pictures, strict=True):
        row.pictures.setdefault(split, []).append(picture)
    return made, len(source.classes) - len(chosen)


def twice(source: Source, looks: Looks, audit: Audit, *, size: int, how: Decoding = USUAL) -> list[Twice]:
    """What to show of duplicates and near duplicates, the same pixels first; of each, conflicting labels, leaks, then the others."""
    sample_of = {(sample.path, split): sample for sample, split in looks.items}
    found: list[Duplicates | Near] = sorted(
        (*audit.duplicates, *audit.near), key=lambda d: (isinstance(d, Near), not d.conflict, not d.leak)
    )
    made = []
    for group in found[:MOST_GROUPS]:
        shown = group.spots[:MOST_OF_A_GROUP]
        pictures = tuple(_thumbnail(source, sample_of[spot.path, spot.split], size, how) for spot in shown)
        made.append(Twice(_why(group), tuple(shown), pictures, len(group.spots) - len(shown)))
    return made


def _why(group: Duplicates | Near) -> str:
    alike = "same pixels" if isinstance(group, Duplicates) else f"near ({group.bits} bits)"
    where = (["several classes"] if group.conflict else []) + (["train and elsewhere"] if group.leak else [])
    return ", ".join((alike, *where))


def _spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` of them, evenly spaced."""
    count = min(count, len(samples))
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]


def _thumbnail(source: Source, sample: Sample, size: int, how: Decoding) -> Image.Image:
    """The image in colour, shrunk or (where it is at most half as large) enlarged by a whole number to fit into size x size."""
    try:
        image = source.read(sample, how).convert("RGB")
    except BadImage:  # it was readable a moment ago
        return Image.new("RGB", (size, size), "white")
    times = size // max(image.size)
    if times >= 2:
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return image
