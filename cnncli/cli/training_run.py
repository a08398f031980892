"""A training under way: its events are shown, recorded, and heeded. `train` and its kin share it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli import atomic
from cnncli.engine.events import EpochDone, Event, Finished, Paused, Started
from cnncli.errors import CnnError, printable
from cnncli.reports.terminal import mute, talk, write_result
from cnncli.reports.training import TrainingReport, draw_curves

if TYPE_CHECKING:
    from cnncli.cli.training_data import Images
    from cnncli.engine.distributed import World
    from cnncli.engine.pause import Pause
    from cnncli.engine.runs import Run
    from cnncli.engine.training import Training


@dataclass(frozen=True)
class Staged:
    """A training that is ready to run, one of several of the same model or the only one. events: running it yields them."""

    training: Training
    events: Iterator[Event]
    last: bool = True


def run_training(
    run: Run, stages: Iterable[Staged], images: Images, world: World, pause: Pause, *, tensorboard: bool = False, command: str = "train"
) -> None:
    """Train to the end and write the run folder. What stops it leaves the folder with all that was reached, and says how to go on.

    stages: each is taken when the one before it has ended. command: that resumes the run. KeyboardInterrupt and Terminated after a signal,
    when the state has been saved; errors of `fit`.
    """
    from cnncli.engine.distributed import is_loss_of_others, one_voice
    from cnncli.engine.fit import NotFinite

    first = world.first
    if not first:
        mute()
    finished: Finished | None = None
    resume = f"cnn {command} --resume {run.folder}"
    with ExitStack() as stack:
        stack.enter_context(one_voice(world, pause, lambda: mute(errors=True)))
        stack.enter_context(pause.listening())
        stack.callback(run.end)
        report = stack.enter_context(TrainingReport()) if first else None
        if report is not None:  # also after Ctrl-C or a loss that is not finite: what was reached is kept and shown
            stack.callback(_draw, report, run, pause)
        show = report.show if report else (lambda _: None)
        log = _tensorboard(run, stack) if tensorboard and first else (lambda _: None)
        try:
            for stage in stages:
                finished = _consumed(run, stage, pause, (show, log), resume)
        except NotFinite as error:
            if not first:
                raise
            listed = run.list_batch(images.paths(error.indices.tolist()))
            raise CnnError(f"{error.message}; the images of that step: {listed}", error.hint) from None
        except RuntimeError as error:
            if world.alone or not is_loss_of_others(error):
                raise
            raise CnnError(
                "another process of this training has ended or does not answer", f"its own message says why; {resume} goes on"
            ) from error
    if finished is None or not first:
        return
    _tell_result(run, finished)


def _consumed(run: Run, stage: Staged, pause: Pause, readers: tuple, resume: str) -> Finished | None:  # type: ignore[type-arg]
    finished: Finished | None = None
    for event in stage.events:
        if isinstance(event, Finished):
            finished = event
            if not stage.last:
                continue  # of the whole there is more to come
        for reader in readers:
            reader(event)  # first: whatever stops the run from here on, an epoch that is saved is also in the curves
        run.record(event, stage.training)
        if isinstance(event, Started | EpochDone | Paused):
            pause.saved()
        if isinstance(event, Paused) and pause.stop is not None:
            raise _stopped(stage.training, event, pause.stop, resume)
    return finished


def _stopped(training: Training, event: Event, number: int, resume: str) -> BaseException:
    from cnncli.cli.main import Terminated

    if training.world.first and isinstance(event, Paused):
        talk(f"saved epoch {event.epoch} step {event.step}; resume with: {resume}")
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated()


def _draw(report: TrainingReport, run: Run, pause: Pause) -> None:
    from cnncli.engine.runs import CURVES

    if report.epochs and not pause.hurry:
        draw_curves(run.folder / CURVES, report.epochs, f"{run.info.name} on {run.info.data}")
        talk(f"run folder: {run.folder}")


def complete(folder: Path, described: dict[str, Any]) -> None:
    """For a run whose process was killed when all but its curves was written. described: its state's own description."""
    from cnncli.engine.runs import CURVES
    from cnncli.models.modelfile import read_info
    from cnncli.models.resolve import BEST

    atomic.remove_stale(folder)
    if not (folder / CURVES).exists():
        info = read_info(folder / BEST)
        draw_curves(folder / CURVES, [EpochDone(**row) for row in described["facts"]["history"]], f"{info.name} on {info.data}")


def _tensorboard(run: Run, stack: ExitStack):  # type: ignore[no-untyped-def] # noqa: ANN202
    from cnncli.reports.tensorboard import TensorBoardLog

    log = TensorBoardLog(run.folder / "tensorboard")
    stack.callback(log.close)
    return log.record


def _tell_result(run: Run, finished: Finished) -> None:
    from cnncli.models.resolve import BEST

    best = finished.best
    reached = (
        f"validation accuracy {best.val_accuracy:.2%}" if best.val_accuracy is not None else f"training accuracy {best.train_accuracy:.2%}"
    )
    with suppress(BrokenPipeError):  # a reader that left hours ago is no reason for a run to fail
        write_result(f"{printable(run.folder / BEST)}: {reached} at epoch {best.epoch}\n")
