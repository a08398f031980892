"""Nets with another number of outputs: the same layers up to the classifier, whose weights alone have other shapes."""

from __future__ import annotations

from dataclasses import replace

from cnncli.arch.blocks import Part
from cnncli.arch.layers import Conv, Linear
from cnncli.arch.net import Net, walk
from cnncli.arch.regularise import mapped
from cnncli.errors import UsageError


def with_classes(net: Net, classes: int) -> Net:
    """The net with `classes` outputs: its last convolution or fully connected layer, in the order in which they run, gives that many.

    What comes after it (pooling, batch norm) follows by itself. For a net of the zoo it equals `build(name, classes=classes)`.
    UsageError when that layer does not give a score for each class, as where branches give some classes each.
    """
    weighted = _weighted(net.root)
    last = weighted[-1] if weighted else None
    if last is None or _outputs(last) != net.classes:
        raise _no_classifier(net)
    left = len(weighted)

    def change(part: Part) -> Part:
        nonlocal left
        if not isinstance(part, Conv | Linear):
            return part
        left -= 1
        if left:
            return part
        return replace(part, filters=classes) if isinstance(part, Conv) else replace(part, features=classes)

    try:
        changed = replace(net, root=mapped(net.root, change), classes=classes)
        fits = walk(changed)[-1].output == (classes,)
    except UsageError:  # groups that do not divide the new number, or a sum with a layer that has the old one
        fits = False
    if not fits:
        raise _no_classifier(net)
    return changed


def _weighted(root: Part) -> list[Conv | Linear]:
    """The layers that may be a classifier, in the order in which they run."""
    found: list[Conv | Linear] = []

    def look(part: Part) -> Part:
        if isinstance(part, Conv | Linear):
            found.append(part)
        return part

    mapped(root, look)
    return found


def _outputs(part: Conv | Linear) -> int:
    return part.filters if isinstance(part, Conv) else part.features


def _no_classifier(net: Net) -> UsageError:
    return UsageError(
        f"{net.name}: its classifier is not a layer with as many outputs as it has classes, {net.classes}",
        "end the net in a fully connected layer with one output for each class",
        path=net.name,
    )
