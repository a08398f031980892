"""Which nets of the zoo have published weights, what they score, and whether they are here already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cnncli.arch.zoo.table import build
from cnncli.models.download import cached
from cnncli.models.imagenet import entries
from cnncli.models.published import TWINS, word_for


@dataclass(frozen=True)
class Published:
    """Published weights of a net.

    weights: the word for --weights. top1, top5: accuracy on ImageNet's validation images, in percent, as torchvision measured it;
    None where it does not say. mebibytes: of the file. cached: whether it is at `path`. recipe: the page that says how they were trained.
    """

    net: str
    weights: str
    top1: float | None
    top5: float | None
    mebibytes: float | None
    cached: bool
    path: str
    url: str
    recipe: str


def published_weights(names: Iterable[str]) -> list[Published]:
    """The weights of those of these nets that have some, oldest version first. Imports torchvision; nothing is downloaded or checked."""
    return [_facts(name, version, entry) for name in names if name in TWINS for version, entry in entries(build(name)).items()]


def _facts(name: str, version: str, entry: Any) -> Published:
    path, meta = cached(entry.url), entry.meta
    scores = meta.get("_metrics", {}).get("ImageNet-1K", {})
    return Published(
        name,
        "imagenet" if word_for(version) == "imagenet-v1" else word_for(version),
        scores.get("acc@1"),
        scores.get("acc@5"),
        meta.get("_file_size"),
        path.is_file(),
        str(path),
        entry.url,
        meta.get("recipe") or "",
    )
