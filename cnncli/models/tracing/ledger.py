"""The rows of a trace as they come, and which parameters they have counted."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from torch import Tensor, nn

from cnncli.arch.blocks import Merge
from cnncli.arch.layers import Layer, Shape
from cnncli.arch.net import Row
from cnncli.models.tracing.flow import Sight

SHARED = " (shared)"
UNUSED = "not used in the forward pass"


class Signal(NamedTuple):
    """What is known of a tensor that depends on the image; depth: layers with multiply-adds on the longest path to it."""

    sight: Sight
    depth: int


class Done(NamedTuple):
    """What a module or an operation did. stored: its output needs memory of its own."""

    name: str
    text: str
    part: Layer | Merge | None
    inputs: tuple[Shape, ...]
    macs: int
    stored: bool


class Ledger:
    """Rows with unique names; every parameter is counted once, at its first use."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.batch = batch
        self.rows: list[Row] = []
        self.parameters = dict(model.named_parameters())
        self._modules = {path for path, _ in model.named_modules()}
        self._taken: set[str] = set()
        self._counted: set[str] = set()

    def shape_of(self, tensor: Tensor) -> Shape:
        """Sizes without the batch, where the first one is the batch."""
        sizes = tuple(tensor.shape)
        return sizes[1:] if sizes and sizes[0] == self.batch else sizes

    def add(self, name: str, done: Done, output: Tensor, used: Iterable[str], signal: Signal) -> None:
        """A row, which counts these parameters. What a layer of ours stores is what it says: described and traced rows mean the same."""
        params, shared = self._count(used)
        stored = done.stored
        if done.part is not None:
            stored = isinstance(done.part, Merge) or not done.part.shares_memory
        memory = prod(output.shape) // self.batch if stored else 0
        facts = (params, done.macs, signal.sight.field, memory, signal.depth, done.part, done.inputs if done.part else ())
        self.rows.append(Row(self._unique(name or "model"), done.text + shared, self.shape_of(output), *facts))

    def add_parameters(self, names: Iterable[str]) -> None:
        """Rows for parameters that are no weights of a layer: class tokens, position embeddings, scales."""
        for name in names:
            if name not in self._counted:
                size = tuple(self.parameters[name].shape)
                params, _ = self._count([name])
                text = f"parameter {'x'.join(map(str, size))}" if size else "parameter"
                self.rows.append(Row(self._unique(name), text, size, params, 0, None, 0))

    def add_unused(self, model: nn.Module) -> None:
        """Rows for parameters that no operation used, so that the total is the model's; one for each module they belong to."""
        for path, module in model.named_modules():
            own = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
            unused = [name for name in own if name in self.parameters and name not in self._counted]
            together = path and path not in self._taken
            for name, group in [(path, unused)] if together and unused else [(name, [name]) for name in unused]:
                params, _ = self._count(group)
                self.rows.append(Row(self._unique(name), UNUSED, (), params, 0, None, 0))

    def _count(self, names: Iterable[str]) -> tuple[int, str]:
        """Learnable numbers among these parameters that were not counted before, and SHARED where some were."""
        names = dict.fromkeys(names)
        new = [name for name in names if name not in self._counted]
        self._counted.update(new)
        return sum(self.parameters[name].numel() for name in new), SHARED if len(new) < len(names) else ""

    def _unique(self, name: str) -> str:
        """The name, with a number behind it where it is taken: a module that runs twice has two rows."""
        number, free = 1, name
        while free in self._taken or (number > 1 and free in self._modules):
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free
