"""Which nets of the zoo have published weights, what they score, and whether they are here already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnncli.arch.zoo.table import build
from cnncli.arch.zoo.weights import PublishedWeights
from cnncli.models.download import cached
from cnncli.models.imagenet import entries
from cnncli.models.published import TWINS, word_for


def published_weights(names: Iterable[str]) -> list[PublishedWeights]:
    """The weights of those of these nets that have some, oldest version first. Imports torchvision; nothing is downloaded or checked."""
    return [_facts(name, version, entry) for name in names if name in TWINS for version, entry in entries(build(name)).items()]


def _facts(name: str, version: str, entry: Any) -> PublishedWeights:
    path, meta = cached(entry.url), entry.meta
    scores = meta.get("_metrics", {}).get("ImageNet-1K", {})
    return PublishedWeights(
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
