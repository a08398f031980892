"""A finetuning under way: its stages, one after another, each beginning with the best weights of those before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.cli.train import Job, state_of
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.events import EpochDone, Event, Finished, Started
from cnncli.errors import ExitCode, UsageError
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from torch import Tensor

    from cnncli.cli.finetune import Tuning
    from cnncli.cli.finetune_data import Photos, StageData
    from cnncli.cli.training_run import Staged
    from cnncli.data.loader import Batches
    from cnncli.data.source import Source
    from cnncli.engine.distributed import World
    from cnncli.engine.pause import Pause
    from cnncli.engine.state import State
    from cnncli.engine.training import Training
    from cnncli.models.adapt import Adapted
    from cnncli.transfer.chain import Structure
    from cnncli.transfer.kept import Kept
    from cnncli.transfer.plan import Stage

Planned = tuple["Adapted", "Structure", "tuple[Stage, ...]"]


def run_stages(job: Job, tuning: Tuning, world: World, source: Source, planned: Planned, folder: Path) -> int:
    """Read the images, train stage by stage, and write the run folder."""
    from cnncli.cli.finetune_data import read_photos, settled_augment
    from cnncli.cli.training_run import run_training
    from cnncli.engine.parallel import load_state
    from cnncli.engine.pause import Pause
    from cnncli.engine.runs import Run

    adapted, _, stages = planned
    settings = tuning.settings
    form, data_config = adapted.info.preprocess, settings.of(DataConfig)
    augment = settled_augment(settings.of(AugmentConfig), (form.channels, form.height, form.width))
    vary = tuning.finetune.views > 1 or any(stage.cut is None for stage in stages) or tuning.finetune.features == "off"
    with world.first_before_others("images"):
        photos = read_photos(source, form, data_config, augment, vary=vary)
    tell_colours(photos, source)
    state = state_of(job, photos.varied) if job.resume is not None else None
    if state is not None:  # the file that the weights came from may hold others by now
        load_state(adapted.model, {name.removeprefix("model."): one for name, one in state.tensors.items() if name.startswith("model.")})
    pause = Pause(60 * settings.keep.save_every)
    work = Stages(planned, photos, tuning, world)
    work.prepare(0 if state is None else int(state.facts["stage"]))
    info = replace(
        adapted.info,
        data=source.name,
        val_fraction=data_config.val_fraction,
        test_fraction=data_config.test_fraction,
        preprocess=photos.plain.preprocess,
    )
    size = (form.channels, form.height, form.width)
    tables = settings.tables(size, work.chosen() | vars(photos.varied.augment)) | tuning.table(work.kept_in, stages)
    run = Run(folder, info, tables, photos.varied.facts(), writes=world.first)
    stream = work.staged(pause, state, folder)
    with run:
        run.begin([EpochDone(**row) for row in state.facts["history"]] if state is not None else None)
        run.list_bad(photos.varied.bad())
        run_training(run, stream, photos.varied, world, pause, tensorboard=settings.keep.tensorboard, command="finetune")
    if bad := photos.varied.bad():
        run.list_bad(bad)
        talk(f"{len(bad)} images could not be read and were left out: {folder / 'bad_images.txt'}")
    return ExitCode.SKIPPED if bad else ExitCode.DONE


def tell_colours(photos: Photos, source: Source) -> None:
    """A net that was trained in colour sees the same grey in its three channels, and a grey net no colours."""
    import torch

    images = photos.plain.looked_at
    if images.shape[1] == 3 and len(images) and torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2]):
        talk(f"note: the images of {source.name} are grey: all three channels of the net are given the same")
    if images.shape[1] == 1:
        talk("note: the net takes grey images: colours, if there are any, are not looked at")


class Stages:
    """The stages of a finetuning on one model: what each learns from, and their trainings."""

    def __init__(self, planned: Planned, photos: Photos, tuning: Tuning, world: World, tell: Callable[[str], None] = talk) -> None:
        self.tell = tell
        adapted, self.structure, self.stages = planned
        self.model, self.head = adapted.model.to(world.device), adapted.head
        self.photos, self.tuning, self.world = photos, tuning, world
        self.data: dict[int, StageData] = {}
        self.size = 0
        self.kept_in: str | None = None
        self.best: dict[str, Tensor] | None = None

    def prepare(self, first: int = 0) -> None:
        """Compute what frozen parts make of the images, for the stages from `first` on. All of it before anything learns."""
        from cnncli.cli.finetune_data import Features
        from cnncli.cli.training_plan import batch_size_for

        features = Features(self.model, self.structure, self.photos, self.tuning, self.world, self.tell)
        for stage in self.stages[first:]:
            self.data[stage.number] = features.of(stage)
            if self.data[stage.number].kept is None and self.data[stage.number].how:
                self.tell(f"note: {self.data[stage.number].how}")
        self.kept_in = features.precision
        asked, activations = self.tuning.settings.train.batch_size, self.structure.activations
        self.size = batch_size_for(asked, self.world, self.photos.varied, self.model, activations=activations)

    def chosen(self) -> dict[str, Any]:
        """What was chosen for settings that were left open."""
        optim, train = self.tuning.settings.optim, self.tuning.settings.train
        found = {"batch_size": self.size, "lr": optim.peak_lr, "weight_decay": optim.decay}
        return found | ({} if train.passes is None else {"epochs": train.passes})

    def staged(self, pause: Pause, state: State | None = None, folder: Path | None = None) -> Iterator[Staged]:
        """The trainings, each made when the one before it has ended. state: to go on from; the best model so far is then in `folder`."""
        from cnncli.cli.training_run import Staged

        history: list[EpochDone] = []
        first = 0 if state is None else int(state.facts["stage"])
        for stage in self.stages[first:]:
            training, batches = self._training(stage, None if state is None else state.facts.get("numbers"))
            if state is not None:
                for difference in training.restore(state.facts, state.tensors):
                    self.tell(f"note: the end will not be the same to the bit: {difference}")
                self.best = _read_best(folder) if any(done.best for done in training.history) else None
                state = None
            else:
                training.follow(history)
            if len(self.stages) > 1:
                self.tell(f"stage {stage.number + 1} of {len(self.stages)}: {stage.name}")
            yield Staged(training, self._watched(stage, training, batches, pause), stage is self.stages[-1])
            history = training.history
            self._take_best()

    def _take_best(self) -> None:
        from cnncli.engine.parallel import load_state

        if self.best is not None:
            load_state(self.model, self.best)

    def _watched(self, stage: Stage, training: Training, batches: tuple[Batches, Batches | None], pause: Pause) -> Iterator[Event]:
        """The events of a stage; the weights of its best epoch are kept."""
        from cnncli.engine.fit import fit

        events = self._solved(stage, training, batches) if stage.solver == "lbfgs" else fit(training, *batches, pause)
        for event in events:
            if isinstance(event, EpochDone) and event.best:
                self.best = {name: tensor.detach().cpu().clone() for name, tensor in training.weights().items()}
            yield event

    def _training(self, stage: Stage, numbers: list[Any] | None) -> tuple[Training, tuple[Batches, Batches | None]]:
        """The training of a stage. numbers: in which it began, where it goes on."""
        from cnncli.cli.training_plan import numbers_for, plan_for
        from cnncli.engine.precision import Numbers
        from cnncli.engine.training import Training
        from cnncli.transfer.partial import Partial

        settings, data = self.tuning.settings, self.data[stage.number]
        config = replace(stage.train, batch_size=self.size)
        if data.kept is not None:
            config = replace(config, tta="none")  # views are of images
        batches = data.loaders(self.photos, settings, config, self.world, self.size)
        model = Partial(self.model, self.structure, stage.learning, stage.cut if data.kept else None)
        plan = plan_for(settings, self.world, self.photos.varied, config, len(batches[0]))
        plan = replace(plan, rates={f"model.{name}": share for name, share in stage.rates.items()}, stage=stage.number)
        if numbers is not None:
            plan = replace(plan, numbers=Numbers(*numbers))
        elif stage.solver != "lbfgs":
            plan = replace(plan, numbers=numbers_for(settings, self.world, model, batches[0], plan, self.tell))
        if settings.compute.compile and not data.kept:
            plan = replace(plan, compiled=True)
        return Training(model, plan, self.world), batches

    def _solved(self, stage: Stage, training: Training, batches: tuple[Batches, Batches | None]) -> Iterator[Event]:
        """The classifier as a logistic regression on what is kept, as one epoch."""
        from cnncli.cli.finetune_solve import solve_classifier

        began = time.perf_counter()
        kept = self.data[stage.number].kept
        if kept is None:
            raise UsageError(
                "--solver lbfgs needs what comes before the classifier computed once, which this model or --features does not allow",
                "use --solver sgd",
                path="--solver",
            )
        if not training.history[training.earlier :]:  # else it was solved before a resume
            yield _solving(training, kept)
            done = solve_classifier(training, stage, self.head, batches, kept, self.tell)
            training.history.append(done)
            training.next_epoch()
            yield done
        best = training.best()
        assert best is not None
        yield Finished(best, time.perf_counter() - began, "")


def _solving(training: Training, kept: tuple[Kept, Kept | None]) -> Started:
    train, val = kept
    first = training.earlier + 1
    images = {"train_images": len(train.labels), "val_images": 0 if val is None else len(val.labels)}
    history = tuple(training.history)
    return Started(epochs=first, steps=1, minutes=None, steps_per_epoch=1, epoch=first, first=first, history=history, **images)


def _read_best(folder: Path | None) -> dict[str, Tensor] | None:
    """The weights of the best model of a run."""
    from cnncli.models.resolve import BEST
    from cnncli.models.tensorfile import load_tensors, read_header, read_metadata

    if folder is None or not (folder / BEST).is_file():
        return None
    path = folder / BEST
    return load_tensors(path, read_metadata(path, read_header(path)))
