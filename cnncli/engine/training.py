"""A training in progress: everything that changes while a model learns, one step of it, and its state to be saved and restored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cnncli.data.augmenting.mixing import Mixed
from cnncli.data.loader import Batch
from cnncli.engine import parallel
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.distributed import World
from cnncli.engine.ema import Average
from cnncli.engine.events import EpochDone
from cnncli.engine.loss import Loss
from cnncli.engine.optim import make_optimizer, set_rate, update
from cnncli.engine.precision import Numbers
from cnncli.engine.random_state import random_state, seed_all, set_random_state
from cnncli.engine.schedule import rate

MOST_SKIPPED = 3  # steps in a row whose gradient is not finite


@dataclass
class Position:
    """How far a training is. epoch counts from 1; step: steps done in it; steps: in all; seconds: of steps, in all and in this epoch."""

    epoch: int = 1
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0


@dataclass
class Sums:
    """What the steps of an epoch add up to, on the device, so that adding never waits for it.

    images: that were seen. counted: of those, in steps that were done; loss, correct: over these. skipped: steps that were not done;
    in_a_row: of these, the latest.
    """

    loss: Tensor
    correct: Tensor
    counted: Tensor
    skipped: Tensor
    in_a_row: Tensor
    images: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        """Before the first step."""
        loss = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        correct, counted, skipped, in_a_row = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(4))
        return cls(loss, correct, counted, skipped, in_a_row)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {name: getattr(self, name) for name in ("loss", "correct", "counted", "skipped", "in_a_row")}


@dataclass
class Plan:
    """What a training is to do, all of it chosen: no `auto` is left.

    numbers: how it is computed. loss: with the class weights in it. steps_per_epoch: of the loader. rates: shares of the peak rate with
    which weights learn, by name; 1 for all others. stage: which of several trainings of the same model, one after another, this is.
    """

    train: TrainConfig
    optim: OptimConfig
    steps_per_epoch: int
    classes: int
    numbers: Numbers = field(default_factory=Numbers)
    loss: Loss = field(default_factory=Loss)
    compiled: bool = False
    sync_bn: bool = False
    shard: bool = False
    rates: Mapping[str, float] = field(default_factory=dict)
    stage: int = 0

    @property
    def steps(self) -> int | None:
        """Steps of the whole training; None where minutes end it."""
        if self.train.steps is not None:
            return self.train.steps
        return None if self.train.passes is None else self.train.passes * self.steps_per_epoch

    @property
    def epochs(self) -> int | None:
        """Epochs that are begun; None where minutes end it."""
        return None if self.steps is None else math.ceil(self.steps / self.steps_per_epoch)


class Training:
    """A model that learns as `plan` says, in one process of `world`.

    model: its own weights, also where it is wrapped for several devices. judged: what is validated and kept: the average, where there is
    one.
    Between two steps everything is consistent and may be saved.
    """

    def __init__(self, model: nn.Module, plan: Plan, world: World | None = None) -> None:
        self.plan, self.world = plan, world or World(device=next(model.parameters()).device)
        self.device = self.world.device
        self.wrapped = parallel.wrap(plan.numbers.lay_out(model), plan, self.world)
        self.model = self.wrapped.model
        self.optimizer = make_optimizer(self.model, plan.optim, fused=not plan.shard, rates=plan.rates)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._statistics = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        self._before = [torch.empty_like(buffer) for buffer in self._statistics]
        self.average = Average(self.model, plan.optim.ema) if plan.optim.ema else None
        self.scaler = torch.amp.GradScaler(self.device.type) if plan.numbers.precision == "fp16" else None
        self.position = Position()
        self.sums = Sums.zero(self.device)
        self.history: list[EpochDone] = []
        self.earlier = 0  # epochs of stages before this one, in the history
        self.lr = 0.0
        self.accumulate = plan.train.accumulate
        seed_all(plan.train.seed, self.world.rank)  # for dropout and the like

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.average.model if self.average else self.model

    def done(self) -> float:
        """The share of the training that is behind, 0..1."""
        if self.plan.steps is not None:
            return self.position.steps / self.plan.steps
        assert self.plan.train.minutes is not None
        return min(1.0, self.position.seconds / (60 * self.plan.train.minutes))

    def step(self, batch: Batch, done: float | None = None, share: float | None = None) -> None:
        """Learn from a batch: this process's part of it. A step whose gradient is not finite changes nothing and is counted.

        done: the share of the training that all processes agree on, where time decides; otherwise the number of the step does.
        share: of the peak rate, in the place of the schedule's.
        """
        total = batch.total or len(batch.labels)
        self.lr = set_rate(self.optimizer, self._rate(done) if share is None else share)
        self.optimizer.zero_grad(set_to_none=True)
        losses, correct = torch.zeros((), device=self.device), torch.zeros((), dtype=torch.int64, device=self.device)
        parts = list(_parts(batch, self.accumulate))
        if self._statistics:
            torch._foreach_copy_(self._before, self._statistics)
        for number, part in enumerate(parts, start=1):
            with self._alone(last=number == len(parts)):
                scores = self.plan.numbers.scores(self.wrapped.runner, part.images)
                loss = self.plan.loss.sum(scores, part.labels, part.mixed)
                detached = loss.detach()
                losses += detached
                correct += (scores.detach().argmax(1) == part.labels).sum()
                # Gradients are averaged over processes, and their parts of a batch may differ by an image.
                mean = loss * (self.world.ranks / total)
                if not self.world.alone or self.scaler:  # a loss that is not finite in one process spoils the step in all
                    mean = mean * torch.where(torch.isfinite(detached), 1.0, math.nan)
                (self.scaler.scale(mean) if self.scaler else mean).backward()  # type: ignore[no-untyped-call]
        skipped = self.change(losses)
        self._undo_statistics(skipped)
        if self.average:
            self.average.update(self.model, self.position.steps + 1)
        self._count(losses, correct, len(batch.labels), skipped)
        self.position.step += 1
        self.position.steps += 1

    def _rate(self, done: float | None) -> float:
        steps = self.plan.steps
        if steps is not None:
            return rate(self.position.steps, steps, self.plan.optim, steps_per_epoch=self.plan.steps_per_epoch)
        share = self.done() if done is None else done
        # The steps that there will be, as far as can be told; at the start one epoch's, so that the warm-up begins with a small rate.
        expected = self.position.steps / share if share > 0 else self.plan.steps_per_epoch
        return rate(self.position.steps, expected, self.plan.optim, steps_per_epoch=self.plan.steps_per_epoch)

    def _alone(self, *, last: bool) -> AbstractContextManager[None]:
        """Without adding up gradients over processes, until the last part of a batch."""
        return nullcontext() if last else self.wrapped.no_sync()

    def change(self, losses: Tensor) -> Tensor:
        """Change the weights by their gradients if these and the loss are finite; gives whether they were not, on the device."""
        clip = self.plan.optim.clip_grad
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, clip or math.inf)
            self.scaler.step(self.optimizer)  # which leaves out what is not finite: with fp16 that happens now and then
            self.scaler.update()
            return ~torch.isfinite(losses)
        norm = nn.utils.clip_grad_norm_(self.parameters, clip) if clip else nn.utils.get_total_norm(_gradients(self.parameters))
        norm = parallel.whole(norm)
        skipped = ~torch.isfinite(norm + losses) if self.world.alone else ~torch.isfinite(norm)
        if self.device.type == "cuda" and self.optimizer.defaults.get("fused"):
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined] # decided on the device, which is not waited for
            update(self.optimizer)
        elif not skipped.item():
            update(self.optimizer)
        return skipped

    def _undo_statistics(self, skipped: Tensor) -> None:
        """An image that is not finite spoils the running statistics of batch norm in the forward pass already."""
        if self.device.type != "cpu":  # decided on the device
            for own, before in zip(self._statistics, self._before, strict=True):
                own.copy_(torch.where(skipped, before, own))
        elif self._statistics and skipped.item():
            torch._foreach_copy_(self._statistics, self._before)

    def _count(self, losses: Tensor, correct: Tensor, images: int, skipped: Tensor) -> None:
        sums, good = self.sums, ~skipped
        sums.loss += torch.where(good, losses, 0.0)
        sums.correct += correct * good
        sums.counted += images * good
        sums.skipped += skipped
        sums.in_a_row = (sums.in_a_row + 1) * skipped
        sums.images += images

    def follow(self, history: Sequence[EpochDone]) -> None:
        """Begin behind earlier stages, whose epochs these are."""
        self.history, self.earlier = list(history), len(history)
        self.position.epoch = self.earlier + 1

    def next_epoch(self) -> None:
        """The epoch is over: the next one begins with empty sums."""
        self.position.epoch += 1
        self.position.step, self.position.epoch_seconds = 0, 0.0
        self.sums = Sums.zero(self.device)

    def best(self) -> EpochDone | None:
        """The best epoch so far."""
        return next((done for done in reversed(self.history) if done.best), None)

    def weights(self) -> dict[str, Tensor]:
        """The weights of what is judged, whole, by name. All processes must ask at the same time."""
        return parallel.whole_state(self.judged)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Facts, as JSON carries them, and tensors, from which `restore` continues to the bit. All processes must ask at the same time."""
        tensors = {f"model.{name}": tensor for name, tensor in parallel.whole_state(self.model).items()}
        if self.average:
            tensors |= {f"average.{name}": tensor for name, tensor in parallel.whole_state(self.average.model).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in parallel.whole_optimizer_state(self.optimizer).items()}
        for name, tensor in random_state(self.device).items():
            tensors[f"random.{name}"] = self.world.gathered(tensor)
        for name, tensor in self.sums.tensors().items():
            tensors[f"sums.{name}"] = self.world.gathered(tensor.cpu())
        facts = {
            "position": asdict(self.position),
            "lr": self.lr,
            "images": [int(n) for n in self.world.gathered(torch.tensor(self.sums.images)).tolist()],
            "history": [asdict(done) for done in self.history],
            "stage": self.plan.stage,
            "earlier": self.earlier,
            "numbers": [self.plan.numbers.precision, self.plan.numbers.channels_last],
            "accumulate": self.accumulate,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "device": self.device.type,
            "ranks": self.world.ranks,
            "threads": torch.get_num_threads(),
        }
        return facts, tensors

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> list[str]:
        """Continue where `state` was taken; returns what differs from then, so that the end will not be the same to the bit."""
        parallel.load_state(self.model, _part(tensors, "model."))
        if self.average:
            parallel.load_state(self.average.model, _part(tensors, "average."))
        parallel.load_optimizer_state(self.optimizer, _part(tensors, "optimizer."))
        if self.scaler and facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])
        self.position = Position(**facts["position"])
        self.lr = facts["lr"]
        self.history = [EpochDone(**row) for row in facts["history"]]
        self.earlier = int(facts.get("earlier", 0))
        self.accumulate = int(facts["accumulate"])
        same_world = facts["ranks"] == self.world.ranks
        self._restore_sums(_part(tensors, "sums."), facts["images"], same_world=same_world)
        same_device = facts["device"] == self.device.type
        if same_world and same_device:
            set_random_state({name: states[self.world.rank] for name, states in _part(tensors, "random.").items()}, self.device)
        differs = {
            f"{facts['ranks']} processes before, {self.world.ranks} now": same_world,
            f"computed on {facts['device']} before, on {self.device.type} now": same_device,
            f"{facts['threads']} threads before, {torch.get_num_threads()} now": facts["threads"] == torch.get_num_threads(),
        }
        return [text for text, same in differs.items() if not same]

    def _restore_sums(self, stored: dict[str, Tensor], images: list[int], *, same_world: bool) -> None:
        zero = Sums.zero(self.device)
        for name, own in zero.tensors().items():
            values = stored[name]
            if same_world:
                own.copy_(values[self.world.rank])
            elif self.world.first:  # what all had seen is kept by one, so that the sum over all stays
                own.copy_(values.amax(0) if name in ("skipped", "in_a_row") else values.sum(0))
        zero.images = images[self.world.rank] if same_world else (sum(images) if self.world.first else 0)
        self.sums = zero


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in at most `count` parts of nearly equal size."""
    images = len(batch.labels)
    count = min(count, images)
    if count == 1:
        yield batch
        return
    bounds = [images * number // count for number in range(count + 1)]
    for first, last in pairwise(bounds):
        mixed = batch.mixed and Mixed(batch.mixed.labels[first:last], batch.mixed.weight[first:last])
        yield Batch(batch.images[first:last], batch.labels[first:last], batch.indices[first:last], mixed)


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
