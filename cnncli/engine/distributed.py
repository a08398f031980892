"""Several processes that train one model: who they are, and what they tell each other.

torchrun (or `cnn train --gpus`, which uses it) starts them and says in environment variables who is who. Without these a process is alone,
and everything here costs nothing.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from cnncli.engine.launch import LAUNCHED, RANK
from cnncli.engine.pause import Pause
from cnncli.errors import EnvironmentFault

RANKS, LOCAL_RANK = "WORLD_SIZE", "LOCAL_RANK"
TOLD = "told"  # in the store, once a process has said what ends the training
FIRST_SPEAKS = 1.0  # seconds by which the first process may be the first to say it
FIRST_LISTENS = 4.0  # seconds in which it hears that another one has said it
PARENT_LOOKED_AT = 1.0  # seconds between two looks at whether the launcher lives
GRACE = 5.0  # seconds in which a process that has lost its launcher may save and end


@dataclass(frozen=True)
class World:
    """rank: this process's number, 0 to ranks - 1. device: where it computes."""

    rank: int = 0
    ranks: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.ranks == 1

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Each number summed over all processes, in float64."""
        return list(numbers) if self.alone else self._reduced(torch.tensor(numbers, dtype=torch.float64), "SUM").tolist()

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """The largest that any process gives, number by number."""
        return list(numbers) if self.alone else self._reduced(torch.tensor(numbers, dtype=torch.float64), "MAX").tolist()

    def summed(self, tensor: Tensor) -> Tensor:
        """A tensor on the CPU, summed over all processes."""
        return tensor if self.alone else self._reduced(tensor.clone(), "SUM")

    def gathered(self, tensor: Tensor) -> Tensor:
        """Tensors of one shape, stacked: [ranks, ...], on the CPU, in every process."""
        if self.alone:
            return tensor[None]
        from torch import distributed

        parts = [torch.empty_like(tensor) for _ in range(self.ranks)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def from_first(self, value: Any) -> Any:
        """What the first process gives, as JSON carries it."""
        if self.alone:
            return value
        from torch import distributed

        data = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8) if self.first else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor([len(data)])
        distributed.broadcast(size, src=0)
        data = data if self.first else torch.empty(int(size), dtype=torch.uint8)
        distributed.broadcast(data, src=0)
        return json.loads(bytes(data.tolist()))

    @contextmanager
    def first_before_others(self, what: str) -> Iterator[None]:
        """The first process does it while the others wait for as long as it takes; then they find what it has left behind."""
        if self.alone:
            yield
            return
        from torch.distributed.distributed_c10d import _get_default_store

        store = _get_default_store()
        while not self.first and not store.check([what]):
            time.sleep(0.1)  # not the store's own waiting, in which no signal is heard
        try:
            yield
        finally:
            if self.first:
                store.set(what, "done")

    def _reduced(self, tensor: Tensor, operation: str) -> Tensor:
        from torch import distributed

        distributed.all_reduce(tensor, op=getattr(distributed.ReduceOp, operation))
        return tensor


def is_one_of_many() -> bool:
    """Whether this process was started by torchrun."""
    return RANK in os.environ and RANKS in os.environ


def restarts() -> int:
    """How often torchrun has started these processes anew after a failure."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(count) if count.isdigit() else 0


def is_loss_of_others(error: RuntimeError) -> bool:
    """Whether this is how a process notices that another one has gone, or no longer answers."""
    from torch import distributed

    text = str(error)
    backend = isinstance(error, distributed.DistBackendError | distributed.DistNetworkError | distributed.DistStoreError)
    return backend or "gloo" in text.lower() or "NCCL" in text


@contextmanager
def one_voice(world: World, pause: Pause, hush: Callable[[], None]) -> Iterator[None]:
    """Where processes fail within, one of them says why: the one that failed, not those that lose it. The others are hushed."""
    try:
        yield
    except Exception as error:  # whatever it is goes on; here is only decided who says it
        if not world.alone and not _may_tell(world, pause, error):
            hush()
        raise


def _may_tell(world: World, pause: Pause, error: Exception) -> bool:
    from torch.distributed.distributed_c10d import _get_default_store

    loss = isinstance(error.__cause__, RuntimeError) and is_loss_of_others(error.__cause__)
    if loss and not world.first:
        return False
    ends = time.monotonic() + (FIRST_LISTENS if loss else 0.0 if world.first else FIRST_SPEAKS)
    try:
        store = _get_default_store()
        while not (told := store.check([TOLD])) and time.monotonic() < ends:
            if loss and LAUNCHED in os.environ and pause.heard is not None:
                return False  # the launcher ends this one because another has died, and says so
            time.sleep(0.1)
        return not told and int(store.add(TOLD, 1)) == 1
    except RuntimeError:  # the store has gone with the process that kept it: the first one, which has said why it ended
        return world.first


@contextmanager
def _bound_to_launcher() -> Iterator[None]:
    """Within, this process ends when the one that started it is no more: it saves what it has, or is gone without that."""
    given = os.environ.get(LAUNCHED, "")
    if os.name != "posix" or not (given or "TORCHELASTIC_RUN_ID" in os.environ):
        yield  # started by hand: a shell may end before what it has started
        return
    parent, over = int(given) if given.isdigit() else os.getppid(), threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            if over.wait(PARENT_LOOKED_AT):
                return
        os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(GRACE):
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def joined(device: torch.device, patience: float) -> Iterator[World]:
    """This process among the others, until the block ends.

    patience: seconds that one may wait for another, at the start or within a step, before it gives up.
    EnvironmentFault where they do not find each other.
    """
    if not is_one_of_many():
        yield World(device=device)
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    # Numbers on the CPU go by gloo, also beside NCCL: they never make the host wait for the GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, ranks = next(rendezvous("env://", timeout=timedelta(seconds=patience)))
        # torchrun may give a restarted process the store in which the dead ones have left their addresses.
        store = distributed.PrefixStore(f"restart {restarts()}", store)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=patience))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise EnvironmentFault(
            f"the processes do not find each other at {where}: {' '.join(str(error).split())[:200]}", "check MASTER_ADDR and MASTER_PORT"
        ) from error
    try:
        with _bound_to_launcher():
            yield World(rank, ranks, device)
    finally:
        distributed.destroy_process_group()
