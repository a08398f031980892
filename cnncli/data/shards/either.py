"""Images that are at hand or streamed, behind one call each: what trains and judges need not know which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cnncli.data.augment import Augment
from cnncli.data.config import DataConfig
from cnncli.data.form import Form
from cnncli.data.held import Held, Progress
from cnncli.data.loader import Batches, Loader
from cnncli.data.preprocess import Preprocess
from cnncli.data.shards.loader import ShardLoader
from cnncli.data.shards.remote import RemoteShards
from cnncli.data.shards.stream import ShardStream
from cnncli.data.source import Source
from cnncli.data.store import open_pixels
from cnncli.errors import UsageError


def open_images(
    source: Source | RemoteShards,
    split: str,
    preprocess: Preprocess,
    config: DataConfig,
    *,
    whole: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    on_progress: Progress | None = None,
) -> Held | ShardStream:
    """The images of a split; as `open_pixels` keeps them, or a stream, of which nothing is kept. UsageError: a stream is to be kept."""
    if isinstance(source, Source):
        return open_pixels(source, split, preprocess, config, whole=whole, tell=tell, on_progress=on_progress)
    if config.store in {"memory", "disk"}:
        raise UsageError(f"--store {config.store}: of remote shards nothing is kept", "leave it out", path="--store")
    form = Form(preprocess, whole, config.max_pixels)
    return ShardStream(source, split, form, skip_bad=config.bad_images == "skip", threads=config.workers)


def open_loader(
    pixels: Held | ShardStream,
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int = 0,
    augment: Augment | None = None,
    shuffle: bool = False,
    device: torch.device | None = None,
    threads: int | None = None,
    rank: int = 0,
    ranks: int = 1,
    balanced: bool = False,
    stall: float | None = None,
) -> Batches:
    """Batches of them; see `Loader` and `ShardLoader`. UsageError: a stream of shards is to be balanced, or too few images shared."""
    common: dict[str, Any] = {"seed": seed, "augment": augment, "shuffle": shuffle, "device": device, "threads": threads}
    common |= {"batch_size": batch_size, "rank": rank, "ranks": ranks, "stall": stall}
    if not isinstance(pixels, ShardStream):
        return Loader(pixels, preprocess, balanced=balanced, **common)
    if balanced:
        told = "--sampling balanced: of remote shards no class can be drawn more often, since they are read from end to end"
        raise UsageError(told, "--class-weights balanced weighs the loss instead", path="--sampling")
    return ShardLoader(pixels, preprocess, **common)
