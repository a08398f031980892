"""What is to be done in a training, all of it chosen: batches, numbers, weights of the loss. `train` and its kin share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnncli.data.config import DataConfig
from cnncli.errors import InputError, UsageError
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from torch import nn

    from cnncli.cli.train_settings import Settings
    from cnncli.cli.training_data import Images
    from cnncli.data.loader import Batch, Batches
    from cnncli.engine.config import TrainConfig
    from cnncli.engine.distributed import World
    from cnncli.engine.precision import Numbers
    from cnncli.engine.training import Plan


def planned(
    settings: Settings, world: World, images: Images, model: nn.Module, *, activations: int
) -> tuple[Plan, tuple[Batches, Batches | None], dict[str, Any]]:
    """What is to be done, the batches to do it with, and what was chosen for settings that were left open.

    activations: numbers that the model stores for an image.
    """
    config, optim, compute = settings.train, settings.optim, settings.compute
    size = batch_size_for(config.batch_size, world, images, model, activations=activations)
    config = replace(config, batch_size=size)
    train, val = images.loaders(config, settings.of(DataConfig), settings.keep, world, size)
    plan = plan_for(settings, world, images, config, len(train))
    plan = replace(plan, numbers=numbers_for(settings, world, model, train, plan))
    found = {
        "batch_size": size,
        "precision": plan.numbers.precision,
        "memory_format": "channels-last" if plan.numbers.channels_last else "contiguous",
        "lr": optim.peak_lr,
        "weight_decay": optim.decay,
    }
    if config.passes is not None:
        found["epochs"] = config.passes
    return replace(plan, compiled=compute.compile), (train, val), found


def plan_for(settings: Settings, world: World, images: Images, config: TrainConfig, steps: int) -> Plan:
    """What is to be done, the numbers in which aside. config: how long. steps: an epoch."""
    from cnncli.data.classes import class_counts
    from cnncli.engine.loss import Loss, balanced_weights
    from cnncli.engine.training import Plan

    weights, classes = None, len(images.source.classes)
    if config.class_weights == "balanced":
        weights = balanced_weights(class_counts(_labels(images), classes)).to(world.device)
    plan = Plan(config, settings.optim, steps, classes, loss=Loss(settings.optim.label_smoothing, weights))
    return replace(plan, sync_bn=settings.compute.sync_bn, shard=settings.compute.shard)


def batch_size_for(asked: int | str, world: World, images: Images, model: nn.Module, *, activations: int) -> int:
    """The size that was asked for, or, for `auto`, one that fits. UsageError when there are more processes than images in a batch."""
    from cnncli.data.pixels import available_memory
    from cnncli.engine.auto import choose_batch_size

    size = asked
    if isinstance(asked, str):
        form, count = images.preprocess, len(images.train)
        known: dict[str, Any] = {"activations": activations, "images": count, "free": available_memory(), "device": world.device}
        shape = (form.channels, form.height, form.width)
        size = world.from_first(choose_batch_size(model, shape, **known) if world.first else None)
        talk(f"batches of {size} images")
    assert isinstance(size, int)
    if world.ranks > size:
        raise UsageError(
            f"--batch-size {size} is fewer images than the {world.ranks} processes", "give each at least one", path="--batch-size"
        )
    return size


def numbers_for(
    settings: Settings, world: World, model: nn.Module, train: Batches, plan: Plan, tell: Callable[[str], None] = talk
) -> Numbers:
    """In what it is computed: the first process tries, where that was left open, and tells the others."""
    from cnncli.engine.auto import choose_numbers
    from cnncli.engine.precision import Numbers

    def first_batch() -> Batch:
        batch = next(train.epoch(1), None)
        if batch is None:
            raise InputError("there is no training image that can be read", path=settings.data)
        return batch

    chosen = None
    if world.first:
        # Where minutes decide, something faster is always worth looking for.
        steps = plan.steps or 6000 * (plan.train.minutes or 0)
        options: dict[str, Any] = {"device": world.device, "steps": steps, "deterministic": plan.train.deterministic}
        numbers, told = choose_numbers(model, first_batch, settings.compute, plan.optim, **options)
        if told:
            tell(told)
        chosen = [numbers.precision, numbers.channels_last]
    return Numbers(*world.from_first(chosen))


def _labels(images: Images) -> Any:
    labels = getattr(images.train, "labels", None)
    if labels is None:
        raise UsageError(
            "--class-weights balanced needs to know all labels, and shards are streamed", "leave it out", path="--class-weights"
        )
    return labels
