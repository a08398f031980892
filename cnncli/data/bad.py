"""How many bad images are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cnncli.data.decode import BadImage
from cnncli.data.source import Sample, Source
from cnncli.errors import InputError, printable

BAD_SHARE = 0.01  # above this share of bad images a source is refused: something is wrong with the copy, not with a few files


def refuse_too_many(
    source: Source, split: str, samples: Sequence[Sample], bad: Mapping[int, BadImage], *, looked_at: int | None = None
) -> None:
    """InputError when the bad ones among `samples`, by index, are more than 1 % of the source or all of a class of the split.

    looked_at: where not all samples were decoded, how many were; the share is then of them, and no class is judged.
    """
    if not bad:
        return
    first = next(iter(bad.values()))
    told = f"the first is {printable(first.name)}: {first.reason}"
    total = looked_at or sum(
        map(len, source.splits.values())
    )  # of the whole source: one bad image in a small validation split is still one
    share = len(bad) / total
    if share > BAD_SHARE:
        raise InputError(
            f"{len(bad)} of {total} images ({share:.1%}) of {printable(source.name)}, split {split}, cannot be read,"
            f" more than {BAD_SHARE:.0%}; {told}",
            "repair or remove them; --bad-images error stops at the first",
            path=first.name,
        )
    if looked_at:
        return
    before = Counter(sample.label for sample in samples)
    lost = Counter(samples[index].label for index in bad)
    for label, count in lost.items():
        if count == before[label]:
            raise InputError(
                f"class {printable(source.classes[label])} of {printable(source.name)}, split {split}, has no readable image"
                f" ({count} cannot be read); {told}",
                "repair them or remove the class",
                path=first.name,
            )
