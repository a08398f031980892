"""A source without what an audit found wrong, as rows of a CSV file: path, label, split. The images stay where and as they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnncli.data.classes import some
from cnncli.data.decode import BadImage
from cnncli.data.duplicates import duplicate_groups
from cnncli.data.examine import Looks
from cnncli.data.source import Source
from cnncli.data.twins import merged, twins
from cnncli.errors import UsageError, printable

HEADER = ("path", "label", "split")


@dataclass(frozen=True)
class Cleaned:
    """rows: (file, label, split). told: what was done; left: what no row can repair; one line each."""

    rows: tuple[tuple[Path, str, str], ...]
    told: tuple[str, ...]
    left: tuple[str, ...]


def cleaned(source: Source, looks: Looks) -> Cleaned:
    """The images of `source` that are worth training on, in its order.

    Left out: unreadable images; pictures (the same pixels) that stand in several classes, all of them; of a picture in train and in
    another split the one in train; of a picture twice in a split all but the first. Twin class names become one where that is
    unambiguous (see cnncli.data.twins.merged). UsageError for a source whose images are no files.
    """
    counts = {split: source.counts(split) for split in source.splits}
    becomes, alone = merged(twins(source.classes), source.classes, counts)
    label = [becomes.get(name, name) for name in source.classes]
    out: dict[int, str] = {index: "unreadable" for index, seen in enumerate(looks.seen) if isinstance(seen, BadImage)}
    for group in duplicate_groups(looks):
        if len({label[looks.items[index][0].label] for index in group}) > 1:
            out.update(dict.fromkeys(group, "conflict"))
            continue
        splits = [looks.items[index][1] for index in group]
        for place, index in enumerate(group):
            if splits[place] == "train" and set(splits) != {"train"}:
                out[index] = "leak"
            elif splits[place] in splits[:place]:
                out[index] = "twice"
    rows = []
    for index, (sample, split) in enumerate(looks.items):
        if index in out:
            continue
        located, _ = source.find(sample)
        if not isinstance(located, Path):
            raise UsageError(f"the images of {printable(source.name)} are no files that a CSV could list", "leave --fix away", path="--fix")
        rows.append((located, label[sample.label], split))
    told = (*_told(out.values()), *_told_of_names(becomes, alone))
    return Cleaned(tuple(rows), told, tuple(_left(rows, label, source)))


def _told(reasons: object) -> list[str]:
    count = Counter(reasons)  # type: ignore[call-overload]
    lines = {
        "unreadable": "left out {} that cannot be read",
        "conflict": "left out {} with conflicting labels",
        "leak": "left out {} of train that another split holds too",
        "twice": "left out {} that the same split holds twice",
    }
    return [line.format(f"{count[why]:,} image{'' if count[why] == 1 else 's'}") for why, line in lines.items() if count[why]]


def _told_of_names(becomes: dict[str, str], alone: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"class {name!a} became {kept!a}" for name, kept in becomes.items()]
    return lines + [f"left alone, since they may differ on purpose: classes {' and '.join(map(ascii, group))}" for group in alone]


def _left(rows: Sequence[tuple[Path, str, str]], label: Sequence[str], source: Source) -> list[str]:
    """What no row can repair: classes that train lacks."""
    if "train" not in source.splits:
        return []
    train = {name for _, name, split in rows if split == "train"}
    lacking = sorted({name for _, name, _ in rows} - train)
    gone = sorted(set(label) - {name for _, name, _ in rows})
    lines = [f"train still lacks classes that other splits have: {some(lacking)}"] if lacking else []
    lines += [f"classes without an image that is left: {some(gone)}"] if gone else []
    return lines + (["fewer than two classes have training images"] if len(train) < 2 else [])


def csv_text(rows: Sequence[tuple[Path, str, str]], target: Path) -> str:
    """The rows as CSV for the file `target`: images below its folder relative to it, others by their absolute path; exact names.

    Quoted where a comma, a quote, a line break or a space at an end would else be lost. Bytes that are no UTF-8 stay as surrogates.
    """
    folder = Path(os.path.realpath(target.parent))
    lines = [",".join(HEADER)]
    for path, name, split in rows:
        full = Path(os.path.realpath(path.parent)) / path.name  # a link to an image stays the link it is
        shown = full.relative_to(folder) if full.is_relative_to(folder) else full
        lines.append(",".join(map(_field, (shown.as_posix(), name, split))))
    return "\n".join(lines) + "\n"


def _field(text: str) -> str:
    fine = text == text.strip() and text and not any(mark in text for mark in ',"\r\n\t;#')
    return text if fine else '"' + text.replace('"', '""') + '"'
