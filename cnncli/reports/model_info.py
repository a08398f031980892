"""What a model file says of itself, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnncli.errors import printable
from cnncli.reports.terminal import listing

if TYPE_CHECKING:
    from rich.console import RenderableType

NAMES_SHOWN = 8
METRICS_SHOWN = 8


@dataclass(frozen=True)
class ModelFacts:
    """What is told of a model file. preprocess: the fields of Preprocess by name; the others as in ModelInfo."""

    path: str
    name: str
    spec: str
    classes: tuple[str, ...]
    data: str
    val_fraction: float | None
    test_fraction: float | None
    metrics: Mapping[str, float]
    preprocess: Mapping[str, Any]
    cnncli: str


def model_json(facts: ModelFacts) -> dict[str, Any]:
    """The documented JSON of a model file, "model" in `cnn shape`."""
    return {
        "path": facts.path,
        "name": facts.name,
        "spec": facts.spec or None,
        "classes": list(facts.classes),
        "data": facts.data,
        "val_fraction": facts.val_fraction,
        "test_fraction": facts.test_fraction,
        "metrics": dict(facts.metrics),
        "preprocess": dict(facts.preprocess),
        "cnncli": facts.cnncli,
    }


def model_text(facts: ModelFacts) -> RenderableType:
    """A line for each fact, as they stand above a net's table."""
    lines = [("model file", facts.path), ("model", facts.name + (" (of a library)" if facts.spec else ""))]
    lines.append(("classes", f"{len(facts.classes):,}: {_first(facts.classes)}"))
    if facts.data:
        shares = [f"{share:.0%} {word}" for share, word in ((facts.val_fraction, "validation"), (facts.test_fraction, "test")) if share]
        lines.append(("trained on", facts.data + (f", split by hash: {', '.join(shares)}" if shares else "")))
    if facts.metrics:
        lines.append(("metrics", ", ".join(f"{name} {_number(value)}" for name, value in list(facts.metrics.items())[:METRICS_SHOWN])))
    lines.append(("images", preprocess_text(facts.preprocess)))
    if facts.cnncli:
        lines.append(("saved by", f"cnncli {facts.cnncli}"))
    return listing(lines, indent=0)


def preprocess_text(how: Mapping[str, Any]) -> str:
    """How an image is prepared, in words: `RGB, resize 256, crop 224, bilinear; mean 0.485 0.456 0.406, std 0.229 0.224 0.225`."""
    height, width, fraction = how["height"], how["width"], how["crop_fraction"]
    resized = round(height / fraction), round(width / fraction)
    if how["resize"] == "stretch":
        size = f"stretch to {_sides(height, width)}"
    elif resized == (height, width):
        size = f"resize and crop to {_sides(height, width)}"
    else:
        size = f"resize {_sides(*resized)}, crop {_sides(height, width)}"
    words = ["grey" if how["channels"] == 1 else "RGB", size, str(how["interpolation"])]
    if tuple(how["background"]) != (255, 255, 255):
        words.append(f"background {' '.join(map(str, how['background']))}")
    if not how["exif"]:
        words.append("not turned as EXIF says")
    return f"{', '.join(words)}; mean {_numbers(how['mean'])}, std {_numbers(how['std'])}"


def _sides(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 10**9 else f"{value:.4g}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(map(printable, names[:NAMES_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
