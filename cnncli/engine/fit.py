"""The training loop, as a generator of events. It neither prints nor writes; whoever reads the events does.

Between two events the training is consistent, so a reader may save or judge it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from math import isfinite, log

import torch

from cnncli.data.loader import Batch, Batches
from cnncli.engine.events import EpochDone, Event, Finished, Note, Paused, Progress, Started
from cnncli.engine.pause import Pause, Pressed
from cnncli.engine.training import MOST_SKIPPED, Training
from cnncli.engine.validation import Validation, validate
from cnncli.errors import CnnError, UsageError

SECONDS_BETWEEN_PROGRESS = 0.2  # reading the loss waits for the device, so it is done a few times a second, not each step
DIVERGED = 100.0  # times the loss of guessing, as the mean over an epoch so far: no training comes back from there
MOST_ACCUMULATED = 4096


class NotFinite(CnnError):
    """The loss or the gradient was not finite too often in a row, or the loss grew without end.

    indices: int64 [B], the images of the last batch.
    """

    def __init__(self, message: str, hint: str, indices: torch.Tensor) -> None:
        super().__init__(message, hint)
        self.indices = indices


def fit(training: Training, train: Batches, val: Batches | None, pause: Pause | None = None) -> Iterator[Event]:
    """Train on the batches of `train`, from where `training` stands to its end; `val` is judged after epochs.

    pause: what is asked for from outside; where a save or a stop is, `Paused` is yielded between two steps. The reader saves; to stop, it
    stops reading.
    Raises NotFinite (exit 1), naming epoch, step and rate; CnnError when memory does not suffice.
    """
    pause = pause or Pause()
    pause.alone = training.world.alone
    began = time.perf_counter()
    yield _started(training, train, val)
    reason = _ended(training)
    while reason is None:
        if training.position.step < len(train):  # else what was saved had only the validation of its epoch before it
            yield from _steps(training, train, pause)
        done = None
        while done is None:
            try:
                with pause.interruptible():
                    done = _judged(training, val)
            except Pressed:
                yield Paused(training.position.epoch, training.position.step)
        training.history.append(done)
        training.next_epoch()
        reason = _ended(training)
        yield done
    best = training.best()
    assert best is not None
    yield Finished(best, time.perf_counter() - began, reason)


def _started(training: Training, train: Batches, val: Batches | None) -> Started:
    plan, position = training.plan, training.position
    return Started(
        None if plan.epochs is None else training.earlier + plan.epochs,
        plan.steps,
        plan.train.minutes,
        len(train),
        train.count,
        0 if val is None else val.count,
        position.epoch,
        position.step,
        tuple(training.history),
        training.earlier + 1,
    )


def _steps(training: Training, train: Batches, pause: Pause) -> Iterator[Event]:
    """The rest of an epoch's steps."""
    training.model.train()
    position = training.position
    clock = _Clock(training)
    batches = train.epoch(position.epoch, start=position.step)
    while position.step < len(train) and (done := _agreed(training, pause)) < 1:
        if pause.save or pause.stop is not None:
            clock.stop()
            yield Paused(position.epoch, position.step)
            clock.go_on()
        try:
            with pause.interruptible():
                batch = next(batches, None)
        except Pressed:
            clock.stop()
            yield Paused(position.epoch, position.step)
            raise  # whoever goes on reading although a stop was asked for has nothing to read
        if batch is None:  # a stream lost whole batches; they count, so that the training ends where it should
            position.steps += len(train) - position.step
            position.step = len(train)
            break
        yield from _tried(training, batch, done)
        _check_row(training, batch)
        if clock.due() or position.step == len(train):
            clock.stop()
            yield _progress(training, batch)
            clock.told()
    clock.stop()
    position.seconds = training.world.from_first(position.seconds)  # where time ends a training, all must see the same end


def _agreed(training: Training, pause: Pause) -> float:
    """The share of the training that is done, in the first process's time; and whether any wants to pause, known to all."""
    if training.world.alone:
        pause.save = pause.pending()
        return training.done()
    heard = pause.heard
    wants = pause.pending() and (training.world.first or heard is not None or pause.asked)
    stop = -1.0 if heard is None else float(heard)
    done, stop, save = training.world.largest([training.done() if training.world.first else -1.0, stop, float(wants)])
    pause.agree(None if stop < 0 else int(stop), save=bool(save))
    return done


def _tried(training: Training, batch: Batch, done: float) -> Iterator[Event]:
    """A step; where the first one needs too much memory, its batch goes through the net in smaller parts."""
    while True:
        try:
            training.step(batch, done)
        except (RuntimeError, MemoryError) as error:
            if "deterministic" in str(error):
                raise UsageError(f"--deterministic: {str(error).split('.')[0]}", "train without it", path="--deterministic") from None
            if not _is_memory(error):
                raise
            images = len(batch.labels)
            parts = 2 * training.accumulate
            if training.position.steps > 0 or parts > min(images, MOST_ACCUMULATED) or not training.world.alone:
                raise _memory_fault(training, images) from None
        else:
            return
        training.optimizer.zero_grad(set_to_none=True)
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
        training.accumulate = parts
        yield Note(
            f"out of memory with {images // max(1, parts // 2)} images at once: batches of {images} go through the net in {parts} parts"
        )


def _is_memory(error: Exception) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "not enough memory" in str(error)
        or "can't allocate memory" in str(error)
    )


def _memory_fault(training: Training, images: int) -> CnnError:
    used = ""
    if training.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(training.device)
        used = f" ({(total - free) / 2**30:.1f} of {total / 2**30:.1f} GB)"
    size, parts = training.plan.train.batch_size, 2 * training.accumulate
    hint = f"--accumulate {parts} or --batch-size {images // 2 or 1} needs about half of it"
    return CnnError(f"out of memory{used} on {training.device} at batch {size}", hint, path="--batch-size")


def _check_row(training: Training, batch: Batch) -> None:
    """Too many steps in a row that were not finite end the training, unless it is to keep going. Looked at where that costs no waiting."""
    if training.device.type == "cpu" and not training.plan.train.keep_going and training.sums.in_a_row >= MOST_SKIPPED:
        raise _not_finite(training, batch)


def _not_finite(training: Training, batch: Batch, what: str = "loss or gradient is not finite") -> NotFinite:
    position = training.position
    where = f"epoch {position.epoch} step {position.step} (lr {training.lr:.3g})"
    return NotFinite(f"{what} at {where}", "lower --lr; the last good state is kept", batch.indices)


def _progress(training: Training, batch: Batch) -> Progress:
    position, sums = training.position, training.sums
    if not training.plan.train.keep_going and sums.in_a_row >= MOST_SKIPPED:
        raise _not_finite(training, batch)
    counted = int(sums.counted)
    loss, accuracy = (float(sums.loss) / counted, float(sums.correct) / counted) if counted else (0.0, 0.0)
    guessing = log(max(2, training.plan.classes))
    if loss > DIVERGED * guessing:
        raise _not_finite(training, batch, f"loss is {loss:.3g}, {loss / guessing:.3g} times that of guessing,")
    speed = sums.images / max(1e-9, position.epoch_seconds) * training.world.ranks
    return Progress(position.epoch, position.step, loss, accuracy, training.lr, speed, training.done(), int(sums.skipped))


class _Clock:
    """Adds the seconds of steps, and of nothing else, to the position."""

    def __init__(self, training: Training) -> None:
        self.position = training.position
        self.always = training.plan.train.minutes is not None  # time decides about the rate and the end
        self.since = self.last = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time for another `Progress`."""
        if self.always:
            self.stop()
        return time.perf_counter() - self.last >= SECONDS_BETWEEN_PROGRESS

    def stop(self) -> None:
        """What came before was steps."""
        now = time.perf_counter()
        self.position.seconds += now - self.since
        self.position.epoch_seconds += now - self.since
        self.since = now

    def go_on(self) -> None:
        """What came before was none."""
        self.since = time.perf_counter()

    def told(self) -> None:
        """A `Progress` was yielded just now."""
        self.since = self.last = time.perf_counter()


def _judged(training: Training, val: Batches | None) -> EpochDone:
    """The epoch that has just had its last step: its means over all processes, and its validation where one is due."""
    position, sums, config = training.position, training.sums, training.plan.train
    last = training.done() >= 1
    loss, correct, counted, images = training.world.sums([float(sums.loss), float(sums.correct), float(sums.counted), sums.images])
    found: Validation | None = None
    if val is not None and (last or position.epoch % config.validate_every == 0):
        found = validate(training.judged, val, numbers=training.plan.numbers, world=training.world, views=config.tta)
    _check_finite(training, found, counted=counted)
    seconds = max(1e-9, position.epoch_seconds)
    done = EpochDone(
        epoch=position.epoch,
        step=position.steps,
        train_loss=loss / max(1.0, counted),
        train_accuracy=correct / max(1.0, counted),
        val_loss=found.loss if found else None,
        val_accuracy=found.accuracy if found else None,
        val_top5=found.top5 if found else None,
        val_macro_f1=found.macro_f1 if found else None,
        val_balanced_accuracy=found.balanced_accuracy if found else None,
        lr=training.lr,
        seconds=position.epoch_seconds,
        images_per_second=images / seconds,
        best=False,
        skipped=int(sums.skipped),
    )
    return replace(done, best=_is_best(done, training, validated=val is not None))


def _check_finite(training: Training, found: Validation | None, *, counted: float) -> None:
    """After an epoch: its last step may have spoilt the weights although every gradient was finite; or it had no step that was."""
    if not counted:
        what = "loss or gradient of every step was"
    elif not all(torch.isfinite(tensor).all() for tensor in training.judged.state_dict().values()):
        what = "weights are"
    elif found is not None and not isfinite(found.loss):
        what = "validation loss is"
    else:
        return
    raise CnnError(
        f"{what} not finite after epoch {training.position.epoch} (lr {training.lr:.3g})", "lower --lr; the best model so far is kept"
    )


def _is_best(done: EpochDone, training: Training, *, validated: bool) -> bool:
    """By the monitored figure, then by the loss; where that needs a validation and there is none, the later epoch is the better one."""
    best, monitor = training.best(), training.plan.train.monitor
    if best is None or (monitor.startswith("val_") and not validated):
        return True
    rank, best_rank = _rank(done, monitor), _rank(best, monitor)
    return rank is not None and (best_rank is None or rank >= best_rank)


def _rank(done: EpochDone, monitor: str) -> tuple[float, float] | None:
    """Larger is better; None without the figure."""
    value = asdict(done)[monitor]
    if value is None:
        return None
    return (-value if monitor.endswith("loss") else value), -(done.val_loss if done.val_loss is not None else done.train_loss)


def _ended(training: Training) -> str | None:
    """Why the training is over, "" for its planned end; None while it is not."""
    own = training.history[training.earlier :]
    if own and training.position.step == 0 and training.done() >= 1:  # at another step its last epoch is still to be judged
        return ""
    patience = training.plan.train.patience
    judged = [done for done in own if asdict(done)[training.plan.train.monitor] is not None]
    if patience is not None and len(judged) > patience and not any(done.best for done in judged[-patience:]):
        return f"no better {training.plan.train.monitor} in {patience} validations"
    return None
