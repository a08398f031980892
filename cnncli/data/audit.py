"""The audit of a source: what it holds, and what would spoil a training on it. Every image is decoded in full, and nothing is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cnncli.data.decode import BadImage
from cnncli.data.duplicates import duplicates, near_duplicates, spot_of
from cnncli.data.examine import CONVERSIONS, Examined, Looks, Sums
from cnncli.data.facts import Audit, Misnamed, Sized, Sizes, Spot, Unreadable
from cnncli.data.findings import findings
from cnncli.data.source import Source
from cnncli.data.twins import twins

USUAL_SIDE = 224  # what most published networks for photos see
PERCENTILES = (5, 25, 50, 75, 95)
# An image counts as tiny where its shorter side is below both: of a set of 32-pixel images none is.
TINY_SIDE = 32
TINY_SHARE = 1 / 4  # of the median of shorter sides


def audit(source: Source, looks: Looks, *, refused: str = "", input: tuple[int, int, int] | None = None) -> Audit:
    """What is to be told of `source`, from what `look` found in it.

    refused: why a training would refuse it. input: (channels, height, width) for the memory that decoded images need; without it, as many
    channels as the images have, and their median size where both sides are below 224, else 224 x 224.
    """
    spots = [spot_of(source, item) for item in looks.items]
    readable = [(spot, seen) for spot, seen in zip(spots, looks.seen, strict=True) if isinstance(seen, Examined)]
    bad = [Unreadable(spot, seen.reason) for spot, seen in zip(spots, looks.seen, strict=True) if isinstance(seen, BadImage)]
    sizes = _sizes(readable)
    channels = max((seen.channels for _, seen in readable), default=3)
    mean, std = statistics(looks.sums, channels)
    shape = input or _usual_input(sizes, channels)
    near, complete = near_duplicates(source, looks)
    conversions = Counter(word for _, seen in readable for word in seen.conversions)
    made = Audit(
        data=source.name,
        classes=source.classes,
        counts={split: source.counts(split) for split in source.splits},
        derived=source.derived,
        notices=source.notices,
        refused=refused,
        images=len(spots),
        unreadable=tuple(bad),
        misnamed=tuple(Misnamed(spot, _suffix(spot), seen.kind) for spot, seen in readable if seen.kind),
        sizes=sizes,
        formats=_counted(seen.form or "decoded" for _, seen in readable),
        modes=_counted(seen.mode for _, seen in readable),
        converted={word: conversions[word] for word in CONVERSIONS if conversions[word]},
        tiny=_tiny(readable),
        constant=tuple(spot for spot, seen in readable if seen.constant),
        mean=mean,
        std=std,
        input=shape,
        bytes=len(readable) * math.prod(shape),
        duplicates=duplicates(source, looks),
        near=near,
        near_complete=complete,
        twins=twins(source.classes),
    )
    return replace(made, findings=findings(made))


def statistics(sums: Sums, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each channel, of values in 0..1; () without any pixel."""
    if not sums.pixels:
        return (), ()
    n = sums.pixels
    pairs = list(zip(sums.values, sums.squares, strict=True))[:channels]
    return tuple(v / n / 255 for v, _ in pairs), tuple(math.sqrt(n * q - v * v) / n / 255 for v, q in pairs)


def _counted(words: object) -> dict[str, int]:
    return dict(Counter(words).most_common())  # type: ignore[call-overload]


def _suffix(spot: Spot) -> str:
    return "." + spot.path.rpartition(".")[2]


def _sizes(readable: Sequence[tuple[Spot, Examined]]) -> Sizes | None:
    if not readable:
        return None
    sized = [Sized(spot.path, seen.width, seen.height) for spot, seen in readable]
    widths, heights = sorted(s.width for s in sized), sorted(s.height for s in sized)
    place = {percent: min(len(sized) - 1, math.ceil(percent / 100 * len(sized)) - 1) if percent else 0 for percent in PERCENTILES}
    return Sizes(
        smallest=min(sized, key=lambda s: s.width * s.height),
        largest=max(sized, key=lambda s: s.width * s.height),
        widest=max(sized, key=lambda s: s.width / s.height),
        tallest=max(sized, key=lambda s: s.height / s.width),
        percentiles={percent: (widths[index], heights[index]) for percent, index in place.items()},
    )


def _tiny(readable: Sequence[tuple[Spot, Examined]]) -> tuple[Spot, ...]:
    if not readable:
        return ()
    short = sorted(min(seen.width, seen.height) for _, seen in readable)
    limit = min(TINY_SIDE, TINY_SHARE * short[len(short) // 2])
    return tuple(spot for spot, seen in readable if min(seen.width, seen.height) < limit)


def _usual_input(sizes: Sizes | None, channels: int) -> tuple[int, int, int]:
    width, height = sizes.median if sizes else (USUAL_SIDE, USUAL_SIDE)
    return (channels, height, width) if max(width, height) < USUAL_SIDE else (channels, USUAL_SIDE, USUAL_SIDE)
