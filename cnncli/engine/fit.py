"""The training loop, as a generator of events. It neither prints nor writes; whoever reads the events does.

Between two events the model is consistent, so a reader may save or judge it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import isfinite

import torch
from torch import nn
from torch.nn import functional

from cnncli.data.augmenting.mixing import Mixed
from cnncli.data.loader import Batches
from cnncli.engine.config import TrainConfig
from cnncli.engine.events import EpochDone, Event, Finished, Progress, Started
from cnncli.engine.optim import learning_rate, make_optimizer
from cnncli.errors import CnnError

SECONDS_BETWEEN_PROGRESS = 0.2  # reading the loss waits for the device, so it is done a few times a second, not each step


def fit(model: nn.Module, train: Batches, val: Batches | None, config: TrainConfig) -> Iterator[Event]:
    """Train `model` in place on the batches of `train`; `val` is judged after each epoch.

    Raises CnnError (exit 1), naming epoch, step and rate, when the loss is no longer finite.
    """
    torch.manual_seed(config.seed)  # dropout
    optimizer = make_optimizer(model, config)
    steps = len(train)
    yield Started(config.epochs, steps, train.count, 0 if val is None else val.count)
    began = time.perf_counter()
    best: EpochDone | None = None
    for epoch in range(1, config.epochs + 1):
        epoch_began = time.perf_counter()
        mean = _RunningMean(next(model.parameters()).device)
        model.train()
        last_progress = epoch_began
        lr = 0.0
        for number, batch in enumerate(train.epoch(epoch), start=1):
            lr = learning_rate((epoch - 1) * steps + number - 1, config.epochs * steps, config)
            options = {"label_smoothing": config.label_smoothing, "clip_grad": config.clip_grad}
            scores, loss = train_step(model, optimizer, batch.images, batch.labels, lr, **options, mixed=batch.mixed)
            mean.add(scores, loss, batch.labels)
            now = time.perf_counter()
            if now - last_progress >= SECONDS_BETWEEN_PROGRESS:
                last_progress = now
                loss_so_far, accuracy = mean.finite(epoch, number, config.peak_lr)
                yield Progress(epoch, number, loss_so_far, accuracy, lr, mean.count / (now - epoch_began))
        train_loss, train_accuracy = mean.finite(epoch, steps, config.peak_lr)
        seconds = time.perf_counter() - epoch_began
        val_loss, val_accuracy = (None, None) if val is None else validate(model, val)
        _check_finite(model, val_loss, epoch, config)
        done = EpochDone(epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds, mean.count / seconds, best=False)
        if best is None or _rank(done) >= _rank(best):
            done = best = EpochDone(**(vars(done) | {"best": True}))
        yield done
    assert best is not None  # at least one epoch
    yield Finished(best, time.perf_counter() - began)


def _check_finite(model: nn.Module, val_loss: float | None, epoch: int, config: TrainConfig) -> None:
    """After an epoch: its last step may have spoilt the weights although every training loss was finite before it."""
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        what = "weights are"
    elif val_loss is not None and not isfinite(val_loss):
        what = "validation loss is"
    else:
        return
    raise CnnError(f"{what} not finite after epoch {epoch} (lr {config.peak_lr:.3g})", "lower --lr; the best model so far is kept")


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    lr: float,
    *,
    label_smoothing: float = 0.0,
    clip_grad: float = 0.0,
    mixed: Mixed | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step on a batch (N, C, H, W) with labels (N,): its scores (N, classes) and mean cross-entropy, both detached.

    mixed: the second label of each image, where the batch was mixed. clip_grad: the largest norm of the gradient, 0 for any: deep plain
    nets without batch norm start with gradients of norm 10 and more, which at usual rates end in a loss that is not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    scores = model(images)
    loss = mixed_cross_entropy(scores, labels, mixed, label_smoothing=label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_grad:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip_grad)
    optimizer.step()
    return scores.detach(), loss.detach()


def mixed_cross_entropy(scores: torch.Tensor, labels: torch.Tensor, mixed: Mixed | None, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy of scores (N, classes) with labels (N,), each of which may share its place with that of a partner.

    With weight w, an image's loss is w * CE(own label) + (1 - w) * CE(partner's label): cross-entropy is linear in the labels, so this is
    that of the mixed label, smoothed or not (Zhang et al. 2017, section 2).
    """
    if mixed is None:
        return functional.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    own, partner = (
        functional.cross_entropy(scores, of, reduction="none", label_smoothing=label_smoothing) for of in (labels, mixed.labels)
    )
    return (mixed.weight * own + (1 - mixed.weight) * partner).mean()


@torch.inference_mode()
def validate(model: nn.Module, loader: Batches) -> tuple[float, float]:
    """Mean cross-entropy and accuracy (0..1) over every image of `loader`, in evaluation mode."""
    model.eval()
    mean = _RunningMean(next(model.parameters()).device)
    for batch in loader.epoch(0):
        scores = model(batch.images)
        mean.add(scores, functional.cross_entropy(scores, batch.labels), batch.labels)
    return mean.values()


class _RunningMean:
    """Loss and accuracy over the images so far, kept on the device so that adding never waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.count = 0
        self.loss = torch.zeros((), device=device, dtype=torch.float32)
        self.correct = torch.zeros((), device=device, dtype=torch.int64)

    def add(self, scores: torch.Tensor, loss: torch.Tensor, labels: torch.Tensor) -> None:
        self.count += len(labels)
        self.loss += loss * len(labels)
        self.correct += (scores.argmax(1) == labels).sum()

    def values(self) -> tuple[float, float]:
        return self.loss.item() / self.count, self.correct.item() / self.count

    def finite(self, epoch: int, step: int, peak_lr: float) -> tuple[float, float]:
        loss, accuracy = self.values()
        if not isfinite(loss):
            raise CnnError(
                f"loss is not finite at epoch {epoch} step {step} (lr {peak_lr:.3g})", "lower --lr; the best model so far is kept"
            )
        return loss, accuracy


def _rank(done: EpochDone) -> tuple[float, float]:
    """Larger is better: validation accuracy, then validation loss; without validation the later epoch."""
    if done.val_accuracy is None or done.val_loss is None:
        return done.epoch, 0.0
    return done.val_accuracy, -done.val_loss
