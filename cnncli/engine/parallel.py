"""One model in several processes: each with all weights (DDP), or each with its share of them (FSDP2); and their state, whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnncli.engine.distributed import World
from cnncli.errors import UsageError

if TYPE_CHECKING:
    from cnncli.engine.training import Plan


@dataclass(frozen=True)
class Wrapped:
    """model: with its own names. runner: what is called with images to train. no_sync: while within, gradients are not exchanged."""

    model: nn.Module
    runner: Callable[[Tensor], Tensor]
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext


def wrap(model: nn.Module, plan: Plan, world: World) -> Wrapped:
    """The model ready to train in `world`. UsageError for what needs several processes or GPUs and has them not."""
    if plan.sync_bn:
        if world.device.type != "cuda":
            raise UsageError("--sync-bn needs GPUs", "torch synchronises batch norm only there", path="--sync-bn")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if plan.shard:
        return _sharded(model, plan, world)
    runner: Any = model
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
    if not world.alone:
        from torch.nn.parallel import DistributedDataParallel

        devices = [world.device] if world.device.type == "cuda" else None
        runner = DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
        no_sync = runner.no_sync
    return Wrapped(model, torch.compile(runner) if plan.compiled else runner, no_sync)


def _sharded(model: nn.Module, plan: Plan, world: World) -> Wrapped:
    if world.alone:
        raise UsageError(
            "--shard shares weights among processes, and there is one", "add --gpus or --processes, or --no-shard", path="--shard"
        )
    if plan.optim.ema:
        raise UsageError("--shard and --ema do not go together", "leave out one of them", path="--ema")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.ranks,))
    for child in model.children():
        if any(True for _ in child.parameters()):
            fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)

    def no_sync() -> AbstractContextManager[None]:
        return _Unsynchronised(model)

    return Wrapped(model, torch.compile(model) if plan.compiled else model, no_sync)


class _Unsynchronised(AbstractContextManager[None]):
    """While within, FSDP2 keeps whole gradients instead of sharing them out."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.model.set_requires_gradient_sync(False)

    def __exit__(self, *_: object) -> None:
        self.model.set_requires_gradient_sync(True)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, where each process has a share of it. All processes must ask at the same time."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights and buffers by name, each whole."""
    return {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}


def load_state(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The reverse of `whole_state`: each weight takes its share."""
    with torch.no_grad():
        for name, own in model.state_dict().items():
            own.copy_(_like(tensors[name], own))


def whole_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers of each weight, as `NUMBER.NAME`, the weights numbered through its groups."""
    found = {}
    for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[f"{number}.{name}"] = whole(value)
    return found


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `whole_optimizer_state`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        # A kernel that updates all weights at once walks through memory: what belongs to a weight must lie like it.
        fits = tensor.shape == parameter.shape and tensor.ndim > 0
        state.setdefault(int(number), {})[name] = torch.empty_like(parameter).copy_(_like(tensor, parameter)) if fits else tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(tensor: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, or this process's share of it where `own` is a share."""
    if not hasattr(own, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements)  # type: ignore[attr-defined]
