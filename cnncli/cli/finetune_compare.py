"""`cnn finetune --compare`: the classifier alone, the deepest block, everything, and the same net from scratch, side by side.

What is measured was not used for any choice: a test split where the data have one, else folds of a cross-validation. Within what is left
of the images, validation images choose the best epoch and the penalty, as in every finetuning.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.errors import ExitCode, UsageError
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnncli.cli.finetune import Tuning
    from cnncli.cli.finetune_run import Planned
    from cnncli.cli.train import Job
    from cnncli.data.source import Source
    from cnncli.engine.distributed import World
    from cnncli.models.adapt import Adapted
    from cnncli.models.resolve import Spec
    from cnncli.transfer.comparison import Comparison, Outcome

USUAL_FOLDS = 5
USUAL_SHARE = 0.2  # of the images that are not tested on, for validation: as in every split that we make
AT_ONCE = 64  # images that are tested


@dataclass(frozen=True)
class Asked:
    """What is to be compared. sizes: training images of each class, None for all. folds: of the cross-validation, where asked for."""

    sizes: tuple[int | None, ...]
    folds: int | None
    json: bool


@dataclass
class _Tally:
    """What one method did on one number of images, over all folds. hits: bool [N] of each fold."""

    hits: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    trained: int = 0


def parse_sizes(text: str | None) -> tuple[int | None, ...]:
    """`1,5,all` as (1, 5, None), rising. UsageError for anything else."""
    if text is None:
        return (None,)
    words = text.split(",")
    numbers = [None if word == "all" else int(word) if word.isascii() and word.isdigit() and int(word) else -1 for word in words]
    known = [number for number in numbers if number is not None]
    if -1 in numbers or known != sorted(set(known)) or numbers.count(None) > 1 or (None in numbers and numbers[-1] is not None):
        raise UsageError(
            f"--per-class {text!r} should be rising numbers, and all", "for example --per-class 1,2,5,10,20,all", path="--per-class"
        )
    return tuple(numbers)


def compare(job: Job, spec: Spec, tuning: Tuning, asked: Asked, world: World) -> int:
    """Train all there is to compare, print it, and write comparison.json and comparison.png."""
    from cnncli import atomic
    from cnncli.cli.finetune import planned_stages
    from cnncli.engine.runs import check_writable, choose_folder
    from cnncli.reports.finetune import comparison_to_json, print_comparison
    from cnncli.reports.terminal import json_text
    from cnncli.reports.transfer_curves import draw_comparison

    sources = _sources(tuning, asked)
    folder = choose_folder(job.out, f"{spec.name}-{sources[0].name}-comparison", overwrite=job.overwrite)
    check_writable(folder)
    planned = planned_stages(spec, tuning, sources[0])
    tallies: dict[tuple[int | None, str], _Tally] = {}
    for number, source in enumerate(sources, start=1):
        fold = f"fold {number} of {len(sources)}, " if len(sources) > 1 else ""
        for size in asked.sizes:
            for method, tally in measured(planned, tuning, source, size, world):
                kept = tallies.setdefault((size, method), _Tally())
                kept.hits += tally.hits
                kept.seconds += tally.seconds
                kept.images += tally.images
                kept.trained = tally.trained
                right = float(tally.hits[0].double().mean())
                images = "all" if size is None else f"{size}"
                talk(f"{fold}{images} images a class, {method}: {right:.1%} of {len(tally.hits[0]):,} in {tally.seconds[0]:.1f} s")
    comparison = _comparison(planned[0], sources, tallies)
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "comparison.png"
    draw_comparison(picture, comparison)
    atomic.write_text(folder / "comparison.json", json_text(comparison_to_json(comparison, picture)))
    print_comparison(comparison, picture, json=asked.json)
    return ExitCode.DONE


def _sources(tuning: Tuning, asked: Asked) -> tuple[Source, ...]:
    """The images, each time with another test split; once where they come with one and no folds are asked for."""
    from cnncli.cli.options import open_data
    from cnncli.data.folds import folds

    config = tuning.settings.of(DataConfig)
    source = open_data(tuning.settings.data, config)
    if "test" in source.splits and asked.folds is None:
        return (source,)
    if "test" in source.splits and source.derived:
        source = open_data(tuning.settings.data, replace(config, test_fraction=0.0))
    share = USUAL_SHARE if config.val_fraction is None else config.val_fraction
    return folds(source, asked.folds or USUAL_FOLDS, val_fraction=share)


def measured(planned: Planned, tuning: Tuning, source: Source, size: int | None, world: World) -> Iterator[tuple[str, _Tally]]:
    """Each method, trained on the training images of `source` and measured on its test images."""
    from cnncli.cli.finetune_data import mannered, read_photos, settled_augment
    from cnncli.data.few import few
    from cnncli.models.adapt import untrained
    from cnncli.transfer.comparison import METHODS

    adapted, structure, _ = planned
    source = source if size is None else few(source, size, seed=tuning.settings.train.seed)
    tuning = replace(tuning, settings=mannered(source, tuning.settings, tuning.given, lambda _: None))
    form, data_config = adapted.info.preprocess, tuning.settings.of(DataConfig)
    augment = settled_augment(tuning.settings.of(AugmentConfig), (form.channels, form.height, form.width))
    photos = read_photos(source, form, data_config, augment, vary=True)
    tests = tests_of(source, photos.plain.preprocess, data_config)
    spent = 0.0
    for method in METHODS:
        from_scratch = method == METHODS[3]
        model = untrained(adapted, tuning.settings.train.seed) if from_scratch else copy.deepcopy(adapted.model)
        own = replace(adapted, model=model)
        stages = stages_of(own, planned, _for(method, tuning, spent))
        began = time.perf_counter()
        model = trained((own, structure, stages), photos, _for(method, tuning, spent), world)
        seconds = time.perf_counter() - began
        spent = max(spent, seconds)
        hits = hits_of(model, tests, photos.plain.preprocess, world)
        yield method, _Tally([hits], [seconds], [len(photos.plain.train)], stages[-1].trained)


def _for(method: str, tuning: Tuning, seconds: float) -> Tuning:
    """The settings of a method. From scratch is trained for as long as the longest of the others took, without a smaller rate anywhere."""
    from cnncli.transfer.comparison import METHODS

    classifier, deepest, everything, _ = METHODS
    finetune = replace(tuning.finetune, freeze=False, freeze_until=None, unfreeze=None)
    if method == classifier:
        return replace(tuning, finetune=replace(finetune, freeze=True, gradual=1))
    if method == deepest:
        return replace(tuning, finetune=replace(finetune, unfreeze=1, gradual=1))
    if method == everything:
        return replace(tuning, finetune=finetune)
    values = tuning.settings.values | {"epochs": None, "steps": None, "minutes": max(seconds, 1.0) / 60, "patience": None}
    alone = replace(finetune, head_epochs=0, solver="sgd", backbone_lr_factor=1.0, layer_decay=None, gradual=1)
    return replace(tuning, settings=replace(tuning.settings, values=values), finetune=alone)


def stages_of(own: Adapted, planned: Planned, tuning: Tuning) -> Any:
    """The stages of a method, for `own`, a copy of the planned model."""
    from cnncli.transfer.plan import plan_stages

    sizes = {name: parameter.numel() for name, parameter in own.model.named_parameters()}
    return plan_stages(planned[1], own.head, sizes, tuning.finetune, train=tuning.settings.train, optim=tuning.settings.optim)


def trained(planned: Planned, photos: Any, tuning: Tuning, world: World) -> nn.Module:
    """The model with the weights of its best epoch."""
    from cnncli.cli.finetune_run import Stages
    from cnncli.engine.pause import Pause

    work = Stages(planned, photos, tuning, world, tell=lambda _: None)
    work.prepare()
    for stage in work.staged(Pause()):
        for _ in stage.events:
            pass
    return work.model.eval()


def tests_of(source: Source, preprocess: Any, data_config: DataConfig) -> Any:
    """The test images, decoded."""
    from cnncli.data.shards.either import open_images

    return open_images(source, "test", preprocess, data_config, tell=lambda _: None)


def hits_of(model: nn.Module, tests: Any, preprocess: Any, world: World) -> Tensor:
    """Which test images the model is right on: bool [N]."""
    import torch

    from cnncli.data.shards.either import open_loader
    from cnncli.engine.config import InferConfig
    from cnncli.engine.infer import prepare, scores

    loader = open_loader(tests, preprocess, batch_size=AT_ONCE, device=world.device)
    forward = prepare(model, lambda: next(loader.epoch(1)).images, InferConfig(precision="fp32"), device=world.device, images=len(tests))
    found = torch.cat(list(scores(forward, (batch.images for batch in loader.epoch(1)))))
    hits: Tensor = found.argmax(1) == tests.labels
    return hits


def _comparison(adapted: Adapted, sources: Sequence[Source], tallies: dict[tuple[int | None, str], _Tally]) -> Comparison:
    from cnncli.transfer.comparison import Comparison

    outcomes = tuple(_outcome(key, tally, tallies) for key, tally in tallies.items())
    return Comparison(adapted.info.name, sources[0].name, len(sources), outcomes)


def _outcome(key: tuple[int | None, str], tally: _Tally, tallies: dict[tuple[int | None, str], _Tally]) -> Outcome:
    import torch

    from cnncli.engine.intervals import wilson
    from cnncli.engine.paired import compare_hits
    from cnncli.transfer.comparison import METHODS, Outcome

    size, method = key
    hits, reference = torch.cat(tally.hits), torch.cat(tallies[size, METHODS[2]].hits)
    return Outcome(
        method=method,
        per_class=size,
        images=round(sum(tally.images) / len(tally.images)),
        tested=len(hits),
        accuracy=float(hits.double().mean()),
        interval=wilson(int(hits.sum()), len(hits)),
        seconds=sum(tally.seconds) / len(tally.seconds),
        trained=tally.trained,
        against=None if method == METHODS[2] else compare_hits(hits, reference),
    )
