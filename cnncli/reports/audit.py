"""An audit as tables and bars, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from cnncli.data.facts import Audit, Finding, Sized, Spot
from cnncli.errors import printable
from cnncli.reports.terminal import Column, listing, narrowest, print_result, table, width, write_result

MOST_CLASSES = 30  # beyond, only the largest and the smallest are listed
SHOWN_AT_EITHER_END = 10
WIDEST_BAR = 40
NARROWEST_BAR = 8

JSON_HELP = """JSON: {"data", "images", "readable", "derived" (whether the split was made by hash), "refused" (why a training would
refuse it, or null), "notices", "splits": {split: images}, "classes": [{"class", "total", "counts": {split: images}}], "sizes":
{"smallest", "largest", "widest", "tallest": each {"path", "width", "height"}, "percentiles": {"5": [width, height], ...}} or null,
"formats", "modes", "converted": each {word: images}, "mean", "std": a number a channel in 0..1, "memory": {"input": [C, H, W], "bytes"},
"unreadable": [{"path", "split", "class", "reason"}], "misnamed": [{"path", "split", "class", "suffix", "kind"}], "tiny", "constant":
[{"path", "split", "class"}], "twins": [[names]], "duplicates": [{"same_bytes", "conflict", "leak", "images": [{"path", "split",
"class"}]}], "near": [{"bits", "correlation", "conflict", "leak", "images"}], "near_complete", "findings": [{"grade" (spoils or note),
"kind", "count", "message"}], "spoiled"}."""


def audit_json(audit: Audit) -> dict[str, Any]:
    """The documented JSON of `cnn data`."""
    return {
        "data": audit.data,
        "images": audit.images,
        "readable": audit.images - len(audit.unreadable),
        "derived": audit.derived,
        "refused": audit.refused or None,
        "notices": list(audit.notices),
        "splits": {split: sum(counts) for split, counts in audit.counts.items()},
        "classes": [
            {"class": name, "total": total, "counts": {split: counts[index] for split, counts in audit.counts.items()}}
            for index, (name, total) in enumerate(zip(audit.classes, audit.totals, strict=True))
        ],
        "sizes": _sizes_json(audit),
        "formats": audit.formats,
        "modes": audit.modes,
        "converted": audit.converted,
        "mean": list(audit.mean),
        "std": list(audit.std),
        "memory": {"input": list(audit.input), "bytes": audit.bytes},
        "unreadable": [_spot(item.spot) | {"reason": item.reason} for item in audit.unreadable],
        "misnamed": [_spot(item.spot) | {"suffix": item.suffix, "kind": item.kind} for item in audit.misnamed],
        "tiny": [_spot(spot) for spot in audit.tiny],
        "constant": [_spot(spot) for spot in audit.constant],
        "twins": [list(group) for group in audit.twins],
        "duplicates": [
            {"same_bytes": d.same_bytes, "conflict": d.conflict, "leak": d.leak, "images": [_spot(spot) for spot in d.spots]}
            for d in audit.duplicates
        ],
        "near": [
            {
                "bits": pair.bits,
                "correlation": round(pair.correlation, 4),
                "conflict": pair.conflict,
                "leak": pair.leak,
                "images": [_spot(spot) for spot in pair.spots],
            }
            for pair in audit.near
        ],
        "near_complete": audit.near_complete,
        "findings": [{"grade": f.grade, "kind": f.kind, "count": f.count, "message": f.message} for f in audit.findings],
        "spoiled": audit.spoiled,
    }


def _spot(spot: Spot) -> dict[str, str]:
    return {"path": spot.path, "split": spot.split, "class": spot.name}


def _sizes_json(audit: Audit) -> dict[str, Any] | None:
    sizes = audit.sizes
    if sizes is None:
        return None
    ends = {name: getattr(sizes, name)._asdict() for name in ("smallest", "largest", "widest", "tallest")}
    return ends | {"percentiles": {str(percent): list(size) for percent, size in sizes.percentiles.items()}}


def print_audit(audit: Audit) -> None:
    """Counts, facts about the pixels, and the findings, the grave ones first."""
    from rich.text import Text

    splits = ", ".join(f"{split} {sum(counts):,}" for split, counts in audit.counts.items())
    classes = f"{len(audit.classes):,} class{'' if len(audit.classes) == 1 else 'es'}"
    print_result(Text(f"{printable(audit.data)}: {audit.images:,} images, {classes}: {splits}", overflow="fold"))
    write_result("the split is made here, by a hash of the names\n\n" if audit.derived else "\n")
    _print_counts(audit)
    write_result("\n")
    print_result(listing(_facts(audit), indent=0))
    for grade, title in (("spoils", "would spoil a training"), ("note", "worth knowing")):
        found = [finding for finding in audit.findings if finding.grade == grade]
        if found:
            write_result(f"\n{title}\n")
            _print_findings(found)
    if not audit.findings:
        write_result("\nnothing is wrong with it\n")


def _print_findings(found: Sequence[Finding]) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    for finding in found:
        grid = Table.grid(padding=(0, 1, 0, 0))
        for mark, text in (("-", finding.message), *(("", f"  {example}") for example in finding.examples)):
            grid.add_row(mark, Text(text, overflow="fold"))
        print_result(Padding(grid, (0, 0, 0, 2)))


def _print_counts(audit: Audit) -> None:
    """A row a class; of many classes the largest and the smallest, and one line for those between."""
    several = len(audit.counts) > 1
    totals = audit.totals
    order = list(range(len(audit.classes)))
    folded: list[int] = []
    if len(order) > MOST_CLASSES:
        order.sort(key=lambda index: (-totals[index], audit.classes[index]))
        folded = order[SHOWN_AT_EITHER_END:-SHOWN_AT_EITHER_END]
    hidden = set(folded)
    columns = (
        Column("class"),
        *(Column(split, number=True) for split in audit.counts),
        *((Column("all", number=True),) if several else ()),
    )

    rows: list[tuple[list[str], float]] = []
    for index in order:
        if index in hidden:
            if index == folded[0]:
                last, first = totals[folded[0]], totals[folded[-1]]
                between = f"{first:,} to {last:,}" if first != last else f"{first:,}"
                rows.append(
                    ([f"... {len(folded):,} more", *[""] * (len(columns) - 2), between], sum(totals[i] for i in folded) / len(folded))
                )
            continue
        numbers = [f"{counts[index]:,}" for counts in audit.counts.values()] + ([f"{totals[index]:,}"] if several else [])
        rows.append(([audit.classes[index], *numbers], float(totals[index])))
    _print_with_bars(columns, rows)


def _print_with_bars(columns: Sequence[Column], rows: Sequence[tuple[list[str], float]]) -> None:
    plain = [row for row, _ in rows]
    room = min(WIDEST_BAR, width() - narrowest(columns, plain) - 3)
    if room < NARROWEST_BAR or not rows:
        print_result(table(columns, plain))
        return
    most = max(value for _, value in rows) or 1
    print_result(table((*columns, Column("")), [[*row, bar(value / most, room)] for row, value in rows]))


def bar(share: float, length: int) -> str:
    """A bar of `share` (0..1) of `length` columns, in eighths of one; of # where the output knows no blocks. Never empty above 0."""
    if not (getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf"):
        return "#" * (max(1, round(share * length)) if share > 0 else 0)
    eighths = max(1, round(share * length * 8)) if share > 0 else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _facts(audit: Audit) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    sizes = audit.sizes
    if sizes is not None and sizes.smallest[1:] == sizes.largest[1:] and sizes.widest[1:] == sizes.tallest[1:]:
        facts.append(("size", f"{_size(sizes.smallest)} pixels, all of them"))
    elif sizes is not None:
        width_, height = sizes.median
        facts += [
            ("size", f"median {width_} x {height} pixels (width x height)"),
            ("", f"smallest {_size(sizes.smallest)}, {printable(sizes.smallest.path)}"),
            ("", f"largest {_size(sizes.largest)}, {printable(sizes.largest.path)}"),
            ("width", _percentiles(audit, 0)),
            ("height", _percentiles(audit, 1)),
            ("shape", f"widest {_ratio(sizes.widest)}, {printable(sizes.widest.path)}"),
            ("", f"tallest {_ratio(sizes.tallest)}, {printable(sizes.tallest.path)}"),
        ]
    if audit.formats:
        facts += [("format", _counts(audit.formats)), ("mode", _counts(audit.modes))]
    if audit.mean:
        channels = "red, green, blue" if len(audit.mean) == 3 else "grey"
        facts.append(("mean", f"{'  '.join(f'{value:.4f}' for value in audit.mean)}  {channels}, of values from 0 to 1"))
        facts.append(("deviation", "  ".join(f"{value:.4f}" for value in audit.std)))
    facts.append(("memory", f"{_bytes(audit.bytes)} decoded at {'x'.join(map(str, audit.input))}"))
    return facts


def _size(sized: Sized) -> str:
    return f"{sized.width} x {sized.height}"


def _ratio(sized: Sized) -> str:
    ratio = sized.width / sized.height
    return f"{ratio:.2f}:1" if ratio >= 1 else f"1:{1 / ratio:.2f}"


def _percentiles(audit: Audit, side: int) -> str:
    assert audit.sizes is not None
    return "   ".join(f"{percent} % {size[side]}" for percent, size in audit.sizes.percentiles.items())


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _bytes(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
