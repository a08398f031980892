"""Which layers a model has, and what was extracted: as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cnncli.reports.terminal import Column, narrowest, print_result, table, width

if TYPE_CHECKING:
    from cnncli.engine.layers import Layer
    from cnncli.features.feature_set import FeatureSet

NUMBERS = "numbers: of one image, all of them; --pool avg and max keep one a channel. "
ACTIVE = "active: where the numbers after the activation function are taken, which --activation after, the default, gives. "
NARROW = "A wider terminal shows where the numbers after the activation function are taken. "
RUNS = "A layer that runs several times is NAME#1, NAME#2, ..."


def layers_json(model: str, random: int | None, layers: Sequence[Layer]) -> dict[str, Any]:
    """The documented JSON of --list-layers."""
    return {"model": model, "random": random, "layers": [_layer_json(layer) for layer in layers]}


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": _name(layer),
        "operation": layer.operation,
        "shape": list(layer.shape),
        "active": None if layer.active is layer.tap else layer.active.path,
        "runs": layer.runs,
    }


def print_layers(model: str, layers: Sequence[Layer]) -> None:
    """The layers in the order in which they run. Where the terminal is too narrow for all columns, where activations are taken is left
    out, and if need be names are broken: a table is read more easily than a block of lines a layer.
    """
    from rich.console import Group
    from rich.text import Text

    columns = [Column("layer"), Column("operation"), Column("output"), Column("numbers", number=True), Column("active")]
    rows: list[tuple[str, ...]] = [
        (
            _name(layer),
            layer.operation,
            "x".join(map(str, layer.shape)),
            f"{_product(layer.shape):,}",
            "" if layer.active is layer.tap else layer.active.path,
        )
        for layer in layers
    ]
    about = ACTIVE
    if narrowest(columns, rows) > width():
        fewer, rest = columns[:-1], [row[:-1] for row in rows]
        broken = [fewer[0]._replace(path=True), *fewer[1:]]
        fitting = next((some for some in (fewer, broken) if narrowest(some, rest) <= width()), None)
        if fitting is not None:
            columns, rows, about = fitting, rest, NARROW
    legend = Text(NUMBERS + about + RUNS, style="dim")
    print_result(Group(Text(model, style="bold"), Text(), table(columns, rows), Text(), legend))


def extraction_json(
    *,
    model: str,
    data: str,
    split: str,
    features: FeatureSet,
    file: str,
    how: str,
    seconds: float,
    computed: int,
    left_out: Sequence[str],
) -> dict[str, Any]:
    """The documented JSON of an extraction. computed: images in these seconds; the others were there from an earlier call."""
    return {
        "model": model,
        "data": data,
        "split": split,
        "count": len(features),
        "file": file,
        "spaces": [asdict(space) | {"shape": list(space.shape)} for space in features.spaces],
        "random": features.origin.random,
        "how": how,
        "seconds": round(seconds, 3),
        "images_per_second": round(computed / seconds, 1) if computed and seconds else None,
        "left_out": list(left_out),
    }


def print_extraction(result: dict[str, Any]) -> None:
    """What stands in the file, in a few lines."""
    from rich.console import Group
    from rich.text import Text

    random = f", random weights (seed {result['random']})" if result["random"] is not None else ""
    pace = f", {result['images_per_second']:,.0f} images/s" if result["images_per_second"] else ""
    columns = [Column("features"), Column("numbers", number=True), Column("of"), Column("pooled")]
    rows = [
        (
            space["name"],
            "x".join(map(str, space["shape"])),
            _of(space),
            space["pool"],
        )
        for space in result["spaces"]
    ]
    head = f"{result['file']}: {result['count']:,} images of {result['data']}, {result['split']}; {result['model']}{random}"
    print_result(Group(Text(head), Text(), table(columns, rows), Text(), Text(f"{result['how']}{pace}", style="dim")))


def _of(space: dict[str, Any]) -> str:
    if not space["layer"]:
        return {"pixels": "pixels, in 0..1", "hog": "histograms of oriented gradients"}[space["kind"]]
    where = f", {space['activation']} its activation" if space["activation"] else ""
    return f"{space['layer']}{where}{', random weights' if space['kind'] == 'random' else ''}"


def _name(layer: Layer) -> str:
    return layer.name if layer.runs == 1 else f"{layer.name}#{layer.tap.run + 1}"


def _product(shape: Sequence[int]) -> int:
    from math import prod

    return prod(shape)
