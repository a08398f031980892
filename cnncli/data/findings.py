"""What an audit makes of the facts: what would spoil a training, and what is worth knowing. One function a topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cnncli.data.bad import BAD_SHARE
from cnncli.data.classes import some
from cnncli.data.facts import Audit, Duplicates, Finding, Grade, Near, Spot
from cnncli.errors import printable

MOST_EXAMPLES = 3
IMBALANCE = 10  # times as many training images in the largest class as in the smallest

CONVERTED = {
    "deep": "{} with more than 8 bits a value: scaled to 8",
    "cmyk": "{} in CMYK: converted to RGB",
    "palette": "{} with a palette: converted to RGB",
    "alpha": "{} with transparency: laid over the background",
    "animated": "{} with several frames or pages: only the first is used",
    "turned": "{} turned as the EXIF orientation says",
    "other colours": "{} in YCbCr or LAB: converted to RGB",
}


def findings(audit: Audit) -> tuple[Finding, ...]:
    """All findings: first what would spoil a training, then what is worth knowing."""
    found = [finding for topic in (_classes, _twins, _unreadable, _duplicates, _near, _training, _files) for finding in topic(audit)]
    if audit.refused and not any(finding.grade == "spoils" for finding in found):
        found.append(Finding("spoils", "refused", 1, audit.refused))
    return tuple(sorted(found, key=lambda finding: finding.grade != "spoils"))


def images(count: int) -> str:
    """`1 image`, `2,000 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def _shown(spot: Spot) -> str:
    return f"{printable(spot.path)} ({spot.split}, {printable(spot.name)})"


def _all_of(spots: Sequence[Spot], joined: str) -> str:
    more = f" and {len(spots) - 3} more" if len(spots) > 3 else ""
    return f" {joined} ".join(map(_shown, spots[:3])) + more


def _examples(lines: Iterable[str], count: int) -> tuple[str, ...]:
    first = tuple(line for line, _ in zip(lines, range(MOST_EXAMPLES), strict=False))
    return (*first, f"and {count - MOST_EXAMPLES:,} more") if count > MOST_EXAMPLES else first


def _classes(audit: Audit) -> Iterator[Finding]:
    counts, names, totals = audit.counts, audit.classes, audit.totals
    if "train" not in counts:
        yield Finding("note", "no-train", 1, "there is no train split: good for judging a model alone")
        return
    train = counts["train"]
    filled = sum(map(bool, train))
    if filled < 2:
        what = "no class has" if not filled else "only one class has"
        yield Finding("spoils", "few-classes", filled, f"{what} training images: a training needs two")
    empty = [name for name, total in zip(names, totals, strict=True) if not total]
    if empty:
        yield Finding("spoils", "empty-class", len(empty), f"class folders without images: {some(empty)}")
    unknown = [name for name, n, total in zip(names, train, totals, strict=True) if total and not n]
    if unknown:
        yield Finding("spoils", "unknown-class", len(unknown), f"classes outside train that train lacks: {some(unknown)}")
    for split in counts:
        missing = [name for name, n, here in zip(names, train, counts[split], strict=True) if n and not here]
        if missing:
            yield Finding("note", "missing-class", len(missing), f"{split} has no images of {some(missing)}")


def _twins(audit: Audit) -> Iterator[Finding]:
    if audit.twins:
        # ASCII, with code points: two Unicode forms look the same on a screen.
        lines = (" and ".join(ascii(name) for name in group) for group in audit.twins)
        message = "classes whose names differ only in case, spaces, hyphens, underscores or Unicode form"
        yield Finding("spoils", "twin-names", len(audit.twins), message, _examples(lines, len(audit.twins)))


def _unreadable(audit: Audit) -> Iterator[Finding]:
    bad = audit.unreadable
    if not bad:
        return
    share = len(bad) / audit.images
    grade: Grade = "spoils" if share > BAD_SHARE else "note"
    lines = (f"{printable(spot.path)}: {reason}" for spot, reason in bad)
    limit = f", more than {BAD_SHARE:.0%}" if grade == "spoils" else ""
    message = f"{images(len(bad))} of {audit.images:,} ({share:.1%}) cannot be read{limit}"
    yield Finding(grade, "unreadable", len(bad), message, _examples(lines, len(bad)))
    lost = Counter((spot.split, spot.name) for spot, _ in bad)
    count = {(split, name): n for split, per in audit.counts.items() for name, n in zip(audit.classes, per, strict=True)}
    gone = [f"{name} ({split})" for (split, name), n in lost.items() if n == count[split, name]]
    if gone:
        yield Finding("spoils", "unreadable-class", len(gone), f"classes without a readable image: {some(gone)}")


def _duplicates(audit: Audit) -> Iterator[Finding]:
    def told(grade: Grade, kind: str, groups: Sequence[Duplicates], message: str, joined: str = "=") -> Iterator[Finding]:
        if groups:
            lines = (_all_of(group.spots, joined) for group in groups)
            yield Finding(grade, kind, len(groups), message, _examples(lines, len(groups)))

    conflicts = [d for d in audit.duplicates if d.conflict]
    yield from told(
        "spoils", "label-conflicts", conflicts, f"{_pictures(len(conflicts))} of several classes: the same pixels, other labels"
    )
    leaks = [d for d in audit.duplicates if d.leak]
    lost = sum(spot.split != "train" for group in leaks for spot in group.spots)
    yield from told("spoils", "leaks", leaks, f"{images(lost)} outside train that train holds too (the same pixels)")
    shared = [d for d in audit.duplicates if d.shared and not d.leak]
    yield from told("note", "val-test-leaks", shared, f"{_pictures(len(shared))} in val and in test (the same pixels)")
    rest = [d for d in audit.duplicates if not (d.conflict or d.leak or d.shared)]
    extra = sum(len(group.spots) - 1 for group in rest)
    yield from told("note", "duplicates", rest, f"{images(extra)} twice within a split and class (the same pixels)")


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"


def _near(audit: Audit) -> Iterator[Finding]:
    least = "" if audit.near_complete else "at least "

    def told(kind: str, pairs: Sequence[Near], message: str) -> Iterator[Finding]:
        if pairs:
            lines = (f"{_all_of(pair.spots, '~')}: {pair.bits} of 64 bits" for pair in pairs)
            many = f"{least}{len(pairs):,} pair{'' if len(pairs) == 1 else 's'}"
            yield Finding("note", kind, len(pairs), message.format(many), _examples(lines, len(pairs)))

    yield from told("near-conflicts", [pair for pair in audit.near if pair.conflict], "{} of near duplicates in different classes")
    yield from told("near-leaks", [pair for pair in audit.near if pair.leak], "{} of near duplicates between train and another split")
    rest = [pair for pair in audit.near if not (pair.conflict or pair.leak)]
    yield from told("near-shared", rest, "{} of near duplicates between val and test")


def _training(audit: Audit) -> Iterator[Finding]:
    filled = [n for n in audit.counts.get("train", ()) if n]
    if len(filled) > 1 and max(filled) >= IMBALANCE * min(filled):
        message = (
            f"the largest class has {max(filled) / min(filled):,.0f} times the training images of the smallest;"
            f" always guessing it would be right on {max(filled) / sum(filled):.0%} of them"
        )
        yield Finding("note", "imbalance", round(max(filled) / min(filled)), message)


def _files(audit: Audit) -> Iterator[Finding]:
    if audit.misnamed:
        lines = (f"{printable(spot.path)} is {kind.upper()}" for spot, _, kind in audit.misnamed)
        n = len(audit.misnamed)
        yield Finding("note", "misnamed", n, f"{images(n)} whose name says another format (read by content)", _examples(lines, n))
    for kind, spots, what in (
        ("tiny", audit.tiny, "far smaller than the others"),
        ("constant", audit.constant, "of one colour throughout"),
    ):
        if spots:
            yield Finding("note", kind, len(spots), f"{images(len(spots))} {what}", _examples(map(_shown, spots), len(spots)))
    for word, n in audit.converted.items():
        yield Finding("note", word.replace(" ", "-"), n, CONVERTED[word].format(images(n)))
    grey = sum(n for mode, n in audit.modes.items() if mode.startswith(("1", "L", "I", "F")) and mode != "LAB")
    total = sum(audit.modes.values())
    if 0 < grey < total:
        yield Finding("note", "grey", grey, f"{images(grey)} in grey among {total - grey:,} in colour: a net for colour sees them as RGB")
