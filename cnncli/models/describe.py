"""A spec -> the facts of its net, whatever kind of model it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cnncli.arch.net import Net, Row, walk
from cnncli.arch.zoo.table import build
from cnncli.errors import UsageError
from cnncli.models.resolve import resolve


@dataclass(frozen=True)
class Description:
    """What is known of a net. classes: None where it does not say. net: None for a traced model. notes: what to know about the rows."""

    name: str
    paper: str
    input: tuple[int, int, int]
    classes: int | None
    rows: tuple[Row, ...]
    net: Net | None
    notes: tuple[str, ...] = ()


def describe(
    text: str,
    *,
    input: tuple[int, int, int] | None = None,
    classes: int | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Description:
    """The facts behind a spec, with another input or number of classes if asked. settings: the texts of --set (zoo nets only)."""
    net = _described(text, input=input, classes=classes)
    return Description(net.name, net.paper, net.input, net.classes, walk(net), net)


def _described(text: str, *, input: tuple[int, int, int] | None, classes: int | None) -> Net:
    spec = resolve(text)
    if spec.kind == "zoo":
        return build(spec.name, input=input, classes=classes)
    from cnncli.models.modelfile import read_info

    if classes is not None:
        raise UsageError(f"--classes {classes}: {text} is a trained model, its classes are fixed", path="--classes")
    stored = read_info(spec.path).net
    return stored if input is None else replace(stored, input=input)
